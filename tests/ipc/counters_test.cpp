#include "ipc/counters.hpp"

#include <gtest/gtest.h>

#include "tests/ipc/fixture.hpp"

namespace opsplit::ipc {
namespace {

constexpr LaunchNumber launch = 3;

TEST(CountersTest, AreThoseOfTheParticipantAlone) {
  TestDeployment deployment{join_plan()};
  Participant& participant = deployment.board.participant(launch);
  participant.tasks_done = 1;
  participant.busy_ns = 2;
  participant.wait_ns = 3;
  participant.bytes_copied = 4;
  deployment.board.durations(launch).run.record(100);
  deployment.board.durations(launch).wait.record(200);
  const Counters counters = Counters::copy_of(deployment.board, launch);
  EXPECT_EQ(counters.tasks_done, 1u);
  EXPECT_EQ(counters.busy_ns, 2u);
  EXPECT_EQ(counters.wait_ns, 3u);
  EXPECT_EQ(counters.bytes_copied, 4u);
  EXPECT_EQ(counters.run.counts[bucket_of(100)], 1u);
  EXPECT_EQ(counters.wait.counts[bucket_of(200)], 1u);
  for (const LaunchNumber other : {launch - 1, launch + 1})
    EXPECT_EQ(Counters::copy_of(deployment.board, other), Counters{});
}

TEST(CountersTest, AddUpAndStopAtTheLargestNumber) {
  Counters sum;
  sum.tasks_done = 1;
  sum.wait_ns = UINT64_MAX - 1;
  Counters other = sum;
  other.run.counts[9] = 5;
  sum.add(other);
  EXPECT_EQ(sum.tasks_done, 2u);
  EXPECT_EQ(sum.wait_ns, UINT64_MAX);
  EXPECT_EQ(sum.run.counts[9], 5u);
}

}  // namespace
}  // namespace opsplit::ipc
