// The broker dies under load: no client waits for ever, and what comes back works.
#include <fmt/format.h>

#include <csignal>
#include <thread>

#include "tests/system/load.hpp"

namespace opsplit::test {
namespace {

using BrokerDeath = SystemTest;

pid_t broker_pid() {
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
    const pid_t victim = broker_pid();
    const std::uint64_t epoch = deployment("digits")["epoch"];
    ::kill(victim, SIGKILL);
    ASSERT_TRUE(eventually([&] {
      const json digits = deployment("digits"), other = deployment("other");
      return digits["epoch"] > epoch && digits["phase"] == "ready" && other["phase"] == "ready";
    })) << ps().dump(2);
    EXPECT_NE(broker_pid(), victim);
  }
  const Report report = finish(loads);
  EXPECT_GT(report.answered, 1000u);
  EXPECT_EQ(report.wrong, 0u);
  EXPECT_EQ(report.failed, 0u) << report.error;
  EXPECT_EQ(report.epochs_lost, 0u) << "what is under way is answered where it is";
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
    ASSERT_TRUE(eventually([&] { return (now = broker_pid()) != 0 && now != last; }))
        << ps().dump(2);
    ::kill(last = now, SIGKILL);
  }
  ASSERT_TRUE(eventually([&] {
    const json digits = deployment("digits");
    return digits.is_object() && digits["phase"] == "ready" && digits["epoch"] > epoch &&
           broker_pid() != last;
  })) << ps().dump(2);
  find_answers("digits", 50, folder() / "answers");
  down();
}

TEST_F(BrokerDeath, DownMeansDownWhileTheNextOneStarts) {
  for (int round = 0; round < 5; ++round) {
    up({digits_model});
    ::kill(broker_pid(), SIGKILL);
    // At different moments: before it is known, while the broker starts, while operators load.
    std::this_thread::sleep_for(std::chrono::milliseconds(50 * round));
    down();
    EXPECT_TRUE(ps().is_null());
  }
}

// Two clients that find each answer right, until they are told to stop; all kinds of broker trouble.
class NextEpoch : public SystemTest {
 protected:
  void SetUp() override {
    const auto file = folder() / "digits.yaml";
    // One that a test stops is the test's to kill.
    write_file(file,
               fmt::format("model: {}\noperators: {{conv: {{hung_after: 60}}}}\n", digits_model));
    up({file, "--reserve", reserve_});
    find_answers("digits", 400, answers_);
    for (std::uint32_t client = 0; client < 2; ++client)
      loads_.emplace_back(Load::Options{.answers = answers_,
                                        .first = client * 200,
                                        .count = 200,
                                        .in_flight = 3,
                                        .repeat = true});
    goes_on();
  }
  // Each client gets answers that it did not have before.
  void goes_on() {
    std::vector<std::uint64_t> before;
    for (const Load& load : loads_) before.push_back(load.answered());
    EXPECT_TRUE(eventually([&] {
      return loads_[0].answered() > before[0] + 50 && loads_[1].answered() > before[1] + 50;
    })) << ps().dump(2);
  }
  static bool ready_after(std::uint64_t epoch) {
    const json digits = deployment("digits");
    return digits.is_object() && digits["phase"] == "ready" && digits["epoch"] > epoch;
  }
  static bool has_earlier_epoch() { return deployment("digits").contains("retiring"); }
  void expect_nothing_lost() {
    const Report report = finish(loads_);
    EXPECT_EQ(report.wrong, 0u);
    EXPECT_EQ(report.failed, 0u) << report.error;
    EXPECT_EQ(report.epochs_lost, 0u);
    EXPECT_TRUE(eventually([] { return !has_earlier_epoch(); }));
    const json digits = deployment("digits");
    EXPECT_EQ(digits["in_use"], 0);
    down();
  }

  std::string reserve_ = "4096";
  std::filesystem::path answers_ = folder() / "answers";
  std::vector<Load> loads_;
};

TEST_F(NextEpoch, FollowsABrokerThatHangs) {
  const std::uint64_t epoch = deployment("digits")["epoch"];
  const pid_t broker = broker_pid();
  ::kill(broker, SIGSTOP);
  goes_on();
  EXPECT_TRUE(eventually([&] { return ready_after(epoch); }))
      << "nobody needs the broker: it is asked";
  EXPECT_NE(broker_pid(), broker);
  const json digits = deployment("digits");
  EXPECT_GE(digits["requests_done"], loads_[0].answered()) << "it is the same deployment";
  EXPECT_EQ(instance("digits", "conv")["restarts"], 0);
  goes_on();
  expect_nothing_lost();
}

// Whose broker takes a while to start.
class LargeNextEpoch : public NextEpoch {
 protected:
  LargeNextEpoch() { reserve_ = std::to_string(512 << 20); }
  // Zero, if there is none.
  static pid_t broker_besides(pid_t former) {
    for (const pid_t pid : our_processes()) {
      std::error_code ended;
      const auto program =
          std::filesystem::read_symlink(fmt::format("/proc/{}/exe", pid), ended).filename();
      if (program == "opsplit-broker" && pid != former) return pid;
    }
    return 0;
  }
};

TEST_F(LargeNextEpoch, IsEnteredWhenItIsReady) {
  const std::uint64_t epoch = deployment("digits")["epoch"];
  const pid_t former = broker_pid();
  ::kill(former, SIGKILL);
  pid_t next = 0;
  ASSERT_TRUE(eventually([&] { return (next = broker_besides(former)) != 0; }));
  ::kill(next, SIGSTOP);  // while it fills its pools
  goes_on();
  EXPECT_FALSE(ready_after(epoch)) << "the earlier one answers";
  ::kill(next, SIGCONT);
  EXPECT_TRUE(eventually([&] { return ready_after(epoch); }));
  goes_on();
  expect_nothing_lost();
}

TEST_F(NextEpoch, TakesWhatCannotBeAnsweredInTheEarlierOne) {
  const std::uint64_t epoch = deployment("digits")["epoch"];
  const pid_t victim = instance("digits", "conv")["pid"];
  ::kill(victim, SIGSTOP);
  EXPECT_TRUE(eventually([&] { return deployment("digits")["in_use"] == 6; })) << "all wait for it";
  ::kill(broker_pid(), SIGKILL);
  EXPECT_TRUE(eventually([&] { return ready_after(epoch); }));
  EXPECT_TRUE(has_earlier_epoch()) << "it waits for what is under way";
  ::kill(victim, SIGKILL);
  goes_on();
  expect_nothing_lost();
}

TEST_F(NextEpoch, IsStartedByASuccessorOfAnOpsplitdThatDiedInBetween) {
  for (int round = 0; round < 5; ++round) {
    const std::uint64_t epoch = deployment("digits")["epoch"];
    const pid_t opsplitd = ps()["pid"];
    ::kill(broker_pid(), SIGKILL);
    // At different moments: before it knows, while the broker starts, while operators load.
    std::this_thread::sleep_for(std::chrono::milliseconds(20 * round));
    ::kill(opsplitd, SIGKILL);
    EXPECT_TRUE(eventually([&] { return ready_after(epoch); })) << "in round " << round;
    goes_on();
  }
  expect_nothing_lost();
}

TEST_F(NextEpoch, LivesThroughTheDeathOfItsOpsplitd) {
  const std::uint64_t epoch = deployment("digits")["epoch"];
  ::kill(broker_pid(), SIGKILL);
  EXPECT_TRUE(eventually([&] { return ready_after(epoch); }));
  const json before = ps();
  ::kill(before["pid"].get<pid_t>(), SIGKILL);
  EXPECT_TRUE(eventually([&] { return ready_after(epoch) && ps()["pid"] != before["pid"]; }));
  EXPECT_EQ(broker_pid(), before["broker"]);
  EXPECT_EQ(deployment("digits")["epoch"], before["deployments"][0]["epoch"]);
  goes_on();
  expect_nothing_lost();
}

TEST_F(NextEpoch, BeginsForADeploymentThatThePoolsDoNotHold) {
  const std::uint64_t epoch = deployment("digits")["epoch"];
  const auto file = folder() / "deep.yaml";
  write_file(file, std::string("model: ") + digits_model + "\nname: deep\ndepth: 64\n");
  up({file});
  EXPECT_TRUE(eventually([&] { return ready_after(epoch); }));
  find_answers("deep", 50, folder() / "others");
  goes_on();
  expect_nothing_lost();
}

// As in containers: somebody else starts the broker, and starts it again.
class ForeignBroker : public SystemTest {
 protected:
  static std::string socket() { return socket_path().parent_path() / "broker.sock"; }
  static Process start_broker() {
    return Process({program("opsplit-broker"), "--socket", socket(), "--pool", "1MiB"});
  }
  static Process start_opsplitd() {
    return Process({program("opsplitd"), "--broker", socket(), "--up", digits_model});
  }
  static void end(Process& process) {
    process.signal(SIGTERM);
    EXPECT_EQ(process.wait(20s).status, 0);
  }
  static bool ready() {
    const json digits = deployment("digits");
    return digits.is_object() && digits["phase"] == "ready";
  }
};

TEST_F(ForeignBroker, ItsDeathIsMendedByWhoeverStartsItAgain) {
  Process opsplitd = start_opsplitd();  // waits for it
  std::uint64_t epoch = 0;
  for (int life = 0; life < 3; ++life) {
    Process first = start_broker();
    ASSERT_TRUE(eventually([&] {
      return ready() && deployment("digits")["epoch"] > epoch && broker_pid() == first.pid();
    })) << ps().dump(2)
        << opsplitd.err();
    epoch = deployment("digits")["epoch"];
    find_answers("digits", 50, folder() / "answers");
    first.signal(SIGKILL);
    first.wait();
  }
  Process last = start_broker();
  ASSERT_TRUE(eventually([&] { return ready() && broker_pid() == last.pid(); }));
  end(opsplitd);
  EXPECT_FALSE(last.has_ended()) << "it is not opsplitd's to end";
  end(last);
}

TEST_F(ForeignBroker, ASuccessorOfOpsplitdTakesItOver) {
  Process broker = start_broker();
  {
    Process opsplitd = start_opsplitd();
    ASSERT_TRUE(eventually(ready));
    opsplitd.signal(SIGKILL);
    opsplitd.wait();
  }
  Process opsplitd = start_opsplitd();
  // `ps` would start one that is not there yet.
  ASSERT_TRUE(eventually([&] { return opsplitd.err().find("taken over") != std::string::npos; }))
      << opsplitd.err();
  ASSERT_TRUE(eventually([&] { return ready() && broker_pid() == broker.pid(); }))
      << opsplitd.err();
  EXPECT_EQ(deployment("digits")["epoch"], 1);
  find_answers("digits", 50, folder() / "answers");
  end(opsplitd);
  end(broker);
}

TEST_F(ForeignBroker, NobodyWaitsForItsStartLongerThanForTheDeployment) {
  {
    Process opsplitd = start_opsplitd();  // and no broker
    ASSERT_TRUE(eventually([] { return deployment("digits").is_object(); }));
    opsplitd.signal(SIGTERM);
    opsplitd.wait(5s);
  }
  Process opsplitd({program("opsplitd"), "--broker", socket()});
  ASSERT_TRUE(eventually([] { return !ps().is_null(); }));
  Process up = start_opsplit({"up", digits_model});
  ASSERT_TRUE(eventually([] { return deployment("digits").is_object(); }));
  EXPECT_EQ(start_opsplit({"down", "digits"}).wait(5s).status, 0);
  EXPECT_NE(error_line(up.wait(5s)).find("stopped while it started"), std::string::npos);
  opsplitd.signal(SIGTERM);
  EXPECT_EQ(opsplitd.wait(5s).status, 0);
}

TEST_F(ForeignBroker, ItsEndForGoodKeepsNobody) {
  Process opsplitd = start_opsplitd();
  {
    Process broker = start_broker();
    ASSERT_TRUE(eventually(ready));
    broker.signal(SIGKILL);
    broker.wait();
  }
  ASSERT_TRUE(eventually([] { return !ready(); }));
  opsplitd.signal(SIGTERM);
  opsplitd.wait(10s);
  // What a killed broker leaves is its successor's to remove.
  Process next = start_broker();
  ASSERT_TRUE(eventually([&] { return next.err().find("ready") != std::string::npos; }));
  end(next);
}

TEST_F(ForeignBroker, OneThatHangsIsEndedWhenItIsNeeded) {
  Process broker(
      {program("opsplit-broker"), "--socket", socket(), "--pool", "1MiB", "--pool", "1MiB"});
  Process opsplitd = start_opsplitd();
  ASSERT_TRUE(eventually(ready));
  broker.signal(SIGSTOP);
  EXPECT_EQ(opsplit({"up", digits_model, "--name", "second"}).status, 1);
  EXPECT_EQ(broker.wait(5s).status, -SIGKILL);
  Process next = start_broker();
  ASSERT_TRUE(eventually([&] { return ready() && broker_pid() == next.pid(); }));
  end(opsplitd);
  end(next);
}

TEST_F(ForeignBroker, OpsplitdEndsWhenWhatItIsForDoesNotStart) {
  Process missing({program("opsplitd"), "--up", folder() / "nothing.onnx"});
  EXPECT_EQ(missing.wait(20s).status, 1);
  const auto file = folder() / "deep.yaml";
  write_file(file, std::string("model: ") + digits_model + "\nname: deep\ndepth: 64\n");
  Process broker = start_broker();
  Process too_large({program("opsplitd"), "--broker", socket(), "--up", file});
  const Outcome refused = too_large.wait(20s);
  EXPECT_EQ(refused.status, 1);
  EXPECT_NE(refused.err.find("start the broker with --pool"), std::string::npos) << refused.err;
  end(broker);
}

TEST_F(ForeignBroker, ADeploymentThatItsPoolsDoNotHoldIsRefused) {
  Process broker = start_broker();
  const auto file = folder() / "deep.yaml";
  write_file(file, std::string("model: ") + digits_model + "\nname: deep\ndepth: 64\n");
  Process opsplitd({program("opsplitd"), "--broker", socket()});
  ASSERT_TRUE(eventually([] { return !ps().is_null(); }));
  up({digits_model});
  EXPECT_NE(error_line(opsplit({"up", file})).find("bytes are missing"), std::string::npos);
  end(opsplitd);
  end(broker);
}

}  // namespace
}  // namespace opsplit::test
