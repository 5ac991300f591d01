// Kills a process after each single instruction of the hand-over, by ptrace. Each time the supervisor
// does its work, somebody else goes on, and nothing may be lost, done twice or wrong.
//
// What a killed process leaves is what it has written to shared memory (it holds no lock, and nobody
// sleeps who waits for it alone). So a kill after every instruction that has changed a byte there is a
// kill after every instruction: those in between leave the same bytes. EveryChange steps through all
// instructions, compares all shared bytes after each, and kills at each change. EveryInstruction, one
// of the long tests, kills after every one without that thought.
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include <functional>
#include <map>
#include <numeric>
#include <set>

#include "ipc/places.hpp"
#include "ipc/worker.hpp"
#include "tests/ipc/fixture.hpp"

namespace opsplit::ipc {
namespace {

constexpr LaunchNumber client = 3, victim = 5, other = 6;

// Shared with children that fork() makes, as the board is.
class SharedArena {
 public:
  explicit SharedArena(std::size_t bytes)
      : bytes_(static_cast<std::byte*>(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                                              MAP_SHARED | MAP_ANONYMOUS, -1, 0)),
               bytes) {}
  ~SharedArena() { ::munmap(bytes_.data(), bytes_.size()); }
  SharedArena(const SharedArena&) = delete;
  SharedArena& operator=(const SharedArena&) = delete;
  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }

 private:
  std::span<std::byte> bytes_;
};

// What a process of the deployment works with.
struct Party {
  Handover& handover;
  const Places& places;
};
using Path = std::function<void(const Party&)>;

enum class Kills { every_change, every_instruction };

class KillTest : public testing::TestWithParam<Kills> {
 protected:
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

  // It opens the board by its name (a fork does not inherit the mapping), stops, and then walks.
  [[noreturn]] void be_victim(const Path& path) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const auto board = Board::open(d.name, d.layout, 1);
    SystemFutex futex;
    if (!board) _exit(2);
    Handover handover(*board, d.plan, futex);
    const Places own_places(*board, d.plan, arena.bytes());
    ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    raise(SIGSTOP);
    path({handover, own_places});
    _exit(0);
  }

  // Everything that a process can leave.
  [[nodiscard]] std::vector<std::byte> shared() const {
    std::vector<std::byte> bytes(arena.bytes().begin(), arena.bytes().end());
    const auto* board = reinterpret_cast<const std::byte*>(&d.board.header());
    bytes.insert(bytes.end(), board, board + d.layout.total_bytes);
    return bytes;
  }
  [[nodiscard]] bool has_changed(std::vector<std::byte>& before) const {
    const std::size_t own = arena.bytes().size();
    if (std::memcmp(before.data(), arena.bytes().data(), own) == 0 &&
        std::memcmp(before.data() + own, &d.board.header(), d.layout.total_bytes) == 0)
      return false;
    before = shared();
    return true;
  }

  // Lets a victim walk until the kill that is the `count`th, from 0. False: it got to the end.
  bool kill_at(int count, const Path& path) {
    const pid_t child = fork();
    if (child == 0) be_victim(path);
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_TRUE(WIFSTOPPED(status));
    std::vector<std::byte> bytes = shared();
    while (count > 0) {
      ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr);
      waitpid(child, &status, 0);
      ++steps;
      if (WIFEXITED(status)) {
        EXPECT_EQ(WEXITSTATUS(status), 0);
        return false;
      }
      if (GetParam() == Kills::every_instruction || has_changed(bytes)) --count;
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status));
    return true;
  }

  // One world after another: `prepare`, a kill, `check`; until the path is through.
  void kill_everywhere(const Path& path, const std::function<void()>& prepare,
                       const std::function<void()>& check) {
    int kills = 0;
    for (bool killed = true; killed && !HasFailure(); ++kills) {
      prepare();
      killed = kill_at(kills, path);
      check();
    }
    struck["kills"] = kills - 1;
    std::string text;
    for (const auto& [place, count] : struck) {
      EXPECT_GT(count, 0) << place;
      RecordProperty(place, count);
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", place, count);
    }
    fmt::print("{}; {} instructions\n", text, steps);
  }

  SlotHold submitted() {
    const auto hold = d.handover.take_slot(client);
    EXPECT_TRUE(hold);
    write_input(places, *hold);
    EXPECT_TRUE(d.handover.submit(*hold, client));
    return *hold;
  }

  static std::span<float> floats(const PlacedTensor& place) {
    return {reinterpret_cast<float*>(place.data), place.bytes / sizeof(float)};
  }
  void write_input(const Places& to, SlotHold hold) const {
    auto input = floats(to.write(hold.slot, d.plan.inputs[0]));
    std::iota(input.begin(), input.end(), static_cast<float>(hold.generation));
    to.write_header(hold.slot, hold.generation, d.plan.inputs[0]);
  }
  // A task's kernel: what it reads, added up, and its own number.
  static bool compute(const Plan& plan, const Places& at, const Claim& claim) {
    const PlannedTask& task = plan.tasks[claim.task];
    auto output = floats(at.write(claim.slot, task.outputs[0]));
    for (std::size_t i = 0; i < output.size(); ++i) {
      float sum = static_cast<float>(claim.task + 1);
      for (const std::int32_t input : task.inputs) {
        const auto read = at.read(claim.slot, claim.generation, input);
        if (!read) return false;
        sum += floats(*read)[i];
      }
      output[i] = sum;
    }
    at.write_header(claim.slot, claim.generation, task.outputs[0]);
    return true;
  }

  // As an instance of both operators. Counts the commits of each task.
  void run_all(LaunchNumber launch, std::multiset<std::uint32_t>& commits) {
    for (bool found = true; found;) {
      found = false;
      for (const std::uint32_t op : {0u, 1u})
        while (const auto claim = d.handover.find_work(op, launch)) {
          EXPECT_FALSE(claim->input_failed);
          EXPECT_TRUE(compute(d.plan, places, *claim));
          EXPECT_TRUE(d.handover.commit(*claim, launch, TaskState::done));
          commits.insert(claim->task);
          found = true;
        }
    }
  }

  // Every task of the request is done exactly once, the answer is right, and its slot can be used
  // again.
  void expect_whole(SlotHold hold, const std::multiset<std::uint32_t>& commits,
                    const std::set<std::uint32_t>& done_before) {
    EXPECT_TRUE(d.handover.finished(hold));
    EXPECT_FALSE(d.handover.failed_task(hold));
    for (std::uint32_t task = 0; task < d.plan.tasks.size(); ++task)
      EXPECT_EQ(commits.count(task) + done_before.count(task), 1u) << "task " << task;
    const auto answer = places.read(hold.slot, hold.generation, d.plan.outputs[0]);
    ASSERT_TRUE(answer) << answer.error().message;
    for (std::size_t i = 0; i < 4; ++i) {
      const float x = static_cast<float>(hold.generation) + static_cast<float>(i);
      EXPECT_EQ(floats(*answer)[i], (x + 1) + (x + 2) + 3);
    }
    EXPECT_TRUE(d.handover.close(hold, client));
    EXPECT_EQ(d.slot(hold.slot).pack(), (SlotWord{hold.generation + 1, SlotState::free, 0}.pack()));
    for (std::uint32_t task = 0; task < d.plan.tasks.size(); ++task)
      EXPECT_EQ(d.task(hold.slot, task).pack(),
                (TaskWord{hold.generation + 1, TaskState::waiting, 0, 0}.pack()));
  }

  TestDeployment d{join_plan()};
  SharedArena arena{d.arena.size()};
  Places places{d.board, d.plan, arena.bytes()};
  std::map<std::string, int> struck;  // kills by place
  std::uint64_t steps = 0;
};

// claim, kernel, header, commit, hint, ring
TEST_P(KillTest, AnInstance) {
  SlotHold hold;
  Doorbell& bell = d.board.doorbell(1);
  std::uint32_t rung = 0;
  const auto path = [this](const Party& party) {
    Worker worker(party.handover, 0, victim, 0, {});
    const auto claim = worker.next();
    if (!claim || !compute(d.plan, party.places, *claim)) _exit(3);
    worker.commit(*claim, TaskState::done, 0);
  };
  kill_everywhere(
      path,
      [&] {
        d.board.participant(victim).mode.store(static_cast<std::uint32_t>(Mode::active));
        hold = submitted();
        // Of the two tasks that operator 1 joins, one is done, and somebody waits for the other.
        const auto first = d.handover.find_work(0, other);
        ASSERT_TRUE(first && compute(d.plan, places, *first));
        ASSERT_TRUE(d.handover.commit(*first, other, TaskState::done));
        bell.sleepers.store(1);
        rung = bell.seats[0].load();
      },
      [&] {
        std::set<std::uint32_t> done;
        bool claimed = false;
        for (std::uint32_t task = 0; task < d.plan.tasks.size(); ++task) {
          const TaskWord word = d.task(hold.slot, task);
          if (word.state == TaskState::done) done.insert(task);
          claimed = claimed || (word.state == TaskState::claimed && word.holder == victim);
        }
        const bool committed = done.size() == 2;
        const bool has_rung = bell.seats[0].load() != rung;
        ++struck[claimed                     ? "while it held a claim"
                 : !committed                ? "while idle"
                 : has_rung                  ? "after the ring"
                 : bell.sleepers.load() == 0 ? "between choosing a sleeper and its ring"
                                             : "between commit and ring"];
        const auto given_back = d.handover.give_back(victim, "killed");
        EXPECT_EQ(given_back.tasks, claimed ? 1u : 0u);
        EXPECT_NE(bell.seats[0].load(), rung) << "whoever waits is woken, by whomever";
        std::multiset<std::uint32_t> commits;
        run_all(other, commits);
        expect_whole(hold, commits, done);
      });
}

// take, header, submit, close
TEST_P(KillTest, AClient) {
  const auto path = [this](const Party& party) {
    const auto hold = party.handover.take_slot(victim);
    if (!hold) _exit(3);
    write_input(party.places, *hold);
    if (!party.handover.submit(*hold, victim)) _exit(4);
    party.handover.close(*hold, victim);
  };
  kill_everywhere(
      path, [] {},
      [&] {
        std::string place = "while it had none";
        for (std::uint32_t slot = 0; slot < 2; ++slot) {
          const SlotState state = d.slot(slot).state;
          if (state == SlotState::filling) place = "while it filled a slot";
          if (state == SlotState::running) place = "while a request ran";
          if (state == SlotState::closing) place = "while closing";
        }
        ++struck[place];
        d.handover.give_back(victim, "");
        for (std::uint32_t slot = 0; slot < 2; ++slot)
          EXPECT_EQ(d.slot(slot).state, SlotState::free) << "slot " << slot;
        // What it left is no obstacle to the next request.
        const SlotHold hold = submitted();
        std::multiset<std::uint32_t> commits;
        run_all(other, commits);
        expect_whole(hold, commits, {});
      });
}

TEST_P(KillTest, ASupervisorThatGivesBackAClaim) {
  SlotHold hold;
  const auto path = [](const Party& party) { party.handover.give_back(victim, "killed"); };
  kill_everywhere(
      path,
      [&] {
        hold = submitted();
        ASSERT_TRUE(d.handover.find_work(0, victim));
      },
      [&] {
        const bool claimed = d.task(hold.slot, 0).state == TaskState::claimed ||
                             d.task(hold.slot, 1).state == TaskState::claimed;
        ++struck[claimed ? "before it was given back" : "after it was given back"];
        d.handover.give_back(victim, "killed");  // its successor
        std::multiset<std::uint32_t> commits;
        run_all(other, commits);
        expect_whole(hold, commits, {});
      });
}

TEST_P(KillTest, ASupervisorThatClosesForADeadClient) {
  const auto path = [](const Party& party) { party.handover.give_back(victim, ""); };
  std::uint32_t slot = 0;
  kill_everywhere(
      path,
      [&] {
        const auto hold = d.handover.take_slot(victim);
        ASSERT_TRUE(hold && d.handover.submit(*hold, victim));
        slot = hold->slot;
        // Somebody is at one of its tasks.
        ASSERT_TRUE(d.handover.find_work(0, other));
      },
      [&] {
        ++struck[d.slot(slot).state == SlotState::closing ? "while closing" : "before closing"];
        d.handover.give_back(victim, "");  // its successor
        EXPECT_EQ(d.slot(slot).state, SlotState::closing) << "waits for the claim";
        d.handover.give_back(other, "");
        EXPECT_EQ(d.slot(slot).state, SlotState::free);
        const SlotHold hold = submitted();
        std::multiset<std::uint32_t> commits;
        run_all(other, commits);
        expect_whole(hold, commits, {});
      });
}

TEST_P(KillTest, ASupervisorThatLeavesAnEpoch) {
  const auto path = [](const Party& party) { party.handover.enter(EpochState::retiring); };
  kill_everywhere(
      path,
      [&] {
        d.board.header().epoch_state.store(0);
        for (std::uint32_t slot = 0; slot < 2; ++slot)
          d.board.slot(slot).word.store(SlotWord{1, SlotState::free, 0}.pack());
      },
      [&] {
        const bool begun = d.handover.epoch_state() != EpochState::running;
        ++struck[begun ? "after it has begun" : "before it has begun"];
        d.handover.enter(EpochState::retiring);  // its successor
        EXPECT_FALSE(d.handover.take_slot(client));
        EXPECT_EQ(d.handover.slots_in_use(), 0u);
      });
}

std::string name_of(const testing::TestParamInfo<Kills>& info) {
  return info.param == Kills::every_change ? "EveryChange" : "EveryInstruction";
}
INSTANTIATE_TEST_SUITE_P(After, KillTest, testing::Values(Kills::every_change), name_of);
INSTANTIATE_TEST_SUITE_P(LongAfter, KillTest, testing::Values(Kills::every_instruction), name_of);

}  // namespace
}  // namespace opsplit::ipc
