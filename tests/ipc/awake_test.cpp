#include "ipc/awake.hpp"

#include <gtest/gtest.h>

#include "ipc/doorbell.hpp"
#include "tests/ipc/fixture.hpp"

namespace opsplit::ipc {
namespace {

constexpr auto nothing = [] { return false; };

// Whose clock goes on by itself.
class TickingFutex final : public Futex {
 public:
  std::uint64_t now_ns() override { return now += 100; }
  void wait(std::atomic<std::uint32_t>&, std::uint32_t, std::uint64_t) override {}
  void wake(std::atomic<std::uint32_t>&, int) override {}
  int cpu() override { return on_cpu; }

  std::uint64_t now = 0;
  int on_cpu = 3;
};

struct AwakeTest : testing::Test {
  template <class Look>
  bool stay(Look look, std::uint64_t duration_ns = 10'000) {
    return stay_awake(self, backoff, futex, futex.now, duration_ns, look);
  }
  [[nodiscard]] std::uint64_t awake(std::uint32_t cpu) const {
    return deployment.board.cpu(cpu).awake;
  }

  TestDeployment deployment{join_plan()};
  TickingFutex futex;
  Presence self{deployment.board, futex, 5}, other{deployment.board, futex, 6};
  Backoff backoff;
};

TEST_F(AwakeTest, UntilItFindsSomethingOrTheTimeIsOver) {
  int looks = 0;
  EXPECT_TRUE(stay([&] { return ++looks == 100; }));
  EXPECT_LT(futex.now, 10'000u);
  futex.now = 0;
  EXPECT_FALSE(stay(nothing));
  EXPECT_GE(futex.now, 10'000u);
  EXPECT_LE(futex.now, 10'200u);
}

TEST_F(AwakeTest, NotAtAllWhereSomebodyElseIsAwake) {
  other.appear();
  EXPECT_FALSE(stay([] { return true; }));
  futex.on_cpu = 4;
  EXPECT_TRUE(stay([] { return true; })) << "on another CPU";
}

TEST_F(AwakeTest, NoLongerThanItIsAlone) {
  Bed bed{};
  other.appear();
  other.lie_down(bed);
  EXPECT_EQ(awake(3), 0u);
  int looks = 0;
  EXPECT_FALSE(stay([&] {
    if (++looks == 10) announce_waking(deployment.board, bed);
    return looks == 11;
  }));
  EXPECT_EQ(looks, 10);
}

TEST_F(AwakeTest, WhoeverMovesIsGoneWhereItWas) {
  self.appear();
  EXPECT_EQ(awake(3), 1u << 5);
  futex.on_cpu = 4;
  self.appear();
  EXPECT_EQ(awake(3), 0u);
  EXPECT_EQ(awake(4), 1u << 5);
  self.disappear();
  EXPECT_EQ(awake(4), 0u);
}

TEST_F(AwakeTest, ADeathLeavesNobodyAwake) {
  Presence(deployment.board, futex, 7).appear();
  EXPECT_EQ(awake(3), 0u);
  deployment.board.cpu(3).awake = 1u << 7;
  deployment.handover.give_back(7, "");
  EXPECT_EQ(awake(3), 0u);
}

TEST_F(AwakeTest, WhatDoesNotPayIsTriedEverLessOften) {
  int tried = 0;
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t before = futex.now;
    EXPECT_FALSE(stay(nothing));
    tried += futex.now != before ? 1 : 0;
  }
  EXPECT_GE(tried, 1000 / 64);
  EXPECT_LE(tried, 1000 / 64 + 6);
  while (!stay([] { return true; })) {
  }
  EXPECT_TRUE(stay([] { return true; })) << "as soon as it pays";
}

}  // namespace
}  // namespace opsplit::ipc
