#include "daemon/chaos.hpp"

#include <gmock/gmock.h>

namespace opsplit::daemon {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using Kind = RequestEvent::Kind;

TEST(ChaosSchedule, IsTheSameForTheSameSeed) {
  const auto faults = chaos_schedule(all_victims, true, 7, 60s, 1s);
  const auto again = chaos_schedule(all_victims, true, 7, 60s, 1s);
  ASSERT_EQ(faults.size(), again.size());
  for (std::size_t i = 0; i < faults.size(); ++i) {
    EXPECT_EQ(faults[i].at, again[i].at);
    EXPECT_EQ(faults[i].pick, again[i].pick);
  }
  EXPECT_NE(chaos_schedule(all_victims, true, 8, 60s, 1s).front().at, faults.front().at);
}

TEST(ChaosSchedule, StrikesAllThatItMayAtTheIntervalThatIsAskedFor) {
  const auto faults = chaos_schedule(all_victims, true, 1, 4000s, 1s);
  EXPECT_NEAR(static_cast<double>(faults.size()), 4000, 400);
  std::map<Victim, int> killed, stopped;
  for (std::size_t i = 0; i < faults.size(); ++i) {
    ++(faults[i].hangs ? stopped : killed)[faults[i].victim];
    EXPECT_LT(faults[i].at, 4000s);
    if (i > 0) {
      EXPECT_GE(faults[i].at - faults[i - 1].at, 100ms);
    }
  }
  for (const Victim victim : all_victims) EXPECT_GT(killed[victim], 300) << to_string(victim);
  EXPECT_EQ(stopped[Victim::client], 0) << "nobody would kill it";
  EXPECT_GT(stopped[Victim::broker], 300);
}

TEST(ChaosSchedule, StrikesNothingElse) {
  for (const Fault& fault : chaos_schedule(std::array{Victim::broker}, false, 1, 100s, 1s)) {
    EXPECT_EQ(fault.victim, Victim::broker);
    EXPECT_FALSE(fault.hangs);
  }
  EXPECT_TRUE(chaos_schedule({}, true, 1, 100s, 1s).empty());
}

TEST(Victim, IsKnownByItsName) {
  for (const Victim victim : all_victims) EXPECT_EQ(parse_victim(to_string(victim)), victim);
  EXPECT_FALSE(parse_victim("everything"));
}

class ChaosAccountTest : public testing::Test {
 protected:
  void event(Kind kind, std::uint32_t client, std::uint64_t request, std::uint64_t sent_ms,
             std::uint64_t at_ms) {
    account.add({kind, client, request, sent_ms * 1'000'000, at_ms * 1'000'000});
  }
  ChaosAccount account;
};

TEST_F(ChaosAccountTest, EachRequestHasOneOutcome) {
  for (std::uint64_t request = 0; request < 6; ++request) event(Kind::sent, 1, request, 0, 0);
  event(Kind::answered, 1, 0, 0, 1);
  event(Kind::wrong, 1, 1, 0, 1);
  event(Kind::refused, 1, 2, 0, 1);
  event(Kind::epoch_lost, 1, 3, 0, 1);
  event(Kind::lost, 1, 4, 0, 1);
  account.close();
  const auto& count = account.count();
  EXPECT_EQ(count.requests, 6u);
  EXPECT_EQ(count.answered, 1u);
  EXPECT_EQ(count.wrong, 1u);
  EXPECT_EQ(count.refused, 1u);
  EXPECT_EQ(count.epochs_lost, 1u);
  EXPECT_EQ(count.lost, 2u) << "one says so, of one nothing was heard";
  EXPECT_EQ(count.doubled, 0u);
}

TEST_F(ChaosAccountTest, ASecondAnswerIsSeen) {
  event(Kind::sent, 1, 0, 0, 0);
  event(Kind::answered, 1, 0, 0, 1);
  event(Kind::answered, 1, 0, 0, 2);
  event(Kind::answered, 2, 0, 0, 2);  // of a request that nobody sent
  EXPECT_EQ(account.count().doubled, 2u);
  EXPECT_EQ(account.count().answered, 1u);
}

TEST_F(ChaosAccountTest, WhatDiesWithItsClientIsNotLost) {
  event(Kind::sent, 1, 0, 0, 0);
  event(Kind::sent, 1, 1, 0, 0);
  event(Kind::sent, 2, 0, 0, 0);
  event(Kind::answered, 1, 0, 0, 1);
  account.client_died(1);
  account.close();
  EXPECT_EQ(account.count().died_with_client, 1u);
  EXPECT_EQ(account.count().lost, 1u) << "of the other client";
}

TEST_F(ChaosAccountTest, AClientThatEndsByItselfLosesItsRequests) {
  event(Kind::sent, 1, 0, 0, 0);
  event(Kind::sent, 1, 1, 0, 0);
  account.client_failed(1);
  account.client_failed(2);
  EXPECT_EQ(account.count().lost, 3u);
}

TEST_F(ChaosAccountTest, RecoveryIsTheFirstAnswerToARequestSentAfterTheFault) {
  for (std::uint64_t request = 0; request < 4; ++request)
    event(Kind::sent, 1, request, 10 * request, 10 * request);
  event(Kind::answered, 1, 0, 0, 3);
  account.begin();
  for (std::uint64_t request = 4; request < 6; ++request) event(Kind::sent, 1, request, 0, 0);
  event(Kind::answered, 1, 4, 0, 5);
  account.fault_struck(Victim::operators, 15'000'000);
  event(Kind::answered, 1, 1, 10, 40);
  EXPECT_TRUE(account.recoveries().empty()) << "that was sent before";
  event(Kind::answered, 1, 2, 20, 42);
  EXPECT_THAT(account.recoveries().at(Victim::operators), ElementsAre(27.0));
  account.fault_struck(Victim::broker, 50'000'000);
  event(Kind::answered, 1, 3, 30, 60);
  EXPECT_EQ(account.unrecovered(), 1u);
  EXPECT_EQ(account.longest_silence_ms(), 35.0);
}

TEST_F(ChaosAccountTest, LatencyIsToldApartByTheFaultThatStruckMeanwhile) {
  for (std::uint64_t request = 0; request < 5; ++request) event(Kind::sent, 1, request, 0, 0);
  event(Kind::answered, 1, 0, 0, 3);
  account.fault_struck(Victim::broker, 20'000'000);
  account.fault_struck(Victim::operators, 30'000'000);
  event(Kind::answered, 1, 1, 10, 15);  // heard of later
  event(Kind::answered, 1, 2, 18, 40);  // through both
  event(Kind::answered, 1, 3, 25, 31);
  event(Kind::answered, 1, 4, 31, 33);
  const auto& latencies = account.latencies();
  EXPECT_THAT(latencies.before, ElementsAre(3.0, 5.0));
  EXPECT_THAT(latencies.under_way.at(Victim::broker), ElementsAre(22.0));
  EXPECT_THAT(latencies.under_way.at(Victim::operators), ElementsAre(6.0));
  EXPECT_THAT(latencies.others, ElementsAre(2.0));
}

}  // namespace
}  // namespace opsplit::daemon
