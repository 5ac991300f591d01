#include "ipc/doorbell.hpp"

#include <gtest/gtest.h>

#include "tests/ipc/fixture.hpp"

namespace opsplit::ipc {
namespace {

constexpr auto nothing = [] { return false; };

struct DoorbellTest : testing::Test {
  TestDeployment deployment{join_plan()};
  FakeFutex& futex = deployment.futex;
  Doorbell& bell = deployment.board.doorbell(1);
};

TEST_F(DoorbellTest, RingingWhereNobodySleepsMakesNoSystemCall) {
  ring(deployment.board, 1, futex);
  EXPECT_EQ(futex.wakes, 0);
}

TEST_F(DoorbellTest, ARingWakesOneSleeperAndTakesItsBit) {
  bell.sleepers = 0b1010;
  ring(deployment.board, 1, futex);
  EXPECT_EQ(futex.wakes, 1);
  EXPECT_EQ(bell.sleepers, 0b1000u);
  EXPECT_EQ(bell.seats[1], 1u);
  EXPECT_EQ(bell.seats[3], 0u);
  ring(deployment.board, 1, futex);
  EXPECT_EQ(bell.sleepers, 0u);
  EXPECT_EQ(bell.seats[3], 1u);
  ring(deployment.board, 1, futex);
  EXPECT_EQ(futex.wakes, 2);
}

TEST_F(DoorbellTest, RingingAllReachesSeatsThatAnnouncedNothing) {
  bell.sleepers = 1;
  ring_all(bell, futex);
  EXPECT_EQ(bell.sleepers, 0u);
  for (const auto& seat : bell.seats) EXPECT_EQ(seat, 1u);
}

TEST_F(DoorbellTest, ASleeperIsAnnouncedBeforeItLooksAndNotAfterItWakes) {
  bool looked = false;
  sleep_unless(bell, 5, futex, 100, [&] {
    looked = true;
    EXPECT_EQ(bell.sleepers, 1u << 5);
    return false;
  });
  EXPECT_TRUE(looked);
  EXPECT_EQ(futex.waits, 1);
  EXPECT_EQ(bell.sleepers, 0u);
  EXPECT_EQ(futex.now, 100u);
}

TEST_F(DoorbellTest, WhoFindsWorkDoesNotSleep) {
  sleep_unless(bell, 0, futex, 100, [] { return true; });
  EXPECT_EQ(futex.waits, 0);
  EXPECT_EQ(bell.sleepers, 0u);
}

// The ring comes between the last look and the sleep: the word has changed, the kernel refuses.
TEST_F(DoorbellTest, ARingBeforeTheSleepIsNotLost) {
  sleep_unless(bell, 0, futex, 100, [&] {
    ring(deployment.board, 1, futex);
    return false;
  });
  EXPECT_EQ(futex.now, 1u);
}

TEST_F(DoorbellTest, TheBitOfOtherSleepersStays) {
  bell.sleepers = 0b100;
  sleep_unless(bell, 0, futex, 10, nothing);
  EXPECT_EQ(bell.sleepers, 0b100u);
}

}  // namespace
}  // namespace opsplit::ipc
