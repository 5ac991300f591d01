// `opsplit chaos`: its verdict on us, and whether it can be believed.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <csignal>
#include <thread>

#include "base/system.hpp"
#include "tests/system/load.hpp"

namespace opsplit::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class Chaos : public SystemTest {
 protected:
  [[nodiscard]] std::string file() const { return folder() / "verdict.json"; }
  [[nodiscard]] std::vector<std::string> command(std::vector<std::string> options) const {
    options.insert(options.begin(), {"chaos", "digits", "--json", file()});
    return options;
  }
  [[nodiscard]] json verdict(const std::vector<std::string>& options) const {
    const Outcome outcome = start_opsplit(command(options)).wait(2h);  // CTest has limits, too
    EXPECT_EQ(outcome.status, 0) << outcome.out << outcome.err;
    return json::parse(opsplit::read_file(file(), 64 << 20).value_or("{}"));
  }
  static void expect_nothing_lost(const json& verdict) {
    EXPECT_GT(verdict["answers"], 100) << verdict.dump(2);
    for (const char* what : {"lost", "doubled", "wrong", "epochs_lost", "unrecovered"})
      EXPECT_EQ(verdict[what], 0) << what;
    EXPECT_THAT(verdict["leaks"], IsEmpty());
    EXPECT_EQ(verdict["requests"], verdict["answers"].get<std::uint64_t>() +
                                       verdict["refused"].get<std::uint64_t>() +
                                       verdict["died_with_client"].get<std::uint64_t>());
  }
  static int struck(const json& verdict, const std::string& kind) {
    int count = 0;
    for (const json& fault : verdict["faults"])
      count += fault["kind"] == kind && fault["victim"] != "" ? 1 : 0;
    return count;
  }
};

TEST_F(Chaos, NothingIsLostWhateverIsKilled) {
  up({digits_model});
  const json result = verdict({"--for", "15s", "--every", "400ms"});
  expect_nothing_lost(result);
  for (const char* kind : {"operators", "daemon", "broker", "client"})
    EXPECT_GT(struck(result, kind), 2) << kind;
  EXPECT_GT(result["died_with_client"], 0);
  down();
}

TEST_F(Chaos, NothingIsLostWhateverHangs) {
  const auto file = folder() / "digits.yaml";
  write_file(file, fmt::format("name: digits\nmodel: {}\nsplit: by-type\n"
                               "operators:\n  conv: {{standby: 1}}\n",
                               digits_model));
  up({file});
  const json result =
      verdict({"--for", "15s", "--kill", "operators,broker", "--hang", "--seed", "5"});
  expect_nothing_lost(result);
  EXPECT_GT(struck(result, "operators"), 2);
  EXPECT_GT(struck(result, "broker"), 2);
  down();
}

// As often as opsplitd stands it: three times in ten seconds for each instance.
class KilledOften : public Chaos {
 protected:
  // How many had which state.
  std::map<std::string, int> kill_operators(const std::string& time, int at_least,
                                            const std::string& model, const std::string& split,
                                            const std::vector<std::string>& operators) {
    const auto file = folder() / "often.yaml";
    std::string text =
        fmt::format("name: digits\nmodel: {}\nsplit: {}\noperators:\n", model, split);
    for (const std::string& op : operators) text += fmt::format("  {}: {{instances: 2}}\n", op);
    write_file(file, text);
    up({file});
    const json result = verdict({"--for", time, "--every", "250ms", "--kill", "operators"});
    expect_nothing_lost(result);
    EXPECT_GE(struck(result, "operators"), at_least);
    std::map<std::string, int> states;
    for (const json& fault : result["faults"])
      if (fault["victim"] != "") ++states[fault["state"]];
    for (const auto& [state, count] : states) fmt::print("killed while {}: {}\n", state, count);
    down();
    return states;
  }
  std::map<std::string, int> kill_digits_operators(const std::string& time, int at_least) {
    return kill_operators(time, at_least, digits_model, "by-type",
                          {"conv", "relu", "maxpool", "gemm", "softmax"});
  }
};

TEST_F(KilledOften, OperatorsOfSeveralInstances) { kill_digits_operators("90s", 200); }

using LightKilledOften = KilledOften;
TEST_F(LightKilledOften, StagesOfSqueezenet) {
  const std::string model = OPSPLIT_LIGHT_DIR "/light_squeezenet/model.onnx";
  if (!std::filesystem::exists(model)) GTEST_SKIP() << model << ": see scripts/python_env.sh";
  kill_operators("60s", 100, model, "stages:4", {"stage1", "stage2", "stage3", "stage4"});
}

TEST_F(Chaos, ThreeMinutesLeakNothing) {
  up({digits_model});
  expect_nothing_lost(verdict({"--for", "3min", "--every", "15s"}));
  down();
}

using LongKilledOften = KilledOften;
TEST_F(LongKilledOften, FiveThousandTimes) {
  EXPECT_GT(kill_digits_operators("30min", 5000)["starting"], 0);
}

class LongChaos : public Chaos {
 protected:
  // Of the same fault again and again.
  void expect_nothing_lost_in(const std::string& time, const std::string& kind, bool hangs) {
    up({digits_model});
    std::vector<std::string> options = {"--for", time, "--every", "1s", "--kill", kind};
    if (hangs) options.emplace_back("--hang");
    const json result = verdict(options);
    expect_nothing_lost(result);
    EXPECT_GE(struck(result, kind), 100);
    down();
  }
};

TEST_F(LongChaos, AHundredBrokersDie) { expect_nothing_lost_in("7min", "broker", false); }
TEST_F(LongChaos, TwoHundredBrokersDieOrHang) { expect_nothing_lost_in("12min", "broker", true); }
TEST_F(LongChaos, AHundredOpsplitdsDie) { expect_nothing_lost_in("7min", "daemon", false); }

TEST_F(LongChaos, AnHourWithAFaultAMinuteLeaksNothing) {
  up({digits_model});
  expect_nothing_lost(verdict({"--for", "1h", "--every", "1min"}));
  down();
}

TEST_F(Chaos, TheSameSeedMakesTheSameFaults) {
  up({digits_model});
  const std::vector<std::string> options = {"--for",  "2s", "--every", "200ms",
                                            "--seed", "9",  "--kill",  "operators"};
  const auto schedule = [&] {
    json faults = verdict(options)["faults"];
    for (json& fault : faults) {  // who was alive is another thing
      fault.erase("victim");
      fault.erase("state");
    }
    return faults;
  };
  const json first = schedule();
  EXPECT_GT(first.size(), 3u);
  down();
  up({digits_model});  // else its instances would have died too often
  EXPECT_EQ(schedule(), first);
  down();
}

TEST_F(Chaos, EndsEarlyWithTheVerdictSoFar) {
  up({digits_model});
  Process chaos = start_opsplit(command({"--for", "10min", "--kill", "operators"}));
  EXPECT_TRUE(eventually([] { return instance("digits", "conv")["tasks_done"] > 1000; }));
  chaos.signal(SIGINT);
  const Outcome outcome = chaos.wait(60s);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("nothing lost, doubled, wrong or left"));
  EXPECT_EQ(deployment("digits")["in_use"], 0);
  down();
}

TEST_F(Chaos, ItsOwnDeathLeavesNothing) {
  up({digits_model});
  {
    Process chaos = start_opsplit(command({"--for", "10min", "--kill", "broker"}));
    EXPECT_TRUE(eventually([] { return instance("digits", "conv")["tasks_done"] > 1000; }));
    chaos.signal(SIGKILL);
    chaos.wait();
  }
  EXPECT_TRUE(eventually([] { return deployment("digits")["clients"] == 0; }));
  EXPECT_TRUE(eventually([] { return deployment("digits")["in_use"] == 0; }));
  down();
}

// One that looks like an operator of this opsplitd.
class Leak : public Chaos {
 protected:
  [[nodiscard]] json verdict_with_process(const std::vector<std::string>& prefix) const {
    const auto program = folder() / "opsplit-operator";
    std::filesystem::copy_file("/usr/bin/tail", program);
    std::vector<std::string> arguments = prefix;
    for (const std::string& argument :
         {program.string(), std::string("-F"), (socket_path().parent_path() / "leak").string()})
      arguments.push_back(argument);
    Process chaos = start_opsplit(command({"--for", "2s", "--kill", "operators"}));
    EXPECT_TRUE(eventually([] { return instance("digits", "conv")["tasks_done"] > 1000; }));
    Process leaked(arguments);
    chaos.wait();
    EXPECT_FALSE(leaked.has_ended()) << leaked.err();
    return json::parse(opsplit::read_file(file(), 64 << 20).value_or("{}"));
  }
};

TEST_F(Leak, IsAProcessThatIsLeft) {
  up({digits_model});
  EXPECT_THAT(verdict_with_process({})["leaks"],
              ElementsAre("operators and brokers: 6 before, 7 after"));
  down();
}

TEST_F(Leak, IsNotAProcessOfAnotherNamespace) {
  up({digits_model});
  EXPECT_THAT(verdict_with_process({"/usr/bin/unshare", "--ipc"})["leaks"], IsEmpty());
  down();
}

TEST_F(Chaos, RefusesWhatItCannotDo) {
  EXPECT_THAT(error_line(opsplit(command({}))), HasSubstr("opsplitd does not run"));
  up({digits_model});
  EXPECT_THAT(error_line(opsplit({"chaos", "other"})), HasSubstr("no deployment 'other'"));
  EXPECT_THAT(error_line(opsplit(command({"--kill", "everything"}))),
              HasSubstr("operators, daemon, broker and client"));
  EXPECT_THAT(error_line(opsplit(command({"--clients", "9"}))), HasSubstr("8 slots"));
  EXPECT_EQ(opsplit(command({"--for", "soon"})).status, 2);
  down();
}

}  // namespace
}  // namespace opsplit::test
