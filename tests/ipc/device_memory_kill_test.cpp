// Kills every process of a deployment at every call of the driver that it makes, before it and after it:
// while it attaches, runs, completes, commits, detaches. Each time somebody else goes on, and nothing may be
// left, freed too early, read unfinished or wrong. The device is a fake (tests/ipc/fake_device.hpp), the
// processes, their deaths, the broker with its socket, and the board are real.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <optional>

#include "tests/ipc/device_parties.hpp"
#include "tests/ipc/other_process.hpp"

namespace opsplit::ipc {
namespace {

using test::ArenaAddress;
using test::FakeBroker;
using test::FakeDevice;
using test::FakeGpu;
using test::Forked;
using test::OnDevice;
using test::Service;
using testing::IsEmpty;

constexpr LaunchNumber client = 3, victim = 5, other = 6;
constexpr int killed = -SIGKILL;
const Service all_once{{0, 1}, false};

class DeviceKillTest : public testing::Test {
 protected:
  // From nothing: a board, a broker, and this process as a client with a request under way.
  struct World {
    explicit World(DeviceKillTest& test)
        : gpu(test.gpu), address{test.folder.socket(), {"digits", 1}, {}} {
      gpu.reset();
      address.shape = {d.plan.slot_bytes, d.layout.depth};
    }
    void start_broker() { broker.emplace(gpu, test::a_broker, address); }
    void attach() {
      device.emplace(gpu, test::a_client);
      auto attached = OnDevice::attach(*device, futex, address);
      ASSERT_TRUE(attached) << attached.error().message;
      mine = std::move(*attached);
    }
    void submit() {
      const auto taken = d.handover.take_slot(client);
      ASSERT_TRUE(taken);
      hold = *taken;
      std::vector<float> input(4);
      std::iota(input.begin(), input.end(), static_cast<float>(hold.generation));
      ASSERT_TRUE(mine->write(d.plan, hold.slot, d.plan.inputs[0], input));
      ASSERT_TRUE(d.handover.submit(hold, client));
    }
    // A broker, a client of its arena, and what it asks for.
    void begin() {
      start_broker();
      attach();
      submit();
    }
    int serve(std::size_t process, LaunchNumber launch, const Service& service,
              const std::function<void(FakeDevice&)>& instead = nullptr) {
      return Forked([&] { return test::serve(d, gpu, process, address, launch, service, instead); })
          .wait();
    }
    void expect_answer() {
      EXPECT_TRUE(d.handover.finished(hold));
      EXPECT_FALSE(d.handover.failed_task(hold));
      const auto answer = mine->read(d.plan, hold.slot, d.plan.outputs[0]);
      ASSERT_TRUE(answer) << answer.error().message;
      for (std::size_t i = 0; i < 4; ++i) {
        const float x = static_cast<float>(hold.generation) + static_cast<float>(i);
        EXPECT_EQ((*answer)[i], (x + 1) + (x + 2) + 3);
      }
      EXPECT_TRUE(d.handover.close(hold, client));
    }
    void detach() {
      mine.reset();
      device.reset();
    }
    // Everybody has gone: the broker frees, ends, and leaves nothing.
    void expect_clean_end(const test::SocketFolder& folder) {
      broker->end();
      EXPECT_EQ(broker->wait(), 0);
      expect_nothing_left();
      EXPECT_THAT(folder.files(), IsEmpty());
    }
    void end(const test::SocketFolder& folder) {
      detach();
      expect_clean_end(folder);
    }
    void expect_nothing_left() const {
      EXPECT_EQ(gpu.allocations(), 0u);
      EXPECT_EQ(gpu.misuse(), "");
    }
    [[nodiscard]] int done() const {
      int count = 0;
      for (std::uint32_t task = 0; task < d.plan.tasks.size(); ++task)
        count += d.task(hold.slot, task).state == TaskState::done;
      return count;
    }

    TestDeployment d{join_plan()};
    FakeGpu& gpu;
    ArenaAddress address;
    FakeFutex futex;
    std::optional<FakeBroker> broker;
    std::optional<FakeDevice> device;
    std::unique_ptr<OnDevice> mine;
    SlotHold hold{};
  };

  // `once` lives through one world in which a process comes to its nth call, and says where that was; an
  // empty place: it never came there.
  void kill_everywhere(std::size_t process, const std::function<std::string(World&)>& once) {
    std::map<std::string, int> struck;
    int kills = 0;
    for (std::uint32_t call = 1;; ++call) {
      bool came_there = false;
      for (const bool after : {false, true}) {
        World world(*this);
        gpu.kill(process, call, after);
        const std::string place = once(world);
        ASSERT_FALSE(HasFailure()) << place << ", call " << call;
        came_there = !place.empty();
        if (!came_there) break;
        ++struck[place];
        ++kills;
      }
      if (!came_there) break;
    }
    for (const auto& [place, count] : struck) RecordProperty(place, count);
    fmt::print("{} kills at {} places\n", kills, struck.size());
    EXPECT_GT(kills, 4);
  }

  void whole_life(World& world) {
    world.start_broker();
    ASSERT_TRUE(world.broker->ready());
    world.attach();
    world.submit();
    EXPECT_EQ(world.serve(test::another, other, all_once), test::has_served);
    world.expect_answer();
    world.end(folder);
  }

  FakeGpu gpu;
  test::SocketFolder folder;
};

TEST_F(DeviceKillTest, NobodyIsKilled) {
  gpu.set_queries_until_done(2);
  World world(*this);
  whole_life(world);
}

// attach, launch, record, query, commit, detach
TEST_F(DeviceKillTest, AnOperator) {
  gpu.set_queries_until_done(2);
  kill_everywhere(test::a_victim, [&](World& world) {
    world.begin();
    const int end = world.serve(test::a_victim, victim, all_once);
    const std::string place = gpu.died_at(test::a_victim);
    EXPECT_EQ(end, place.empty() ? test::has_served : killed);
    world.d.handover.give_back(victim, "killed");
    EXPECT_EQ(world.serve(test::another, other, all_once), test::has_served);
    world.expect_answer();
    world.end(folder);
    return place;
  });
}

// Somebody else computes what follows, while the victim still lives, and when it is dead.
TEST_F(DeviceKillTest, AnOperatorWhoseResultsAreRead) {
  gpu.set_queries_until_done(3);
  kill_everywhere(test::a_victim, [&](World& world) {
    world.begin();
    Forked reader([&] {
      return test::serve(world.d, gpu, test::another, world.address, other, {{1}, true});
    });
    const int end = world.serve(test::a_victim, victim, {{0}, false});
    const std::string place = gpu.died_at(test::a_victim);
    EXPECT_EQ(end, place.empty() ? test::has_served : killed);
    world.d.handover.give_back(victim, "killed");
    EXPECT_EQ(world.serve(test::a_third, other + 1, {{0}, false}), test::has_served);
    EXPECT_EQ(reader.wait(), test::has_served);
    world.expect_answer();
    world.end(folder);
    return place;
  });
}

// The broker is told to end at every point of an operator's life: it frees when the last has closed.
TEST_F(DeviceKillTest, TheBrokerIsToldToEndWhileAnOperatorIsAtWork) {
  kill_everywhere(test::a_victim, [&](World& world) {
    world.begin();
    const pid_t broker = world.broker->pid();
    const int end = world.serve(test::a_victim, victim, all_once,
                                [&](FakeDevice&) { ::kill(broker, SIGTERM); });
    const std::string told = gpu.died_at(test::a_victim);
    // Whoever comes after is turned away; who is there may finish.
    EXPECT_TRUE(end == test::has_served || (!told.empty() && end == test::found_no_arena)) << end;
    if (end == test::has_served) world.expect_answer();
    EXPECT_GT(gpu.allocations(), 0u) << "freed while we have it open";
    world.end(folder);
    return told;
  });
}

// The broker is told to end, and who has the arena open dies at once, without a word.
TEST_F(DeviceKillTest, AnOperatorWhileTheBrokerWaitsForItsEnd) {
  kill_everywhere(test::a_victim, [&](World& world) {
    world.begin();
    const pid_t broker = world.broker->pid();
    const int end = world.serve(test::a_victim, victim, all_once, [&](FakeDevice& device) {
      ::kill(broker, SIGTERM);
      device.die();
    });
    const std::string place = gpu.died_at(test::a_victim);
    EXPECT_EQ(end, place.empty() ? test::has_served : killed);
    world.end(folder);
    return place;
  });
}

// allocate, export, free; the next broker finds what it left.
TEST_F(DeviceKillTest, ABroker) {
  kill_everywhere(test::a_broker, [&](World& world) {
    world.start_broker();
    std::string place = gpu.died_at(test::a_broker);
    EXPECT_EQ(world.broker->ready(), place.empty());
    if (!world.broker->ready()) {
      EXPECT_EQ(world.broker->wait(), killed);
      FakeDevice device(gpu, test::a_client);
      const auto attached = world.address.attach(device);
      EXPECT_EQ(attached ? ErrorCode::system : attached.error().code, ErrorCode::unavailable);
    } else {
      world.attach();
      world.submit();
      EXPECT_EQ(world.serve(test::another, other, all_once), test::has_served);
      world.expect_answer();
      world.detach();
      world.broker->end();
      const int end = world.broker->wait();
      place = gpu.died_at(test::a_broker);
      EXPECT_EQ(end, place.empty() ? 0 : killed);
    }
    world.expect_nothing_left();
    World next(*this);
    whole_life(next);
    return place;
  });
}

// The broker dies at every point of an operator's life: what was computed then does not count.
TEST_F(DeviceKillTest, ABrokerWhileAnOperatorIsAtWork) {
  gpu.set_queries_until_done(2);
  kill_everywhere(test::a_victim, [&](World& world) {
    world.begin();
    const pid_t broker = world.broker->pid();
    const int end = world.serve(test::a_victim, victim, all_once,
                                [&](FakeDevice&) { FakeBroker::kill(broker); });
    const std::string where = gpu.died_at(test::a_victim);
    if (where.empty()) {
      EXPECT_EQ(end, test::has_served);
      world.expect_answer();
      world.detach();
      world.expect_clean_end(folder);
      return where;
    }
    EXPECT_EQ(world.broker->wait(), killed);
    // What was checked before the death is right, and may be committed after it.
    const bool checked = where == "before commit" || where == "after commit";
    const bool lost = end >= test::epoch_was_lost;
    if (lost) {
      EXPECT_LE(end - test::epoch_was_lost, checked ? 1 : 0);
    } else if (end != test::found_no_arena) {
      EXPECT_EQ(end, test::has_served);
      EXPECT_EQ(world.done(), 3);
    }
    EXPECT_EQ(world.mine->arena.check().error().code, ErrorCode::epoch_lost);
    const auto answer = world.mine->read(world.d.plan, world.hold.slot, world.d.plan.outputs[0]);
    EXPECT_FALSE(answer) << "an answer from memory that is gone";
    world.detach();
    world.expect_nothing_left();
    World next(*this);
    whole_life(next);
    return where;
  });
}

// attach, write, submit, read, close, detach
TEST_F(DeviceKillTest, AClient) {
  gpu.set_queries_until_done(2);
  kill_everywhere(test::a_victim, [&](World& world) {
    world.start_broker();
    world.attach();
    const int end =
        Forked([&] {
          const auto board = Board::open(world.d.name, world.d.layout, 1);
          if (!board) return 1;
          FakeFutex futex;
          Handover handover(*board, world.d.plan, futex);
          FakeDevice device(gpu, test::a_victim);
          const auto on = OnDevice::attach(device, futex, world.address);
          const auto hold = handover.take_slot(victim);
          if (!on || !hold) return 2;
          if (!(*on)->write(world.d.plan, hold->slot, world.d.plan.inputs[0], {1, 2, 3, 4}))
            return 3;
          device.step("submit");
          if (!handover.submit(*hold, victim)) return 4;
          device.step("submitted");
          // An operator's part, played here: then it is done when the call returns.
          if (test::serve(world.d, gpu, test::another, world.address, other, all_once) !=
              test::has_served)
            return 5;
          const auto answer = (*on)->read(world.d.plan, hold->slot, world.d.plan.outputs[0]);
          if (!answer || (*answer)[0] != (1 + 1) + (1 + 2) + 3) return 6;
          device.step("close");
          return handover.close(*hold, victim) ? 0 : 7;
        }).wait();
    const std::string place = gpu.died_at(test::a_victim);
    EXPECT_EQ(end, place.empty() ? 0 : killed);
    world.d.handover.give_back(victim, "");
    world.submit();
    EXPECT_EQ(world.serve(test::another, other + 1, all_once), test::has_served);
    world.expect_answer();
    world.end(folder);
    return place;
  });
}

}  // namespace
}  // namespace opsplit::ipc
