// With a device broker whose GPUs are host memory: a process of its own, as in earnest.
#include "daemon/device_broker_process.hpp"

#include <gmock/gmock.h>
#include <signal.h>

#include <chrono>

#include "tests/daemon/temporary_folder.hpp"

namespace opsplit::daemon {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr auto first_gpu = "GPU-f0f0f0f0-f0f0-f0f0-f0f0-f0f0f0f0f0f0";

class DeviceBrokerProcessTest : public testing::Test {
 protected:
  DeviceBrokerProcessTest() { make(); }

  void make(const std::string& device = "0", ipc::DeviceArenaShape shape = {256, 2}) {
    broker.reset();
    serves = false;
    ended.reset();
    broker.emplace(
        io, launcher,
        DeviceBrokerProcess::Spec{.program = OPSPLIT_BIN_DIR "/fake-device-broker",
                                  .socket = socket,
                                  .log = folder.path() / "log",
                                  .device = device,
                                  .arena = {"digits", 3},
                                  .shape = shape},
        DeviceBrokerProcess::Events{[this] { serves = true; },
                                    [this](const std::string& reason) { ended = reason; }});
  }
  template <class Condition>
  bool until(Condition holds) {
    for (const Deadline deadline = Clock::now() + 20s; !holds() && Clock::now() < deadline;) {
      io.restart();
      io.run_one_for(100ms);
    }
    return holds();
  }
  void serve() {
    ASSERT_TRUE(broker->launch());
    ASSERT_TRUE(until([this] { return serves || ended; })) << "silence";
    ASSERT_TRUE(serves) << ended.value_or("");
  }
  [[nodiscard]] std::vector<std::string> files() const {
    std::vector<std::string> names;
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(socket.parent_path(), ignored))
      names.push_back(entry.path().filename());
    return names;
  }
  static bool lives(pid_t pid) {
    const auto identity = identify(pid);
    if (!identity) return false;
    const auto pidfd = open_pidfd(*identity);
    return pidfd && !has_ended(*pidfd);
  }

  TemporaryFolder folder;
  const std::filesystem::path socket = folder.path() / "devices" / "digits.3.0.sock";
  boost::asio::io_context io;
  ProcessLauncher launcher;
  bool serves = false;
  std::optional<std::string> ended;
  std::optional<DeviceBrokerProcess> broker;
};

TEST_F(DeviceBrokerProcessTest, ServesUntilItIsStoppedAndLeavesNothing) {
  EXPECT_FALSE(broker->serves());
  serve();
  EXPECT_EQ(to_string(broker->uuid()), first_gpu) << "found out by number";
  EXPECT_TRUE(broker->has_its_memory());
  EXPECT_TRUE(lives(broker->pid()));
  broker->stop();
  broker->stop();
  ASSERT_TRUE(until([this] { return ended.has_value(); }));
  EXPECT_FALSE(broker->running() || broker->serves());
  EXPECT_THAT(files(), IsEmpty());
  broker->stop();
}

TEST_F(DeviceBrokerProcessTest, ItsDeathIsSeenAndLeavesNothing) {
  serve();
  ::kill(broker->pid(), SIGKILL);
  ASSERT_TRUE(until([this] { return ended.has_value(); }));
  EXPECT_THAT(*ended, HasSubstr("the device broker ended with signal 9"));
  EXPECT_FALSE(broker->has_its_memory());
  EXPECT_THAT(files(), IsEmpty());
}

TEST_F(DeviceBrokerProcessTest, OneThatHangsIsKilled) {
  serve();
  ::kill(broker->pid(), SIGSTOP);
  ASSERT_TRUE(until([this] { return ended.has_value(); }));
  EXPECT_THAT(*ended, HasSubstr("signal 9"));
}

// It would wait for whoever has its memory open, and grant it to nobody.
TEST_F(DeviceBrokerProcessTest, OneThatSomebodyElseTellsToEndIsKilled) {
  serve();
  auto party = ipc::MessageSocket::connect(socket, Clock::now() + 5s);
  ASSERT_TRUE(party);
  ASSERT_TRUE(party->call(
      {{"op", "open"}, {"deployment", "digits"}, {"epoch", 3}, {"slot_bytes", 256}, {"depth", 2}},
      Clock::now() + 5s));
  ::kill(broker->pid(), SIGTERM);
  ASSERT_TRUE(until([this] { return ended.has_value(); }));
  EXPECT_THAT(*ended, HasSubstr("signal 9"));
  EXPECT_THAT(files(), IsEmpty());
}

TEST_F(DeviceBrokerProcessTest, OneThatHangsIsStoppedAllTheSame) {
  serve();
  ::kill(broker->pid(), SIGSTOP);
  broker->stop();
  broker->stop();  // as often as anything else of its deployment ends
  ASSERT_TRUE(until([this] { return ended.has_value(); }));
  EXPECT_THAT(files(), IsEmpty());
}

TEST_F(DeviceBrokerProcessTest, WhatTheGpuDoesNotHaveIsToldInOneLine) {
  make("7");
  ASSERT_TRUE(broker->launch());
  ASSERT_TRUE(until([this] { return ended.has_value(); }));
  EXPECT_EQ(*ended, std::string("no GPU 7 here; there is 0: ") + first_gpu +
                        ", 1: GPU-f1f1f1f1-f1f1-f1f1-f1f1-f1f1f1f1f1f1");
  make("1", {1 << 20, 2});
  ASSERT_TRUE(broker->launch());
  ASSERT_TRUE(until([this] { return ended.has_value(); }));
  EXPECT_THAT(*ended, HasSubstr("2097152 bytes of device memory needed, 1048576 are free"));
  EXPECT_THAT(files(), IsEmpty());
}

TEST_F(DeviceBrokerProcessTest, EndsWithItsSupervisor) {
  serve();
  const pid_t pid = broker->pid();
  broker.reset();
  EXPECT_FALSE(lives(pid));
  EXPECT_THAT(files(), IsEmpty());
}

// Of another opsplitd; here its launcher is the same process.
TEST_F(DeviceBrokerProcessTest, ASuccessorGoesOnWithIt) {
  serve();
  broker->outlive();
  DeviceBrokerProcess successor(io, launcher, broker->spec(),
                                {nullptr, [this](const std::string& reason) { ended = reason; }});
  const auto taken = successor.take_over();
  ASSERT_TRUE(taken) << taken.error().message;
  EXPECT_EQ(successor.pid(), broker->pid());
  EXPECT_EQ(successor.uuid(), broker->uuid());
  EXPECT_TRUE(successor.has_its_memory());
  successor.stop();
  ASSERT_TRUE(until([&] { return !successor.running() && !broker->running(); }));
}

TEST_F(DeviceBrokerProcessTest, ASuccessorKillsWhatServesSomethingElse) {
  serve();
  auto spec = broker->spec();
  spec.shape.depth = 3;
  DeviceBrokerProcess successor(io, launcher, spec, {nullptr, [](const std::string&) {}});
  const auto taken = successor.take_over();
  ASSERT_FALSE(taken);
  EXPECT_THAT(taken.error().message, HasSubstr("serves something else"));
  EXPECT_FALSE(successor.running());
  ASSERT_TRUE(until([this] { return ended.has_value(); }));
  EXPECT_FALSE(successor.take_over()) << "there is none any more";
}

TEST_F(DeviceBrokerProcessTest, WhatNobodyTakesOverIsEnded) {
  serve();
  const pid_t pid = broker->pid();
  end_stale_device_brokers(socket.parent_path(), {socket});
  EXPECT_TRUE(lives(pid));
  EXPECT_EQ(files().size(), 3u);
  ::kill(pid, SIGSTOP);
  end_stale_device_brokers(socket.parent_path());
  EXPECT_FALSE(lives(pid));
  EXPECT_THAT(files(), IsEmpty());
  end_stale_device_brokers(folder.path() / "nowhere");
}

}  // namespace
}  // namespace opsplit::daemon
