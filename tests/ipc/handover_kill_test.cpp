// Kills a process after each single instruction of the hand-over, by ptrace: the first time before
// the path's first instruction, the next time after one, and so on until it gets through. Each time
// the supervisor does its work, somebody else goes on, and nothing may be lost or done twice.
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include <functional>
#include <set>

#include "tests/ipc/fixture.hpp"

namespace opsplit::ipc {
namespace {

constexpr LaunchNumber client = 3, victim = 5, other = 6;

// The supervisor's path is long, since it rings at every seat: a kill after each 17th instruction.
constexpr int supervisor_stride = 17;

// What the victim is: it opens the board by its name (a fork does not inherit the mapping), stops,
// and then walks the path.
[[noreturn]] void be_victim(const TestDeployment& d, const std::function<void(Handover&)>& path) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const auto board = Board::open(d.name, d.layout, 1);
  SystemFutex futex;
  if (!board) _exit(2);
  Handover handover(*board, d.plan, futex);
  ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
  raise(SIGSTOP);
  path(handover);
  _exit(0);
}

// Lets the victim walk `steps` instructions of the path and kills it. False: it got to the end.
bool kill_after(const TestDeployment& d, int steps, const std::function<void(Handover&)>& path) {
  const pid_t child = fork();
  if (child == 0) be_victim(d, path);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSTOPPED(status));
  for (int i = 0; i < steps; ++i) {
    ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr);
    waitpid(child, &status, 0);
    if (WIFEXITED(status)) {
      EXPECT_EQ(WEXITSTATUS(status), 0);
      return false;
    }
  }
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status));
  return true;
}

struct KillTest : testing::Test {
  void SetUp() override {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "a sanitizer's own instructions are too many to kill after each";
#endif
    const pid_t child = fork();
    if (child == 0) {
      const bool allowed = ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0;
      _exit(allowed ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (WEXITSTATUS(status) != 0) GTEST_SKIP() << "ptrace is not allowed here";
  }

  SlotHold submitted() {
    const auto hold = d.handover.take_slot(client);
    EXPECT_TRUE(hold);
    EXPECT_TRUE(d.handover.submit(*hold, client));
    return *hold;
  }

  // As an instance of both operators. Counts the commits of each task.
  void run_all(LaunchNumber launch, std::multiset<std::uint32_t>& commits) {
    for (bool found = true; found;) {
      found = false;
      for (const std::uint32_t op : {0u, 1u})
        while (const auto claim = d.handover.find_work(op, launch)) {
          EXPECT_FALSE(claim->input_failed);
          EXPECT_TRUE(d.handover.commit(*claim, launch, TaskState::done));
          commits.insert(claim->task);
          found = true;
        }
    }
  }

  // Every task of the request is done exactly once, and its slot can be used again.
  void expect_whole(SlotHold hold, const std::multiset<std::uint32_t>& commits,
                    const std::set<std::uint32_t>& done_by_victim) {
    EXPECT_TRUE(d.handover.finished(hold));
    EXPECT_FALSE(d.handover.failed_task(hold));
    for (std::uint32_t task = 0; task < d.plan.tasks.size(); ++task)
      EXPECT_EQ(commits.count(task) + done_by_victim.count(task), 1u) << "task " << task;
    EXPECT_TRUE(d.handover.close(hold, client));
    EXPECT_EQ(d.slot(hold.slot).pack(), (SlotWord{hold.generation + 1, SlotState::free, 0}.pack()));
    for (std::uint32_t task = 0; task < d.plan.tasks.size(); ++task)
      EXPECT_EQ(d.task(hold.slot, task).pack(),
                (TaskWord{hold.generation + 1, TaskState::waiting, 0, 0}.pack()));
  }

  TestDeployment d{join_plan()};
};

TEST_F(KillTest, AnInstanceBetweenClaimAndRing) {
  int while_claimed = 0, after_commit = 0, steps = 0;
  for (bool killed = true; killed && !HasFailure(); ++steps) {
    const SlotHold hold = submitted();
    killed = kill_after(d, steps, [](Handover& handover) {
      if (const auto claim = handover.find_work(0, victim))
        handover.commit(*claim, victim, TaskState::done);
    });
    std::set<std::uint32_t> done;
    for (std::uint32_t task = 0; task < d.plan.tasks.size(); ++task) {
      const TaskWord word = d.task(hold.slot, task);
      if (word.holder != victim) continue;
      if (word.state == TaskState::done) done.insert(task);
      while_claimed += word.state == TaskState::claimed ? 1 : 0;
    }
    after_commit += done.empty() ? 0 : 1;
    d.handover.give_back(victim, "killed");
    std::multiset<std::uint32_t> commits;
    run_all(other, commits);
    expect_whole(hold, commits, done);
  }
  // The kills struck what they were meant to strike.
  EXPECT_GT(while_claimed, 20);
  EXPECT_GT(after_commit, 20);
  RecordProperty("kills", steps);
  RecordProperty("while_claimed", while_claimed);
  RecordProperty("after_commit", after_commit);
}

TEST_F(KillTest, AClientBetweenTakingAndClosingASlot) {
  int in_flight = 0, closing = 0, steps = 0;
  for (bool killed = true; killed && !HasFailure(); ++steps) {
    killed = kill_after(d, steps, [](Handover& handover) {
      const auto hold = handover.take_slot(victim);
      if (!hold) _exit(3);
      handover.submit(*hold, victim);
      handover.close(*hold, victim);
    });
    for (std::uint32_t slot = 0; slot < 2; ++slot) {
      in_flight += d.slot(slot).state == SlotState::running ? 1 : 0;
      closing += d.slot(slot).state == SlotState::closing ? 1 : 0;
    }
    d.handover.give_back(victim, "");
    for (std::uint32_t slot = 0; slot < 2; ++slot)
      EXPECT_EQ(d.slot(slot).state, SlotState::free) << "slot " << slot;
    // What it left is no obstacle to the next request.
    const SlotHold hold = submitted();
    std::multiset<std::uint32_t> commits;
    run_all(other, commits);
    expect_whole(hold, commits, {});
  }
  EXPECT_GT(in_flight, 20);
  EXPECT_GT(closing, 20);
}

TEST_F(KillTest, ASupervisorWhileItGivesBack) {
  int steps = 0;
  for (bool killed = true; killed && !HasFailure(); steps += supervisor_stride) {
    const SlotHold hold = submitted();
    const auto claim = d.handover.find_work(0, victim);  // a dead instance's
    ASSERT_TRUE(claim);
    killed = kill_after(d, steps, [](Handover& handover) { handover.give_back(victim, "killed"); });
    d.handover.give_back(victim, "killed");  // its successor
    std::multiset<std::uint32_t> commits;
    run_all(other, commits);
    expect_whole(hold, commits, {});
  }
}

}  // namespace
}  // namespace opsplit::ipc
