// The broker or opsplitd dies under load: no client waits for ever, and what comes back works.
#include <csignal>

#include "tests/system/load.hpp"

namespace opsplit::test {
namespace {

using BrokerDeath = SystemTest;

pid_t broker() {
  const json status = ps();
  return status.is_null() ? 0 : status["broker"].get<pid_t>();
}

TEST_F(BrokerDeath, ClientsGoOnInTheNextEpochFiveTimesOver) {
  up({digits_model});
  up({digits_model, "--name", "other", "--split", "fused"});
  const auto answers = folder() / "answers";
  find_answers("digits", 400, answers);
  std::vector<Load> loads;
  for (std::uint32_t client = 0; client < 2; ++client)
    loads.emplace_back(Load::Options{
        .answers = answers, .first = client * 200, .count = 200, .in_flight = 3, .repeat = true});

  for (int death = 0; death < 5; ++death) {
    // They work in this epoch, all of them, and then it is over.
    std::vector<std::uint64_t> before;
    for (const Load& load : loads) before.push_back(load.answered());
    ASSERT_TRUE(eventually([&] {
      return loads[0].answered() > before[0] + 100 && loads[1].answered() > before[1] + 100;
    })) << "after death "
        << death;
    const pid_t victim = broker();
    const std::uint64_t epoch = deployment("digits")["epoch"];
    ::kill(victim, SIGKILL);
    ASSERT_TRUE(eventually([&] {
      const json digits = deployment("digits"), other = deployment("other");
      return digits["epoch"] > epoch && digits["phase"] == "ready" && other["phase"] == "ready";
    })) << ps().dump(2);
    EXPECT_NE(broker(), victim);
  }
  const Report report = finish(loads);
  EXPECT_GT(report.answered, 1000u);
  EXPECT_EQ(report.wrong, 0u);
  EXPECT_EQ(report.failed, 0u) << report.error;
  EXPECT_GT(report.epochs_lost, 0u);
  find_answers("other", 50, answers);
  down();
}

TEST_F(BrokerDeath, TwiceInARowWhileTheFirstIsStillBeingDealtWith) {
  up({digits_model});
  const std::uint64_t epoch = deployment("digits")["epoch"];
  pid_t last = 0;
  for (int death = 0; death < 3; ++death) {
    // At once when there is a new one: its operators are only starting.
    pid_t now = 0;
    ASSERT_TRUE(eventually([&] { return (now = broker()) != 0 && now != last; })) << ps().dump(2);
    ::kill(last = now, SIGKILL);
  }
  ASSERT_TRUE(eventually([&] {
    const json digits = deployment("digits");
    return digits.is_object() && digits["phase"] == "ready" && digits["epoch"] > epoch &&
           broker() != last;
  })) << ps().dump(2);
  find_answers("digits", 50, folder() / "answers");
  down();
}

TEST_F(BrokerDeath, NothingRunsOnWithoutOpsplitdAndTheNextUpCleansUp) {
  for (int death = 0; death < 2; ++death) {
    up({digits_model});
    const auto answers = folder() / "answers";
    find_answers("digits", 100, answers);
    Load load({.answers = answers, .count = 100, .repeat = true});
    ASSERT_TRUE(eventually([&] { return load.answered() > 50; }));
    ::kill(ps()["pid"].get<pid_t>(), SIGKILL);
    EXPECT_TRUE(eventually([&] { return our_processes() == std::vector{load.process().pid()}; }));
    // Its client is told, too: it ends by itself, with errors in place of answers.
    const Report report = load.finish();
    EXPECT_EQ(report.wrong, 0u);
    EXPECT_EQ(report.error.find("no answer within"), std::string::npos) << report.error;
  }
  up({digits_model});
  find_answers("digits", 50, folder() / "answers");
  down();
}

}  // namespace
}  // namespace opsplit::test
