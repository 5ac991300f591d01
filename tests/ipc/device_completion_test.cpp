#include "ipc/device_completion.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>

#include <optional>

#include "tests/ipc/fake_device.hpp"
#include "tests/ipc/fixture.hpp"

namespace opsplit::ipc {
namespace {

using test::FakeDevice;
using test::FakeGpu;
using testing::HasSubstr;
using State = DeviceCompletion::State;

constexpr std::uint64_t ms = 1'000'000;

// Looks at the clock are the only thing that takes time here.
class PausingFutex final : public Futex {
 public:
  std::uint64_t now_ns() override { return now += 1000; }
  void wait(std::atomic<std::uint32_t>&, std::uint32_t, std::uint64_t deadline_ns) override {
    ++pauses;
    most_slack = std::max(most_slack, ::prctl(PR_GET_TIMERSLACK));
    longest = std::max(longest, deadline_ns - std::min(deadline_ns, now));
    now = std::max(now, deadline_ns);
  }
  void wake(std::atomic<std::uint32_t>&, int) override {}
  int cpu() override { return 0; }

  std::uint64_t now = 0, longest = 0;
  int pauses = 0;
  int most_slack = 0;  // of the thread's timers, in ns, while it paused
};

struct DeviceCompletionTest : testing::Test {
  DeviceCompletionTest() {
    memory = device.allocate(64).value();
    stream = device.create_stream(StreamPriority::normal).value();
    completion.emplace(DeviceCompletion::create(device, futex, stream).value());
  }
  ~DeviceCompletionTest() override { EXPECT_EQ(gpu.misuse(), ""); }
  void launch() { ASSERT_TRUE(device.launch({{}, memory, 4, 7.0F}, stream)); }
  float first() {
    float value = 0;
    const auto into = std::as_writable_bytes(std::span(&value, 1));
    EXPECT_TRUE(device.copy_to_host(into, memory, stream));
    device.finish();
    return value;
  }

  FakeGpu gpu;
  FakeDevice device{gpu, 0};
  PausingFutex futex;
  DeviceAddress memory = 0;
  DeviceStream stream{};
  std::optional<DeviceCompletion> completion;
};

TEST_F(DeviceCompletionTest, WaitReturnsWhenTheDeviceIsDone) {
  for (const std::uint32_t queries : {1u, 2u, 50u}) {
    gpu.set_queries_until_done(queries);
    launch();
    EXPECT_EQ(completion->state(), State::idle);
    ASSERT_TRUE(completion->launched());
    EXPECT_EQ(completion->state(), State::launched);
    const auto waited = completion->wait(0, futex.now + 10'000 * ms);
    ASSERT_TRUE(waited) << waited.error().message;
    EXPECT_EQ(completion->state(), State::idle);
    EXPECT_EQ(first(), 7.0F);
  }
}

TEST_F(DeviceCompletionTest, ItWaitsForItsOwnStreamAlone) {
  const auto busy = device.create_stream(StreamPriority::low).value();
  const auto other_memory = device.allocate(64).value();
  gpu.set_queries_until_done(test::never);
  auto other = DeviceCompletion::create(device, futex, busy);
  ASSERT_TRUE(device.launch({{}, other_memory, 4, 1.0F}, busy) && other->launched());
  gpu.set_queries_until_done(1);
  launch();
  ASSERT_TRUE(completion->launched());
  EXPECT_TRUE(completion->wait(0, futex.now + ms));
  EXPECT_EQ(other->state(), State::launched);
  device.finish();
  EXPECT_TRUE(other->wait(0, futex.now + ms));
}

TEST_F(DeviceCompletionTest, ItSpinsFirstAndThenPauses) {
  gpu.set_queries_until_done(40);
  launch();
  ASSERT_TRUE(completion->launched());
  ASSERT_TRUE(completion->wait(ms, futex.now + 1000 * ms));
  EXPECT_EQ(futex.pauses, 0);
  launch();
  ASSERT_TRUE(completion->launched());
  ASSERT_TRUE(completion->wait(20'000, futex.now + 1000 * ms));
  EXPECT_GT(futex.pauses, 0);
  EXPECT_LT(futex.pauses, 30);
  EXPECT_LE(futex.longest, ms);
}

TEST_F(DeviceCompletionTest, PausesArePunctualAndOtherSleepsAreAsBefore) {
  const int before = ::prctl(PR_GET_TIMERSLACK);
  ASSERT_EQ(::prctl(PR_SET_TIMERSLACK, 60'000UL), 0);
  gpu.set_queries_until_done(40);
  launch();
  ASSERT_TRUE(completion->launched());
  ASSERT_TRUE(completion->wait(0, futex.now + 1000 * ms));
  EXPECT_GT(futex.pauses, 0);
  EXPECT_LE(futex.most_slack, 2'000);
  EXPECT_EQ(::prctl(PR_GET_TIMERSLACK), 60'000);
  ::prctl(PR_SET_TIMERSLACK, static_cast<unsigned long>(before));
}

TEST_F(DeviceCompletionTest, TheDeadlineIsAnErrorForGood) {
  gpu.set_queries_until_done(test::never);
  launch();
  ASSERT_TRUE(completion->launched());
  const auto waited = completion->wait(100'000, futex.now + 250 * ms);
  ASSERT_FALSE(waited);
  EXPECT_EQ(waited.error().code, ErrorCode::timed_out);
  EXPECT_THAT(waited.error().message, HasSubstr("not done after 25"));
  EXPECT_GE(futex.now, 250 * ms);
  EXPECT_LT(futex.now, 251 * ms);
  // That it is done later does not help: somebody else may have the claim.
  device.finish();
  EXPECT_FALSE(completion->wait(0, futex.now + ms));
  EXPECT_FALSE(completion->launched());
  EXPECT_EQ(completion->state(), State::failed);
}

TEST_F(DeviceCompletionTest, AFaultOfTheDeviceIsAnErrorForGood) {
  device.fault_next_launch();
  launch();
  ASSERT_TRUE(completion->launched());
  const auto waited = completion->wait(0, futex.now + ms);
  ASSERT_FALSE(waited);
  EXPECT_THAT(waited.error().message, HasSubstr("illegal memory access"));
  EXPECT_TRUE(device.lost());
  EXPECT_EQ(completion->state(), State::failed);
  EXPECT_FALSE(completion->launched());
}

TEST_F(DeviceCompletionTest, ALaunchThatFailedIsNeverComplete) {
  device.fail_next_launch();
  launch();
  const auto launched = completion->launched();
  ASSERT_FALSE(launched);
  EXPECT_THAT(launched.error().message, HasSubstr("invalid configuration"));
  EXPECT_FALSE(completion->wait(0, futex.now + ms));
  EXPECT_EQ(completion->state(), State::failed);
}

TEST_F(DeviceCompletionTest, WhatWasNotLaunchedIsNotWaitedFor) {
  EXPECT_FALSE(completion->wait(0, futex.now + ms));
  EXPECT_EQ(completion->state(), State::failed);
}

TEST_F(DeviceCompletionTest, TwoTasksAtOnceAreRefused) {
  launch();
  ASSERT_TRUE(completion->launched());
  EXPECT_FALSE(completion->launched());
  EXPECT_EQ(completion->state(), State::failed);
  device.finish();
}

}  // namespace
}  // namespace opsplit::ipc
