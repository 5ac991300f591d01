#include "ipc/worker.hpp"

#include <gtest/gtest.h>

#include "ipc/counters.hpp"
#include "tests/ipc/fixture.hpp"

namespace opsplit::ipc {
namespace {

constexpr LaunchNumber client = 1, first = 2, second = 3;

struct WorkerTest : testing::Test {
  WorkerTest() {
    for (const LaunchNumber launch : {first, second}) set_mode(launch, Mode::active);
  }
  void set_mode(LaunchNumber launch, Mode mode) {
    deployment.board.participant(launch).mode = static_cast<std::uint32_t>(mode);
  }
  SlotHold submit() {
    const auto hold = deployment.handover.take_slot(client);
    EXPECT_TRUE(hold && deployment.handover.submit(*hold, client));
    return hold.value();
  }

  TestDeployment deployment{join_plan()};
  Worker a{deployment.handover, 0, first, 0, {}};
  Worker b{deployment.handover, 1, second, 0, {}};
};

TEST_F(WorkerTest, RunsARequestToItsEnd) {
  const SlotHold hold = submit();
  for (int task = 0; task < 2; ++task) {
    EXPECT_FALSE(deployment.handover.has_hints(1));
    const auto claim = a.next();
    ASSERT_TRUE(claim);
    EXPECT_TRUE(a.commit(*claim, TaskState::done, 8));
  }
  const auto join = b.next();
  ASSERT_TRUE(join);
  EXPECT_TRUE(b.commit(*join, TaskState::done, 0));
  EXPECT_TRUE(deployment.handover.finished(hold));
  EXPECT_EQ(deployment.board.participant(first).tasks_done, 2u);
  EXPECT_EQ(deployment.board.participant(first).bytes_copied, 16u);
  EXPECT_EQ(deployment.board.participant(second).tasks_done, 1u);
}

TEST_F(WorkerTest, WithoutWorkItComesBackToLookWhetherToGoOn) {
  const std::uint64_t before = deployment.futex.now;
  EXPECT_FALSE(a.next());
  EXPECT_GT(deployment.futex.waits, 0);
  EXPECT_LE(deployment.futex.now - before, 100'000'000u);
  EXPECT_EQ(deployment.board.doorbell(0).sleepers, 0u);
}

TEST_F(WorkerTest, AStandbyClaimsNothingAndTakesNoRing) {
  set_mode(first, Mode::standby);
  submit();
  EXPECT_FALSE(a.next());
  EXPECT_EQ(deployment.board.doorbell(0).sleepers, 0u);
  set_mode(first, Mode::active);
  EXPECT_TRUE(a.next());
}

TEST_F(WorkerTest, FindsWorkWhoseHintWasLost) {
  submit();
  for (auto& word : deployment.board.hints(0)) word = 0;
  std::optional<Claim> claim;
  for (int look = 0; look < 3 && !claim; ++look) claim = a.next();
  EXPECT_TRUE(claim);
}

TEST_F(WorkerTest, RingsAheadOnlyWhoCanRunAtOnce) {
  submit();
  const auto claim = a.next();
  ASSERT_TRUE(claim);
  Doorbell& consumer = deployment.board.doorbell(1);
  consumer.sleepers = 1;
  Worker awake(deployment.handover, 0, first, 0, {.spin_ns = 1000});
  awake.ring_ahead(*claim);
  EXPECT_EQ(consumer.sleepers, 1u) << "on this CPU it can't";
  consumer.beds[0].cpu = 1;
  a.ring_ahead(*claim);
  EXPECT_EQ(consumer.sleepers, 1u) << "it would sleep again at once";
  awake.ring_ahead(*claim);
  EXPECT_EQ(consumer.sleepers, 0u);
  EXPECT_EQ(consumer.seats[0], 1u);
  EXPECT_FALSE(deployment.handover.has_hints(1));
}

TEST_F(WorkerTest, RingsAheadOfLongStepsNowAndThenOnly) {
  Worker awake(deployment.handover, 0, first, 0, {.spin_ns = 1000});
  Doorbell& consumer = deployment.board.doorbell(1);
  int rung = 0;
  for (int request = 0; request < 10; ++request) {
    const SlotHold hold = submit();
    for (int task = 0; task < 2; ++task) {
      const auto claim = awake.next();
      ASSERT_TRUE(claim);
      consumer.sleepers = 1;
      consumer.beds[0].cpu = 1;
      awake.ring_ahead(*claim);
      rung += consumer.sleepers == 0 ? 1 : 0;
      deployment.futex.now += 2000;
      ASSERT_TRUE(awake.commit(*claim, TaskState::done, 0));
    }
    ASSERT_TRUE(deployment.handover.close(hold, client));
  }
  EXPECT_EQ(rung, 2 * 3) << "0, 2, 6, ... of each task";
}

TEST_F(WorkerTest, WhoeverAlwaysHasWorkMakesNoSystemCall) {
  for (int request = 0; request < 10; ++request) {
    const SlotHold hold = submit();
    for (Worker* worker : {&a, &a, &b}) {
      const auto claim = worker->next();
      ASSERT_TRUE(claim);
      worker->ring_ahead(*claim);
      ASSERT_TRUE(worker->commit(*claim, TaskState::done, 0));
    }
    ASSERT_TRUE(deployment.handover.close(hold, client));
  }
  EXPECT_EQ(deployment.futex.waits, 0);
  EXPECT_EQ(deployment.futex.wakes, 0);
}

TEST_F(WorkerTest, AfterARingWithoutWorkItStaysAwakeForAWhile) {
  class BusyFutex final : public Futex {
   public:
    std::uint64_t now_ns() override { return now += 100; }
    void wait(std::atomic<std::uint32_t>&, std::uint32_t, std::uint64_t) override { woken = now; }
    void wake(std::atomic<std::uint32_t>&, int) override {}
    int cpu() override { return 0; }
    std::uint64_t now = 0, woken = 0;
  } futex;
  Handover handover(deployment.board, deployment.plan, futex);
  Worker alone(handover, 0, first, 0, {.spin_ns = 50'000});
  EXPECT_FALSE(alone.next());
  EXPECT_NE(futex.woken, 0u);
  EXPECT_GE(futex.now, futex.woken + 50'000);
}

TEST_F(WorkerTest, CountsHowLongATaskWaitedAndRan) {
  std::uint64_t& now = deployment.futex.now;
  now = 1'000'000;
  submit();
  now += 100'000;
  for (int task = 0; task < 2; ++task) {
    const auto claim = a.next();  // the second one at the end of the first one
    now += 10'000;
    ASSERT_TRUE(a.commit(*claim, TaskState::done, 0));
  }
  now += 3'000'000;
  const auto join = b.next();
  now += 20'000;
  ASSERT_TRUE(b.commit(*join, TaskState::done, 0));

  Counters expected;
  expected.tasks_done = 2;
  expected.busy_ns = 2 * 10'000;
  expected.wait_ns = 100'000 + 110'000;  // both since the submit
  expected.run.counts[bucket_of(10'000)] = 2;
  ++expected.wait.counts[bucket_of(100'000)];
  ++expected.wait.counts[bucket_of(110'000)];
  EXPECT_EQ(Counters::copy_of(deployment.board, first), expected);
  Counters of_join;
  of_join.tasks_done = 1;
  of_join.busy_ns = 20'000;
  of_join.wait_ns = 3'000'000;  // since the later one of its producers
  of_join.run.counts[bucket_of(20'000)] = 1;
  of_join.wait.counts[bucket_of(3'000'000)] = 1;
  EXPECT_EQ(Counters::copy_of(deployment.board, second), of_join);
  EXPECT_EQ(deployment.handover.duration_ns({0, 1}), 100'000u + 20'000 + 3'000'000 + 20'000);
}

TEST_F(WorkerTest, TimesThatOthersMadeUpDoNoHarm) {
  submit();
  deployment.board.slot(0).submitted_ns = UINT64_MAX;
  const auto claim = a.next();
  ASSERT_TRUE(claim && a.commit(*claim, TaskState::done, 0));
  EXPECT_EQ(deployment.board.participant(first).wait_ns, 0u);
  for (std::uint32_t task = 0; task < 3; ++task) deployment.board.task(0, task).finished_ns = 0;
  EXPECT_EQ(deployment.handover.duration_ns({0, 1}), 0u);
}

TEST_F(WorkerTest, ThatDoesNotMeasureRecordsNoTimes) {
  submit();
  Worker quiet(deployment.handover, 0, first, 0, {.measure = false});
  const auto claim = quiet.next();
  ASSERT_TRUE(claim && quiet.commit(*claim, TaskState::done, 0));
  Counters expected;
  expected.tasks_done = 1;
  EXPECT_EQ(Counters::copy_of(deployment.board, first), expected);
}

TEST_F(WorkerTest, AFailedInputIsNotRunButFailsInTurn) {
  const SlotHold hold = submit();
  const auto one = a.next();
  ASSERT_TRUE(one);
  deployment.handover.write_failure(*one, "no more");
  EXPECT_TRUE(a.commit(*one, TaskState::failed, 0));
  const auto two = a.next();
  ASSERT_TRUE(two);
  EXPECT_TRUE(a.commit(*two, TaskState::done, 0));
  const auto join = b.next();
  ASSERT_TRUE(join);
  EXPECT_TRUE(join->input_failed);
  EXPECT_TRUE(b.commit(*join, TaskState::failed, 0));
  EXPECT_TRUE(deployment.handover.finished(hold));
  EXPECT_EQ(deployment.handover.failed_task(hold), one->task);
  EXPECT_EQ(deployment.handover.failure(hold.slot, one->task), "no more");
  const Counters counters = Counters::copy_of(deployment.board, second);
  EXPECT_EQ(counters.tasks_done, 1u);
  EXPECT_EQ(counters.run.count(), 0u);
}

}  // namespace
}  // namespace opsplit::ipc
