#include "ipc/handover.hpp"

#include "tests/ipc/fixture.hpp"

namespace opsplit::ipc {
namespace {

constexpr LaunchNumber client = 3, first = 5, second = 6;

struct HandoverTest : testing::Test {
  SlotHold submitted() {
    const auto hold = d.handover.take_slot(client);
    EXPECT_TRUE(hold);
    EXPECT_TRUE(d.handover.submit(*hold, client));
    return *hold;
  }
  // Runs everything that can be claimed, as one instance for both operators.
  int run_all(LaunchNumber launch) {
    int tasks = 0;
    for (bool found = true; found;) {
      found = false;
      for (const std::uint32_t op : {0u, 1u})
        while (const auto claim = d.handover.find_work(op, launch)) {
          EXPECT_TRUE(d.handover.commit(*claim, launch,
                                        claim->input_failed ? TaskState::failed : TaskState::done));
          ++tasks;
          found = true;
        }
    }
    return tasks;
  }

  TestDeployment d{join_plan()};
};

TEST_F(HandoverTest, WordsSurvivePacking) {
  const TaskWord task{0xfffffffe, TaskState::failed, 15, max_launch_number};
  EXPECT_EQ(TaskWord::unpack(task.pack()).pack(), task.pack());
  EXPECT_EQ(TaskWord::unpack(task.pack()).generation, 0xfffffffe);
  EXPECT_EQ(TaskWord::unpack(task.pack()).holder, max_launch_number);
  const SlotWord slot{7, SlotState::closing, 9};
  EXPECT_EQ(SlotWord::unpack(slot.pack()).pack(), slot.pack());
}

TEST_F(HandoverTest, NothingIsClaimableBeforeTheClientSubmits) {
  ASSERT_TRUE(d.handover.take_slot(client));
  EXPECT_FALSE(d.handover.sweep(0, first));
  EXPECT_FALSE(d.handover.sweep(1, first));
}

TEST_F(HandoverTest, ARequestRunsEveryTaskOnceAndFreesItsSlot) {
  const SlotHold hold = submitted();
  EXPECT_FALSE(d.handover.finished(hold));
  EXPECT_EQ(run_all(first), 3);
  EXPECT_TRUE(d.handover.finished(hold));
  EXPECT_FALSE(d.handover.failed_task(hold));
  EXPECT_TRUE(d.handover.close(hold, client));
  EXPECT_EQ(d.slot(hold.slot).state, SlotState::free);
  EXPECT_EQ(d.slot(hold.slot).generation, hold.generation + 1);
  EXPECT_EQ(d.task(hold.slot, 2).pack(),
            (TaskWord{hold.generation + 1, TaskState::waiting, 0, 0}).pack());
}

TEST_F(HandoverTest, AJoinWaitsForBothItsInputs) {
  submitted();
  const auto a = d.handover.find_work(0, first);
  const auto b = d.handover.find_work(0, second);
  ASSERT_TRUE(a && b);
  EXPECT_NE(a->task, b->task);
  EXPECT_TRUE(d.handover.commit(*a, first, TaskState::done));
  EXPECT_FALSE(d.handover.sweep(1, first));
  EXPECT_FALSE(d.handover.has_hints(1)) << "one input is missing: nobody needs to wake up";
  EXPECT_TRUE(d.handover.commit(*b, second, TaskState::done));
  EXPECT_TRUE(d.handover.find_work(1, first));
}

TEST_F(HandoverTest, ATaskIsClaimedOnce) {
  submitted();
  ASSERT_TRUE(d.handover.sweep(0, first));
  ASSERT_TRUE(d.handover.sweep(0, second));
  EXPECT_FALSE(d.handover.sweep(0, second));
}

TEST_F(HandoverTest, TheOldestRequestComesFirst) {
  const auto low = d.handover.take_slot(client);
  const auto high = d.handover.take_slot(client);
  ASSERT_TRUE(low && high);
  d.handover.submit(*high, client);
  d.handover.submit(*low, client);
  EXPECT_EQ(d.handover.find_work(0, first)->slot, high->slot);
}

TEST_F(HandoverTest, TheLowestFreeSlotIsTakenFirstAndNoneIsRefused) {
  EXPECT_EQ(d.handover.take_slot(client)->slot, 0u);
  EXPECT_EQ(d.handover.take_slot(client)->slot, 1u);
  EXPECT_FALSE(d.handover.take_slot(client));
}

TEST_F(HandoverTest, AFailureReachesTheClientWithItsText) {
  const SlotHold hold = submitted();
  const auto claim = d.handover.find_work(0, first);
  d.handover.write_failure(*claim, "no such class\n");
  d.handover.commit(*claim, first, TaskState::failed);
  EXPECT_EQ(run_all(first), 2);
  EXPECT_TRUE(d.handover.finished(hold));
  ASSERT_EQ(d.handover.failed_task(hold), claim->task);
  EXPECT_EQ(d.handover.failure(hold.slot, claim->task), "no such class ");
  EXPECT_EQ(d.task(hold.slot, 2).state, TaskState::failed);
}

TEST_F(HandoverTest, AClaimOfADeadInstanceCanBeRunByAnother) {
  const SlotHold hold = submitted();
  const auto claim = d.handover.find_work(0, first);
  ASSERT_TRUE(claim);
  EXPECT_EQ(d.handover.give_back(first, "").tasks, 1u);
  EXPECT_EQ(d.handover.give_back(first, "").tasks, 0u) << "may be repeated";
  EXPECT_EQ(run_all(second), 3);
  EXPECT_TRUE(d.handover.finished(hold));
  EXPECT_FALSE(d.handover.failed_task(hold));
  EXPECT_FALSE(d.handover.commit(*claim, first, TaskState::done)) << "it comes too late";
}

TEST_F(HandoverTest, ATaskThatKilledTwoInstancesFails) {
  const SlotHold hold = submitted();
  const auto claim = d.handover.find_work(0, first);
  d.handover.give_back(first, "signal 11");
  const auto again = d.handover.sweep(0, second);
  ASSERT_EQ(again->task, claim->task);
  EXPECT_EQ(again->attempts, 1);
  EXPECT_EQ(d.handover.give_back(second, "signal 11").poisoned, 1u);
  EXPECT_EQ(run_all(first), 2);
  ASSERT_EQ(d.handover.failed_task(hold), claim->task);
  EXPECT_EQ(d.handover.failure(hold.slot, claim->task), "signal 11");
}

TEST_F(HandoverTest, ADeathBetweenCommitAndHintLosesNothing) {
  submitted();
  for (int i = 0; i < 2; ++i) {
    const auto claim = d.handover.find_work(0, first);
    // What commit() does first, and then the process is gone.
    d.board.task(claim->slot, claim->task)
        .word.store(TaskWord{claim->generation, TaskState::done, 0, first}.pack());
  }
  EXPECT_FALSE(d.handover.has_hints(1));
  d.handover.give_back(first, "");
  EXPECT_TRUE(d.handover.find_work(1, second));
}

TEST_F(HandoverTest, ADeadClientsSlotComesBackAfterItsClaimsAreDone) {
  const SlotHold hold = submitted();
  const auto claim = d.handover.find_work(0, first);
  EXPECT_EQ(d.handover.give_back(client, "").slots, 1u);
  EXPECT_EQ(d.slot(hold.slot).state, SlotState::closing);
  EXPECT_FALSE(d.handover.find_work(0, second)) << "what was not claimed is swept";
  EXPECT_TRUE(d.handover.commit(*claim, first, TaskState::done)) << "finishes the close, too";
  EXPECT_EQ(d.slot(hold.slot).state, SlotState::free);
}

TEST_F(HandoverTest, ACancelledSlotIsNotTakenWhileATaskWritesIntoIt) {
  const SlotHold hold = submitted();
  const auto claim = d.handover.find_work(0, first);
  EXPECT_FALSE(d.handover.close(hold, client));
  EXPECT_EQ(d.handover.take_slot(client)->slot, 1u);
  EXPECT_FALSE(d.handover.take_slot(client));
  d.handover.commit(*claim, first, TaskState::done);
  EXPECT_EQ(d.handover.take_slot(client)->slot, hold.slot) << "whoever finds it closing helps";
}

TEST_F(HandoverTest, ACloseThatComesTooLateChangesNothing) {
  const SlotHold hold = submitted();
  run_all(first);
  d.handover.close(hold, client);
  const auto next = d.handover.take_slot(client);
  ASSERT_EQ(next->slot, hold.slot);
  EXPECT_TRUE(d.handover.close(hold, client));
  EXPECT_EQ(d.slot(hold.slot).state, SlotState::filling);
}

TEST_F(HandoverTest, HintsThatNobodyShouldHaveSetDoNoHarm) {
  for (auto& word : d.board.hints(0)) word.store(~std::uint64_t{0});
  EXPECT_FALSE(d.handover.find_work(0, first));
  EXPECT_FALSE(d.handover.has_hints(0));
}

TEST_F(HandoverTest, AnEpochThatIsFollowedGoesOn) {
  d.handover.enter(EpochState::followed);
  const SlotHold hold = submitted();
  EXPECT_EQ(run_all(first), 3);
  EXPECT_TRUE(d.handover.close(hold, client));
  EXPECT_EQ(d.slot(hold.slot).state, SlotState::free);
}

TEST_F(HandoverTest, AnEpochThatRetiresTakesNoNewRequestsAndAnswersThoseUnderWay) {
  const SlotHold hold = submitted();
  const auto filling = d.handover.take_slot(client);
  ASSERT_TRUE(filling);
  d.handover.enter(EpochState::retiring);
  EXPECT_TRUE(d.handover.submit(*filling, client)) << "it holds its slot";
  d.handover.close(*filling, client);
  EXPECT_FALSE(d.handover.take_slot(client));
  EXPECT_EQ(run_all(first), 3) << "what runs finishes where it is";
  EXPECT_TRUE(d.handover.close(hold, client));
  EXPECT_EQ(d.slot(hold.slot).state, SlotState::retired);
  EXPECT_EQ(d.handover.slots_in_use(), 0u);
}

TEST_F(HandoverTest, ARequestIsUnderWayFromItsSubmissionToItsAnswer) {
  const auto hold = d.handover.take_slot(client);
  ASSERT_TRUE(hold);
  EXPECT_EQ(d.handover.requests_under_way(), 0u);
  ASSERT_TRUE(d.handover.submit(*hold, client));
  EXPECT_EQ(d.handover.requests_under_way(), 1u);
  run_all(first);
  EXPECT_EQ(d.handover.requests_under_way(), 0u) << "it is answered, though not closed";
  const SlotHold cancelled = submitted();
  const auto claim = d.handover.sweep(0, first);
  ASSERT_TRUE(claim);
  EXPECT_FALSE(d.handover.close(cancelled, client));
  EXPECT_EQ(d.handover.requests_under_way(), 1u) << "somebody works on it";
}

TEST_F(HandoverTest, AnEpochNeverGoesBack) {
  EXPECT_EQ(d.handover.epoch_state(), EpochState::running);
  d.handover.enter(EpochState::drained);
  d.handover.enter(EpochState::over);
  EXPECT_EQ(d.handover.epoch_state(), EpochState::drained);
  d.board.header().epoch_state.store(77);
  EXPECT_EQ(d.handover.epoch_state(), EpochState::drained) << "whatever stands there";
}

}  // namespace
}  // namespace opsplit::ipc
