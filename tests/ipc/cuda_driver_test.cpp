// What needs a GPU. Each test is skipped where there is none, and says so.
#include "ipc/cuda_driver.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <filesystem>
#include <memory>

#include "ipc/device_completion.hpp"
#include "ipc/device_memory.hpp"
#include "tests/ipc/other_process.hpp"

namespace opsplit::ipc {
namespace {

using test::Child;
using test::in_seconds;
using test::mebibyte;
using testing::HasSubstr;

class CudaDriverTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto found = cuda_machine();
    if (!found) GTEST_SKIP() << "no GPU: " << found.error().message;
    machine = *found;
    auto opened = open_cuda_device(to_string(machine.devices[0].uuid));
    ASSERT_TRUE(opened) << opened.error().message;
    driver = std::move(*opened);
    std::string name = "/tmp/opsplit.gpu." + std::string(6, 'X');
    folder = ::mkdtemp(name.data());
  }
  void TearDown() override {
    std::error_code ignored;
    if (!folder.empty()) std::filesystem::remove_all(folder, ignored);
  }

  std::unique_ptr<Child> start_broker() {
    auto broker = std::make_unique<Child>(std::vector<std::string>{
        program("opsplit-device-broker"), "--socket", socket(), "--device", uuid(), "--deployment",
        "gpu", "--epoch", "1", "--slot-bytes", std::to_string(slot_bytes), "--depth", "1"});
    EXPECT_TRUE(test::eventually([this] {
      auto connection = MessageSocket::connect(socket(), in_seconds(1));
      return connection && connection->call({{"op", "ping"}}, in_seconds(20));
    }));
    return broker;
  }
  // gpu-victim, once it has written its line.
  std::unique_ptr<Child> start_victim(const std::string& what) {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    auto victim =
        std::make_unique<Child>(std::vector<std::string>{program("gpu-victim"), what, uuid(),
                                                         socket(), std::to_string(slot_bytes)},
                                -1, ends[1]);
    ::close(ends[1]);
    char line[16] = {};
    EXPECT_GT(::read(ends[0], line, sizeof(line)), 0) << "it ended at once";
    ::close(ends[0]);
    return victim;
  }
  Result<DeviceArena> attach() {
    return DeviceArena::attach(*driver, socket(), {"gpu", 1}, {slot_bytes, 1}, in_seconds(20));
  }
  // Beside this one: scripts/gpu-check.sh takes them to another machine.
  static std::string program(const char* name) {
    return std::filesystem::read_symlink("/proc/self/exe").parent_path() / name;
  }
  [[nodiscard]] std::string uuid() const { return to_string(machine.devices[0].uuid); }
  [[nodiscard]] std::string socket() const { return folder / "device"; }
  // All of it, from the device.
  std::vector<std::uint32_t> read(DeviceAddress from, DeviceStream stream,
                                  DeviceCompletion& completion) {
    std::vector<std::uint32_t> words(slot_bytes / sizeof(std::uint32_t));
    EXPECT_TRUE(driver->copy_to_host(std::as_writable_bytes(std::span(words)), from, stream));
    EXPECT_TRUE(completion.launched());
    const auto waited = completion.wait(0, futex.now_ns() + 20'000'000'000);
    EXPECT_TRUE(waited) << waited.error().message;
    return words;
  }

  static constexpr std::uint64_t slot_bytes = 4 * mebibyte;
  CudaMachine machine;
  std::unique_ptr<DeviceDriver> driver;
  std::filesystem::path folder;
  SystemFutex futex;
};

TEST_F(CudaDriverTest, DevicesAreFoundByTheirUuidAlone) {
  for (const CudaDevice& device : machine.devices) {
    const auto opened = open_cuda_device(to_string(device.uuid));
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_EQ((*opened)->uuid(), device.uuid);
    const auto memory = (*opened)->memory();
    ASSERT_TRUE(memory);
    EXPECT_GT(memory->total_bytes, 0u);
    EXPECT_LE(memory->free_bytes, memory->total_bytes);
  }
  const auto unknown = open_cuda_device(to_string(DeviceUuid{}));
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, ErrorCode::not_found);
  EXPECT_THAT(unknown.error().message, HasSubstr(uuid()));
}

TEST_F(CudaDriverTest, CopiesComeBackFromPinnedMemoryAndOtherMemory) {
  // Whole pages of their own: what is pinned is pages, each once.
  alignas(4096) static std::array<std::uint8_t, mebibyte> from, to;
  for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::uint8_t>(i * 7 + 1);
  const auto stream = driver->create_stream(StreamPriority::high);
  const auto memory = driver->allocate(mebibyte);
  ASSERT_TRUE(stream && memory);
  auto completion = DeviceCompletion::create(*driver, futex, *stream);
  ASSERT_TRUE(completion);
  for (const bool pinned : {false, true}) {
    if (pinned) {
      ASSERT_TRUE(driver->register_host(std::as_writable_bytes(std::span(from))));
      ASSERT_TRUE(driver->register_host(std::as_writable_bytes(std::span(to))));
    }
    std::ranges::fill(to, std::uint8_t{0});
    ASSERT_TRUE(driver->copy_to_device(*memory, std::as_bytes(std::span(from)), *stream));
    ASSERT_TRUE(driver->copy_to_host(std::as_writable_bytes(std::span(to)), *memory, *stream));
    ASSERT_TRUE(completion->launched());
    ASSERT_TRUE(completion->wait(100'000, futex.now_ns() + 20'000'000'000));
    EXPECT_TRUE(from == to) << pinned;
  }
  EXPECT_TRUE(driver->unregister_host(std::as_writable_bytes(std::span(from))));
  EXPECT_TRUE(driver->unregister_host(std::as_writable_bytes(std::span(to))));
  EXPECT_TRUE(driver->free(*memory));
}

TEST_F(CudaDriverTest, TooMuchMemoryIsRefusedInBytes) {
  const auto memory = driver->memory();
  ASSERT_TRUE(memory);
  const auto refused = driver->allocate(memory->total_bytes + mebibyte);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::limit_exceeded);
  EXPECT_FALSE(driver->lost());
  EXPECT_FALSE(driver->allocate(~std::uint64_t{0}));
  EXPECT_FALSE(driver->allocate(0));
  EXPECT_TRUE(driver->memory());
}

TEST_F(CudaDriverTest, AHandleToNothingIsRefused) {
  const auto opened = driver->open_handle(DeviceHandle{});
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::refused);
  EXPECT_FALSE(driver->lost());
}

TEST_F(CudaDriverTest, AnArenaOfTheBrokersIsReadAndWritten) {
  const auto broker = start_broker();
  const auto tried =
      try_device_arena(*driver, socket(), {"gpu", 1}, {slot_bytes, 1}, in_seconds(20));
  EXPECT_TRUE(tried) << tried.error().message;
  EXPECT_EQ(broker->stop(SIGTERM), 0);
  EXPECT_TRUE(std::filesystem::is_empty(folder));
}

TEST_F(CudaDriverTest, TheBrokersEndGivesAllItsMemoryBack) {
  const std::uint64_t before = driver->memory()->free_bytes;
  for (const int signal : {SIGTERM, SIGKILL}) {
    const auto broker = start_broker();
    const auto victim = start_victim("attach");
    EXPECT_LT(driver->memory()->free_bytes, before);
    victim->stop(SIGKILL);
    broker->stop(signal);
    EXPECT_TRUE(test::eventually([&] { return driver->memory()->free_bytes >= before; }))
        << before - driver->memory()->free_bytes << " bytes are missing after signal " << signal;
  }
}

// Operators that are killed, while they compute and while they do not, cost the GPU nothing.
TEST_F(CudaDriverTest, TwoHundredKillsLeaveDeviceMemoryAsItWas) {
  const auto broker = start_broker();
  start_victim("attach")->stop(SIGKILL);  // what the driver makes once is made
  const std::uint64_t before = driver->memory()->free_bytes;
  for (int kill = 0; kill < 200; ++kill)
    ASSERT_EQ(start_victim(kill % 2 == 0 ? "attach" : "write")->stop(SIGKILL), -SIGKILL) << kill;
  std::uint64_t after = 0;
  EXPECT_TRUE(test::eventually([&] {
    after = driver->memory()->free_bytes;
    return after >= before;
  })) << before - after
      << " bytes are missing";
  fmt::print("free device memory: {} bytes before 200 kills, {} after\n", before, after);
}

TEST_F(CudaDriverTest, CheckFailsOnceTheBrokerIsDead) {
  const auto broker = start_broker();
  const auto arena = attach();
  ASSERT_TRUE(arena) << arena.error().message;
  EXPECT_TRUE(arena->check());
  broker->stop(SIGKILL);
  EXPECT_EQ(arena->check().error().code, ErrorCode::epoch_lost);
}

// The assumption of ipc/device_memory.hpp, 3: an operator is killed in the middle of a kernel that writes.
// Once its pidfd is readable, nothing may change any more.
TEST_F(CudaDriverTest, WhatADeadOperatorHadLaunchedWritesNothingAfterItsDeath) {
  const auto broker = start_broker();
  const auto arena = attach();
  ASSERT_TRUE(arena) << arena.error().message;
  const auto stream = driver->create_stream(StreamPriority::high);
  ASSERT_TRUE(stream);
  auto completion = DeviceCompletion::create(*driver, futex, *stream);
  ASSERT_TRUE(completion);
  for (int round = 0; round < 20; ++round) {
    SCOPED_TRACE(round);
    const std::vector<std::uint32_t> zeros(slot_bytes / sizeof(std::uint32_t));
    ASSERT_TRUE(driver->copy_to_device(arena->slot(0), std::as_bytes(std::span(zeros)), *stream));
    ASSERT_TRUE(completion->launched());
    ASSERT_TRUE(completion->wait(0, futex.now_ns() + 20'000'000'000));
    const auto victim = start_victim("write");
    const auto process = identify(victim->pid());
    ASSERT_TRUE(process);
    const auto pidfd = open_pidfd(*process);
    ASSERT_TRUE(pidfd);
    victim->signal(SIGKILL);
    ASSERT_TRUE(has_ended(*pidfd, in_seconds(20)));
    const auto at_death = read(arena->slot(0), *stream, *completion);
    EXPECT_GT(at_death[0], 0u) << "the kernel had not begun";
    for (int look = 0; look < 50; ++look)
      ASSERT_TRUE(read(arena->slot(0), *stream, *completion) == at_death) << "look " << look;
    victim->wait();
  }
  EXPECT_TRUE(arena->check());
}

TEST_F(CudaDriverTest, AFaultLosesTheContextAndSaysSo) {
  EXPECT_EQ(Child({program("gpu-victim"), "fault", uuid()}).wait(), 0);
  EXPECT_TRUE(driver->memory()) << "it was another process's";
}

TEST_F(CudaDriverTest, AWaitForAKernelThatDoesNotEndHasADeadline) {
  EXPECT_EQ(Child({program("gpu-victim"), "deadline", uuid()}).wait(), 0);
}

}  // namespace
}  // namespace opsplit::ipc
