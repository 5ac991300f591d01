// opsplitd dies: what runs goes on, and a successor takes it over. What ends with it, ends.
#include <gmock/gmock.h>

#include <algorithm>
#include <csignal>
#include <map>

#include "base/system.hpp"
#include "daemon/paths.hpp"
#include "tests/system/load.hpp"

namespace opsplit::test {
namespace {

using testing::HasSubstr;

class OpsplitdDeath : public SystemTest {
 protected:
  // Not by asking who it is: that would start a successor.
  void kill_opsplitd() {
    ::kill(opsplitd_, SIGKILL);
    EXPECT_TRUE(eventually([] { return lock_exclusive(daemon::daemon_lock_path).has_value(); }));
  }
  void remember_opsplitd() { opsplitd_ = ps()["pid"].get<pid_t>(); }

  // Of all instances of `digits`, by operator.
  static std::map<std::string, pid_t> pids() {
    std::map<std::string, pid_t> found;
    const json digits = deployment("digits");
    for (const json& entry : digits.at("instances"))
      found[entry["operator"].get<std::string>()] = entry["pid"].get<pid_t>();
    return found;
  }
  static bool all_ready() {
    const json digits = deployment("digits");
    if (!digits.is_object() || digits["phase"] != "ready") return false;
    for (const json& entry : digits["instances"])
      if (entry["state"] != "ready") return false;
    return true;
  }
  // Digits, split by type, under load from now on.
  Load up_and_load() {
    up({digits_model});
    find_answers("digits", 100, answers_);
    remember_opsplitd();
    return Load({.answers = answers_, .count = 100, .repeat = true});
  }
  static void expect_nothing_lost(Load& load) {
    const Report report = load.finish();
    EXPECT_EQ(report.wrong, 0u);
    EXPECT_EQ(report.failed, 0u) << report.error;
    EXPECT_EQ(report.epochs_lost, 0u);
  }
  static bool goes_on(const Load& load) {
    const std::uint64_t before = load.answered();
    return eventually([&] { return load.answered() > before + 100; });
  }

  const std::filesystem::path answers_ = folder() / "answers";
  pid_t opsplitd_ = 0;
};

TEST_F(OpsplitdDeath, RequestsGoOnAndTheSuccessorFindsTheSameProcesses) {
  Load load = up_and_load();
  const auto before = pids();
  const pid_t broker = ps()["broker"];
  for (int death = 0; death < 5; ++death) {
    kill_opsplitd();
    EXPECT_TRUE(goes_on(load)) << "without any opsplitd";
    ASSERT_TRUE(ps().is_object()) << "any command starts the successor";
    EXPECT_NE(ps()["pid"], opsplitd_);
    remember_opsplitd();
    EXPECT_EQ(pids(), before);
    EXPECT_EQ(ps()["broker"], broker);
    EXPECT_TRUE(all_ready());
    EXPECT_TRUE(goes_on(load));
  }
  EXPECT_EQ(deployment("digits")["clients"], 1);
  expect_nothing_lost(load);
  EXPECT_TRUE(eventually([] { return deployment("digits")["clients"] == 0; })) << "it has left";
  find_answers("digits", 50, answers_);
  down();
}

TEST_F(OpsplitdDeath, OneThatHangsIsKilledByItsSuccessor) {
  Load load = up_and_load();
  const auto before = pids();
  ::kill(opsplitd_, SIGSTOP);
  EXPECT_TRUE(goes_on(load)) << "without any opsplitd that acts";
  const Outcome ps = opsplit({"ps"});
  EXPECT_EQ(ps.status, 0) << ps.err;
  EXPECT_EQ(pids(), before);
  EXPECT_TRUE(eventually([&] {
    const auto alive = our_processes();
    return std::find(alive.begin(), alive.end(), opsplitd_) == alive.end();
  }));
  EXPECT_TRUE(goes_on(load));
  expect_nothing_lost(load);
  down();
}

TEST_F(OpsplitdDeath, AnOperatorThatDiesMeanwhileIsStartedBySuccessor) {
  Load load = up_and_load();
  const auto before = pids();
  kill_opsplitd();
  ::kill(before.at("conv"), SIGKILL);
  EXPECT_TRUE(eventually(all_ready));
  const auto after = pids();
  for (const auto& [op, pid] : before) EXPECT_EQ(after.at(op) == pid, op != "conv") << op;
  EXPECT_TRUE(goes_on(load));
  expect_nothing_lost(load);
  down();
}

TEST_F(OpsplitdDeath, SlotsOfAClientThatDiesMeanwhileComeBack) {
  up({digits_model});
  remember_opsplitd();
  Process client = hold_requests("digits", 8);
  kill_opsplitd();
  client.signal(SIGKILL);
  client.wait();
  EXPECT_TRUE(eventually([] {
    const json digits = deployment("digits");
    return digits["in_use"] == 0 && digits["clients"] == 0;
  }));
  find_answers("digits", 50, answers_);
  down();
}

TEST_F(OpsplitdDeath, TheBrokersDeathMeanwhileLeadsToTheNextEpoch) {
  up({digits_model});
  remember_opsplitd();
  const pid_t broker = ps()["broker"];
  const std::uint64_t epoch = deployment("digits")["epoch"];
  kill_opsplitd();
  ::kill(broker, SIGKILL);
  EXPECT_TRUE(eventually([&] { return all_ready() && deployment("digits")["epoch"] > epoch; }));
  find_answers("digits", 50, answers_);
  down();
}

TEST_F(OpsplitdDeath, OperatorsFollowTheSuccessorToOtherCores) {
  up({digits_model});
  remember_opsplitd();
  kill_opsplitd();
  const Outcome set = opsplit({"set", "digits/conv", "cores=0-0"});
  ASSERT_EQ(set.status, 0) << set.err;
  EXPECT_TRUE(eventually([] {
    const json conv = instance("digits", "conv");
    return conv["cores"] == "0" && conv["threads"] == 1 && !conv["changing"].get<bool>();
  })) << ps().dump(2);
  // And the one after that knows it.
  remember_opsplitd();
  kill_opsplitd();
  EXPECT_EQ(instance("digits", "conv")["cores"], "0");
  find_answers("digits", 50, answers_);
  down();
}

TEST_F(OpsplitdDeath, WhatEverybodysDeathLeavesIsRemoved) {
  for (int death = 0; death < 2; ++death) {
    up({digits_model});
    remember_opsplitd();
    kill_opsplitd();  // first: it would go on in another epoch if it saw the broker die
    for (const pid_t pid : our_processes()) ::kill(pid, SIGKILL);
    EXPECT_TRUE(eventually([] { return our_processes().empty(); }));
    EXPECT_FALSE(leftovers().empty());
  }
  EXPECT_TRUE(ps()["deployments"].empty());
  EXPECT_TRUE(eventually([&] { return leftovers().empty(); })) << "opsplitd has nothing to do";
}

TEST_F(OpsplitdDeath, CleanRefusesWhileSomethingLivesAndRemovesWhatDoesNot) {
  up({digits_model});
  remember_opsplitd();
  EXPECT_THAT(error_line(opsplit({"clean"})), HasSubstr("opsplitd runs"));
  kill_opsplitd();
  EXPECT_THAT(error_line(opsplit({"clean"})), HasSubstr("`opsplit down` ends what runs"));
  EXPECT_TRUE(all_ready());
  const std::uint64_t broker = ps()["broker"];
  for (const pid_t pid : our_processes())
    if (pid != static_cast<pid_t>(broker)) ::kill(pid, SIGKILL);
  EXPECT_TRUE(eventually([] { return our_processes().size() == 1; }));
  EXPECT_THAT(error_line(opsplit({"clean"})), HasSubstr("a broker is alive"));
  ::kill(static_cast<pid_t>(broker), SIGKILL);
  EXPECT_TRUE(eventually([] { return our_processes().empty(); }));
  Outcome clean;
  EXPECT_TRUE(eventually([&] { return (clean = opsplit({"clean"})).status == 0; })) << clean.err;
  EXPECT_THAT(clean.out, HasSubstr("removed /dev/shm/opsplit.digits.1.board"));
  EXPECT_TRUE(leftovers().empty());
  EXPECT_EQ(opsplit({"clean"}).out, "");
}

TEST_F(OpsplitdDeath, WhatIsTemporaryOrStartsEndsWithIt) {
  Process bench =
      start_opsplit({"bench", digits_model, "--splits", "fused", "--requests", "1000000"});
  ASSERT_TRUE(eventually([] {
    const json status = ps();
    return status.is_object() && !status["deployments"].empty() &&
           status["deployments"][0]["phase"] == "ready";
  }));
  remember_opsplitd();
  kill_opsplitd();
  EXPECT_EQ(bench.wait(20s).status, 1);
  EXPECT_TRUE(eventually([] { return our_processes().empty(); }));

  Process up = start_opsplit({"up", digits_model, "--split", "per-node"});
  ASSERT_TRUE(eventually([] {
    const json digits = deployment("digits");
    return digits.is_object() && digits["phase"] == "starting";
  }));
  remember_opsplitd();
  kill_opsplitd();
  EXPECT_EQ(up.wait(20s).status, 1);
  EXPECT_TRUE(ps().is_null() || eventually([] { return deployment("digits").is_null(); }));
  this->up({digits_model});
  find_answers("digits", 50, answers_);
  down();
}

}  // namespace
}  // namespace opsplit::test
