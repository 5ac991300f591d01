#include "daemon/progress.hpp"

#include <gmock/gmock.h>

#include "tests/ipc/fixture.hpp"
#include "tests/private_namespace.hpp"

namespace opsplit::daemon {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

constexpr ipc::LaunchNumber client = 1, op = 2, idle = 3;

class ProgressTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { test::enter_private_namespace(); }
  // Two tasks of operator 0 that the client feeds, and one of operator 1 that joins them.
  ProgressTest() : deployment(ipc::join_plan()) {}
  void submit() {
    const auto hold = deployment.handover.take_slot(client);
    ASSERT_TRUE(hold && deployment.handover.submit(*hold, client));
  }
  auto look(std::uint64_t now_ns) {
    const std::array workers{Progress::Worker{op, 0}, Progress::Worker{idle, 1}};
    return progress.look(deployment.handover, workers, now_ns, [this](ipc::LaunchNumber launch) {
      EXPECT_EQ(launch, op) << "nobody waits for the other";
      return time;
    });
  }

  ipc::TestDeployment deployment;
  Progress progress;
  CpuTime time;
};

TEST_F(ProgressTest, AClaimThatStaysIsCountedFromTheFirstLook) {
  EXPECT_THAT(look(0), IsEmpty());
  submit();
  ASSERT_TRUE(deployment.handover.sweep(0, op));
  EXPECT_THAT(look(1'000), IsEmpty());
  EXPECT_THAT(look(1'500), ElementsAre(Pair(op, 500)));
  EXPECT_THAT(look(3'000), ElementsAre(Pair(op, 2'000)));
}

TEST_F(ProgressTest, SoIsWorkThatItLeavesAlone) {
  EXPECT_THAT(look(0), IsEmpty());
  EXPECT_THAT(look(500), IsEmpty()) << "there is none";
  submit();
  EXPECT_THAT(look(1'000), IsEmpty());
  EXPECT_THAT(look(3'000), ElementsAre(Pair(op, 2'000)));
  ASSERT_TRUE(deployment.handover.sweep(0, op));
  EXPECT_THAT(look(3'100), IsEmpty());
}

TEST_F(ProgressTest, AnotherTaskIsProgress) {
  submit();
  const auto first = deployment.handover.sweep(0, op);
  ASSERT_TRUE(first);
  EXPECT_THAT(look(1'000), IsEmpty());
  EXPECT_TRUE(deployment.handover.commit(*first, op, ipc::TaskState::done));
  ASSERT_TRUE(deployment.handover.sweep(0, op));
  EXPECT_THAT(look(2'000), IsEmpty());
  EXPECT_THAT(look(2'100), ElementsAre(Pair(op, 100)));
}

// A machine that is busy with others lets nobody hang.
TEST_F(ProgressTest, TimeInWhichItWasReadyToRunDoesNotCount) {
  submit();
  ASSERT_TRUE(deployment.handover.sweep(0, op));
  time.waited_ns = 70;
  EXPECT_THAT(look(1'000), IsEmpty());
  EXPECT_THAT(look(1'500), ElementsAre(Pair(op, 500)));
  time.waited_ns += 900;
  EXPECT_THAT(look(2'500), ElementsAre(Pair(op, 600)));
  time = {};  // its counters cannot be read any more
  EXPECT_THAT(look(2'600), ElementsAre(Pair(op, 700)));
}

TEST_F(ProgressTest, OfOneThatIsReadyToRunOnlyWhatItRanCounts) {
  submit();
  ASSERT_TRUE(deployment.handover.sweep(0, op));
  time = {.ran_ns = 50, .waited_ns = 0, .ready = true};
  EXPECT_THAT(look(1'000), IsEmpty());
  EXPECT_THAT(look(1'500), ElementsAre(Pair(op, 0)));
  EXPECT_THAT(look(9'000), ElementsAre(Pair(op, 0))) << "it waits for a CPU";
  time.ran_ns += 300;
  EXPECT_THAT(look(9'500), ElementsAre(Pair(op, 300)));
  time.ran_ns += 5'000;  // of several threads
  EXPECT_THAT(look(9'600), ElementsAre(Pair(op, 400)));
}

TEST_F(ProgressTest, WhoeverLeavesWorkAloneNowAndThenButDoesSomeMovesOn) {
  submit();
  submit();
  EXPECT_THAT(look(1'000), IsEmpty());
  const auto task = deployment.handover.sweep(0, op);
  ASSERT_TRUE(task && deployment.handover.commit(*task, op, ipc::TaskState::done));
  ++deployment.board.participant(op).tasks_done;
  EXPECT_THAT(look(2'000), IsEmpty()) << "not since the first look";
  EXPECT_THAT(look(2'100), ElementsAre(Pair(op, 100)));
}

TEST_F(ProgressTest, NeitherDoesALongTimeWithoutALook) {
  submit();
  ASSERT_TRUE(deployment.handover.sweep(0, op));
  EXPECT_THAT(look(1'000), IsEmpty());
  EXPECT_THAT(look(60'000'001'000), ElementsAre(Pair(op, 200'000'000)));
}

TEST(Patience, IsTwentyTimesTheNinetyNinthPercentileButASecondAtLeast) {
  ipc::Histogram tasks;
  const OperatorSettings settings;
  EXPECT_EQ(patience_ns(settings, tasks), 30'000'000'000u) << "nothing is known yet";
  tasks.counts[ipc::bucket_of(1'000'000)] = 100;
  EXPECT_EQ(patience_ns(settings, tasks), 1'000'000'000u);
  tasks.counts[ipc::bucket_of(1'000'000'000)] = 1'000'000;
  EXPECT_NEAR(static_cast<double>(patience_ns(settings, tasks)), 20e9, 6e9);
}

TEST(Patience, IsWhatTheDeploymentFileSays) {
  OperatorSettings settings;
  settings.hung_after = std::chrono::seconds(3);
  ipc::Histogram tasks;
  EXPECT_EQ(patience_ns(settings, tasks), 3'000'000'000u);
  tasks.counts[ipc::bucket_of(1'000'000'000)] = 1000;
  EXPECT_EQ(patience_ns(settings, tasks), 3'000'000'000u);
}

TEST(Patience, IsFiniteWhateverTheBoardSays) {
  ipc::Histogram tasks;
  tasks.counts.back() = UINT64_MAX;
  EXPECT_LT(patience_ns({}, tasks), std::uint64_t{100} * 86'400 * 1'000'000'000);
}

}  // namespace
}  // namespace opsplit::daemon
