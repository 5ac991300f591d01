// The opsplit command as a user types it.
#include <gmock/gmock.h>

#include <csignal>
#include <cstring>
#include <fstream>

#include "daemon/npy.hpp"
#include "tests/system/load.hpp"

namespace opsplit::test {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::IsEmpty;

class Cli : public SystemTest {
 protected:
  std::string input(const std::string& name, const TensorType& type) {
    const auto file = folder() / name;
    write_file(file, daemon::npy_header(type).value() +
                         std::string(byte_size(type, Layout::row_major).value(), '\0'));
    return file;
  }
  std::string image() { return "image=" + input("image.npy", {float32, {1, 1, 8, 8}}); }
  [[nodiscard]] std::filesystem::path answer() const {
    return folder() / "out" / "probabilities.npy";
  }
};

std::uint64_t tasks_done() {
  std::uint64_t sum = 0;
  const json digits = deployment("digits");
  for (const json& entry : digits["instances"]) sum += entry["tasks_done"].get<std::uint64_t>();
  return sum;
}

TEST_F(Cli, VersionHelpAndMistakes) {
  const Outcome version = opsplit({"--version"});
  EXPECT_EQ(version.status, 0);
  EXPECT_THAT(version.out, HasSubstr(OPSPLIT_VERSION));
  EXPECT_EQ(opsplit({"--help"}).status, 0);
  EXPECT_THAT(opsplit({"up", "--help"}).out, HasSubstr("Example"));
  EXPECT_EQ(opsplit({}).status, 2);
  EXPECT_EQ(opsplit({"frobnicate"}).status, 2);
  EXPECT_EQ(opsplit({"up"}).status, 2);
  EXPECT_EQ(opsplit({"up", digits_model, "--no-such-option"}).status, 2);
}

TEST_F(Cli, WithoutADaemonCommandsSayHowToStartOne) {
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"ps"},
        {"down"},
        {"logs", "digits/conv"},
        {"infer", "digits", "--input", image(), "--output-dir", folder()}})
    EXPECT_THAT(error_line(opsplit(command)), HasSubstr("`opsplit up` starts it"));
}

TEST_F(Cli, InitPrintsAFileThatPlanUnderstands) {
  std::filesystem::copy_file(digits_model, folder() / "digits.onnx");
  const Outcome init = opsplit({"init"});
  EXPECT_EQ(init.status, 0);
  write_file(folder() / "init.yaml", init.out);
  const Outcome plan = opsplit({"plan", folder() / "init.yaml"});
  EXPECT_EQ(plan.status, 0) << plan.err;
  EXPECT_EQ(plan.out, opsplit({"plan", digits_model}).out);
}

TEST_F(Cli, PlanShowsOperatorsTensorsAndBytesAndStartsNothing) {
  const Outcome plan = opsplit({"plan", digits_model, "--split", "by-type"});
  EXPECT_EQ(plan.status, 0) << plan.err;
  for (const char* op : {"conv ", "relu ", "maxpool ", "gemm ", "softmax "})
    EXPECT_THAT(plan.out, HasSubstr(op));
  EXPECT_THAT(plan.out, HasSubstr("5 operators, 12 tasks, 14 tensors that cross"));
  EXPECT_THAT(plan.out, testing::ContainsRegex(
                            "8 slots, a workspace of [0-9]+ bytes: an arena of [0-9]+ bytes"));
  EXPECT_THAT(plan.out, testing::ContainsRegex("probabilities +float32 1x10 .*softmax +client"));
  const Outcome dot = opsplit({"plan", digits_model, "--dot"});
  EXPECT_TRUE(dot.out.starts_with("digraph")) << dot.out;
  EXPECT_THAT(opsplit({"plan", digits_model, "--split", "fused"}).out, HasSubstr("1 operators"));
  EXPECT_THAT(leftovers(), IsEmpty());
}

TEST_F(Cli, UpPsInferLogsDown) {
  const Outcome up = opsplit({"up", OPSPLIT_SOURCE_DIR "/examples/digits/digits.yaml"});
  EXPECT_EQ(up.status, 0) << up.err;
  for (const char* op : {"conv", "relu", "maxpool", "gemm", "softmax"}) {
    EXPECT_THAT(up.out, HasSubstr(op));
    EXPECT_EQ(instance("digits", op)["state"], "ready");
  }
  EXPECT_THAT(opsplit({"ps"}).out, HasSubstr("digits: ready, digits.onnx split by-type"));

  const Outcome infer =
      opsplit({"infer", "digits", "--input", image(), "--output-dir", folder() / "out"});
  EXPECT_EQ(infer.status, 0) << infer.err;
  EXPECT_EQ(std::filesystem::file_size(answer()), 128 + 40);
  EXPECT_EQ(tasks_done(), 12u);

  EXPECT_EQ(opsplit({"logs", "digits/conv"}).status, 0);
  EXPECT_THAT(error_line(opsplit({"logs", "digits/cnov"})), HasSubstr("digits/cnov"));
  EXPECT_THAT(error_line(opsplit({"down", "other"})), HasSubstr("no deployment 'other'"));

  const Outcome down = opsplit({"down", "digits"});
  EXPECT_EQ(down.status, 0) << down.err;
  EXPECT_EQ(down.out, "1 deployment stopped\n");
  // At once, without waiting for anything.
  EXPECT_THAT(leftovers(), IsEmpty());
}

TEST_F(Cli, InferRefusesWhatDoesNotFitBeforeAnythingIsSent) {
  up({digits_model});
  const auto refused = [&](const std::vector<std::string>& inputs) {
    std::vector<std::string> command = {"infer", "digits", "--output-dir", folder() / "out"};
    for (const std::string& one : inputs) command.insert(command.end(), {"--input", one});
    return error_line(opsplit(command));
  };
  EXPECT_THAT(refused({"picture=" + input("a.npy", {float32, {1, 1, 8, 8}})}), HasSubstr("image"));
  EXPECT_THAT(refused({image(), "picture=" + input("a.npy", {float32, {1, 1, 8, 8}})}),
              HasSubstr("no input 'picture', it has: image"));
  EXPECT_THAT(refused({"image=" + input("b.npy", {uint8, {1, 1, 8, 8}})}),
              HasSubstr("is uint8 1x1x8x8, the deployment takes float32 1x1x8x8"));
  EXPECT_THAT(refused({"image=" + input("c.npy", {float32, {1, 1, 9, 8}})}),
              HasSubstr("is float32 1x1x9x8, the deployment takes float32 1x1x8x8"));
  EXPECT_THAT(refused({image(), image()}), HasSubstr("given twice"));
  EXPECT_THAT(refused({"image=" + (folder() / "missing.npy").string()}), HasSubstr("missing.npy"));
  EXPECT_EQ(tasks_done(), 0u);
  EXPECT_FALSE(std::filesystem::exists(answer()));
  down();
}

TEST_F(Cli, RunIsUpInferAndDownInOne) {
  const std::vector<std::string> run = {"run",   digits_model,   "--input",
                                        image(), "--output-dir", folder() / "out"};
  for (const char* split : {"fused", "by-type", "per-node", "stages:3"}) {
    auto command = run;
    command.insert(command.end(), {"--split", split});
    const Outcome outcome = opsplit(command);
    EXPECT_EQ(outcome.status, 0) << split << ": " << outcome.err;
    EXPECT_TRUE(std::filesystem::remove(answer())) << split;
    EXPECT_THAT(leftovers(), IsEmpty()) << split;
  }
}

TEST_F(Cli, SeveralDeploymentsAtOnce) {
  up({digits_model, "--name", "one", "--reserve", "1MB"});
  up({digits_model, "--name", "two", "--split", "stages:2"});
  find_answers("one", 20, folder() / "one");
  find_answers("two", 20, folder() / "two");

  const std::string taken = error_line(opsplit({"up", digits_model, "--name", "two"}));
  EXPECT_THAT(taken, HasSubstr("a deployment 'two' runs already"));
  EXPECT_THAT(taken, HasSubstr("--name"));

  // What one gives back, another one gets.
  const std::uint64_t epoch = deployment("one")["epoch"];
  EXPECT_EQ(opsplit({"down", "two"}).status, 0);
  up({digits_model, "--name", "three"});
  find_answers("three", 20, folder() / "three");
  EXPECT_EQ(deployment("one")["epoch"], epoch);

  // And for one that does not fit there is another epoch.
  up({digits_model, "--name", "four"});
  find_answers("four", 20, folder() / "four");
  find_answers("one", 20, folder() / "one");
  EXPECT_GT(deployment("one")["epoch"], epoch);
  down();
}

TEST_F(Cli, LogsFollowWhatIsWrittenLater) {
  up({digits_model});
  const std::string log = instance("digits", "conv")["log"];
  Process logs = start_opsplit({"logs", "digits/conv", "-f"});
  for (const std::string line : {"first line\n", "second line\n"}) {
    std::ofstream(log, std::ios::app) << line;
    EXPECT_TRUE(eventually([&] { return logs.out().ends_with(line); })) << logs.out();
  }
  down();
  EXPECT_EQ(logs.wait().status, 0);
}

TEST_F(Cli, BenchComparesSplitsAndLeavesNothing) {
  const auto file = folder() / "bench.json";
  const Outcome bench = opsplit({"bench", digits_model, "--splits", "fused,by-type", "--requests",
                                 "20", "--concurrency", "2", "--json", file});
  ASSERT_EQ(bench.status, 0) << bench.err;
  EXPECT_THAT(bench.out, HasSubstr("by-type"));
  const json report = json::parse(std::ifstream(file));
  ASSERT_EQ(report["splits"].size(), 2u);
  for (const json& split : report["splits"]) {
    EXPECT_EQ(split["bytes_copied"], 0);
    EXPECT_LT(split["worst_error"], 1e-3);
  }
}

TEST_F(Cli, DoctorAndCompletionAnswer) {
  const Outcome doctor = opsplit({"doctor"});
  EXPECT_THAT(doctor.out, HasSubstr("/dev/shm"));
  EXPECT_THAT(
      doctor.out,
      ContainsRegex("GPU +none: (no NVIDIA driver|this opsplit is built without CUDA|an NVIDIA "
                    "driver, but no GPU)|GPU driver +CUDA [0-9]"));
  EXPECT_THAT(opsplit({"completion"}).out, HasSubstr("bench"));
}

TEST_F(Cli, TheDigitsExampleClassifiesWhatItWasNeverTrainedOn) {
  up({OPSPLIT_SOURCE_DIR "/examples/digits/digits.yaml"});
  const Outcome classify = Process({program("digits-classify")}).wait();
  EXPECT_EQ(classify.status, 0) << classify.err;
  const auto found = classify.out.find("accuracy ");
  ASSERT_NE(found, std::string::npos) << classify.out;
  EXPECT_GE(std::stod(classify.out.substr(found + 9)), 97.0);
  down();
}

TEST_F(Cli, WhoeverReadsItsOutputMayGoAway) {
  const auto shell = [](const std::string& arguments) {
    return Process({"/bin/sh", "-c", program("opsplit") + " " + arguments}).wait();
  };
  EXPECT_EQ(shell(std::string("up ") + digits_model + " 2>/dev/full").status, 0);
  EXPECT_EQ(deployment("digits")["phase"], "ready");
  const Outcome full = shell("ps >/dev/full");
  EXPECT_THAT(error_line(full), HasSubstr("standard output"));
  EXPECT_EQ(shell("ps >&- 2>&- <&-").status, 0);
  down();
}

TEST_F(Cli, ADaemonThatWasStartedForNothingEndsWithItsLastCaller) {
  Process daemon({program("opsplitd"), "--exit-when-empty"});
  ASSERT_TRUE(eventually([] { return ps().is_object(); }));
  EXPECT_EQ(daemon.wait(10s).status, 0);
}

TEST_F(Cli, ADaemonStartsWhatItIsToldToAndStopsItAtItsEnd) {
  Process daemon({program("opsplitd"), "--up", digits_model});
  ASSERT_TRUE(eventually([] {
    const json digits = ps().is_object() ? deployment("digits") : json();
    return !digits.is_null() && digits["phase"] == "ready";
  }));
  find_answers("digits", 20, folder() / "answers");
  daemon.signal(SIGTERM);
  EXPECT_EQ(daemon.wait(20s).status, 0);
}

TEST_F(Cli, ASecondDaemonIsRefusedByName) {
  up({digits_model});
  const auto pid = std::to_string(ps()["pid"].get<pid_t>());
  // In the same folder, and in another one with the same /dev/shm.
  const Outcome same = Process({program("opsplitd")}).wait(10s);
  EXPECT_EQ(same.status, 1);
  EXPECT_THAT(same.err, HasSubstr(pid));
  const Outcome other =
      opsplit({"--folder", folder() / "second", "up", digits_model, "--name", "second"});
  const std::string refused = error_line(other);
  EXPECT_THAT(refused, HasSubstr("another opsplitd is running"));
  EXPECT_THAT(refused, HasSubstr(pid));
  find_answers("digits", 20, folder() / "answers");  // the first one does not care
  down();
}

}  // namespace
}  // namespace opsplit::test
