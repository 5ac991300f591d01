// Operators that get other cores while requests flow: none lost, none wrong, and everything follows.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <random>
#include <set>
#include <thread>

#include "base/cpu_set.hpp"
#include "daemon/topology.hpp"
#include "ipc/client.hpp"
#include "tests/graph/model_builder.hpp"
#include "tests/system/load.hpp"

namespace opsplit::test {
namespace {

using testing::HasSubstr;

std::size_t cores_among(const CpuSet& cpus) {
  const daemon::Topology machine = daemon::Topology::of_this_machine().value();
  std::set<int> cores;
  for (const daemon::Cpu& cpu : machine.cpus())
    if (std::find(cpus.begin(), cpus.end(), cpu.id) != cpus.end()) cores.insert(cpu.core);
  return cores.size();
}

class Set : public SystemTest {
 protected:
  void SetUp() override {
    if (cpus_.size() < 2) GTEST_SKIP() << "there is one CPU only: nothing to move to";
  }

  // `opsplit set`, and what it must have changed when it returns.
  static void set(const std::string& deployment_name, const std::string& op, const CpuSet& cpus) {
    const std::string text = cpus.size() == 1 ? fmt::format("{0}-{0}", cpus[0]) : to_string(cpus);
    const Outcome outcome = opsplit({"set", deployment_name + "/" + op, "cores=" + text});
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    for (const json& instance : instances(deployment_name, op)) {
      EXPECT_EQ(instance["cores"], to_string(cpus));
      EXPECT_EQ(instance["threads"], cores_among(cpus)) << "for " << text;
      EXPECT_EQ(instance["changing"], false) << "for " << text;
      EXPECT_EQ(instance["degraded"], "") << "for " << text;
      EXPECT_EQ(process_affinity(instance["pid"].get<pid_t>()), cpus);
    }
  }
  // One CPU, another one, both, in a random order.
  [[nodiscard]] std::vector<CpuSet> changes(int count) const {
    const std::vector<CpuSet> choices = {{cpus_[0]}, {cpus_[1]}, {cpus_[0], cpus_[1]}};
    std::mt19937 random(7);
    std::vector<CpuSet> result;
    for (int i = 0; i < count; ++i) result.push_back(choices[random() % choices.size()]);
    return result;
  }

  const CpuSet cpus_ = thread_affinity(0).value();
};

TEST_F(Set, NoAnswerIsLostOrWrongWhileCoresChange) {
  const auto file = folder() / "digits.yaml";
  write_file(file, fmt::format("name: digits\nmodel: {}\nsplit: by-type\ndepth: 16\n"
                               "operators:\n  conv: {{instances: 2}}\n",
                               digits_model));
  up({file});
  const auto answers = folder() / "answers";
  find_answers("digits", 1000, answers);
  std::vector<Load> loads;
  for (std::uint32_t client = 0; client < 2; ++client)
    loads.emplace_back(Load::Options{.deployment = "digits",
                                     .answers = answers,
                                     .first = client * 500,
                                     .count = 500,
                                     .in_flight = 4,
                                     .repeat = true});
  for (const CpuSet& cpus : changes(40)) {
    ASSERT_NO_FATAL_FAILURE(set("digits", "conv", cpus));
    const std::uint64_t before = loads[0].answered();
    EXPECT_TRUE(eventually([&] { return loads[0].answered() > before; })) << to_string(cpus);
  }
  const Report report = finish(loads);
  EXPECT_EQ(report.wrong, 0u);
  EXPECT_EQ(report.failed, 0u) << report.error;
  EXPECT_EQ(report.epochs_lost, 0u);
  const json digits = deployment("digits");
  for (const json& instance : digits["instances"]) EXPECT_EQ(instance["restarts"], 0);
  EXPECT_EQ(digits["in_use"], 0);
  down();
}

// Asks for the same answers again and again. Sums differ in their last bits with the number of
// threads.
class Caller {
 public:
  explicit Caller(std::uint32_t seed) : seed_(seed) {}

  // The first error or wrong answer ends it.
  void run(const std::stop_token& stop) {
    const auto client = ipc::Client::connect({socket_path().string(), "heavy"});
    if (!client) return fail(client.error().message);
    std::vector<std::vector<float>> first(4);
    for (std::uint32_t number = 0; !stop.stop_requested(); ++number) {
      auto request = (*client)->begin(30s);
      if (!request) return fail(request.error().message);
      std::mt19937 random(seed_ + number % 4);
      std::normal_distribution<float> value;
      const std::span<std::byte> place = request->input(0);
      std::vector<float> image(place.size() / sizeof(float));
      for (float& element : image) element = value(random);
      std::memcpy(place.data(), image.data(), place.size());
      if (const auto sent = request->submit(); !sent) return fail(sent.error().message);
      if (const auto done = request->wait(30s); !done) return fail(done.error().message);
      const auto output = request->output(0);
      if (!output) return fail(output.error().message);
      std::vector<float> answer(output->bytes.size() / sizeof(float));
      std::memcpy(answer.data(), output->bytes.data(), output->bytes.size());
      std::vector<float>& expected = first[number % 4];
      if (expected.empty()) expected = answer;
      for (std::size_t i = 0; i < answer.size(); ++i)
        if (!(std::abs(answer[i] - expected[i]) <= 1e-4F * (1 + std::abs(expected[i]))))
          return fail(fmt::format("{} instead of {}", answer[i], expected[i]));
      ++answered;
    }
  }

  std::atomic<std::uint64_t> answered = 0;
  std::string error;  // once it has ended

 private:
  void fail(const std::string& text) { error = text; }

  std::uint32_t seed_;
};

// Each convolution is worth several threads: what is compiled for them comes and goes.
TEST_F(Set, ThreadsFollowWithTheProgramsThatUseThem) {
  constexpr std::int64_t channels = 64, size = 32;
  graph::ModelBuilder model;
  model.input("x", {1, channels, size, size});
  std::mt19937 random(3);
  std::normal_distribution<float> value(0, 0.04F);
  std::string last = "x";
  for (const std::string name : {"a", "b", "c"}) {
    graph::Floats weights(channels * channels * 9);
    for (float& weight : weights) weight = value(random);
    model.floats(name + ".w", {channels, channels, 3, 3}, weights)
        .node("Conv", {last, name + ".w"}, {name}, {{"pads", graph::Ints{1, 1, 1, 1}}}, name)
        .node("Relu", {name}, {name + ".r"}, {}, name + ".r");
    last = name + ".r";
  }
  model.output(last).save(folder() / "heavy.onnx");
  up({folder() / "heavy.onnx", "--split", "by-type"});

  std::array<Caller, 2> callers = {Caller(100), Caller(200)};
  {
    std::vector<std::jthread> threads;
    for (Caller& caller : callers)
      threads.emplace_back([&](const std::stop_token& stop) { caller.run(stop); });
    for (const CpuSet& cpus : changes(30)) {
      ASSERT_NO_FATAL_FAILURE(set("heavy", "conv", cpus));
      const std::uint64_t before = callers[0].answered;
      EXPECT_TRUE(eventually([&] { return callers[0].answered > before; })) << to_string(cpus);
    }
  }
  for (const Caller& caller : callers) {
    EXPECT_EQ(caller.error, "");
    EXPECT_GT(caller.answered, 0u);
  }
  EXPECT_EQ(instance("heavy", "conv")["restarts"], 0);
  down();
}

TEST_F(Set, HoldsForTheNextProcessAndShowsWhoMovedOne) {
  up({digits_model, "--split", "by-type"});
  ASSERT_NO_FATAL_FAILURE(set("digits", "gemm", {cpus_[1]}));
  const auto pid = [] { return instance("digits", "gemm")["pid"].get<pid_t>(); };
  const pid_t before = pid();
  ::kill(before, SIGKILL);
  ASSERT_TRUE(eventually([&] {
    const json gemm = instance("digits", "gemm");
    return gemm["state"] == "ready" && gemm["pid"] != before;
  }));
  EXPECT_EQ(process_affinity(pid()), CpuSet{cpus_[1]});

  ASSERT_TRUE(set_process_affinity(pid(), {cpus_[0]}));
  const std::string shown = opsplit({"ps"}).out;
  EXPECT_THAT(shown, HasSubstr("ready, degraded"));
  EXPECT_THAT(shown, HasSubstr(fmt::format("degraded: gemm: runs on {} instead of {}", cpus_[0],
                                           cpus_[1])));
  ASSERT_NO_FATAL_FAILURE(set("digits", "gemm", {cpus_[0]}));
  EXPECT_THAT(opsplit({"ps"}).out, testing::Not(HasSubstr("degraded")));
  down();
}

TEST_F(Set, MistakesAreOneLineThatSaysWhatCanBeDone) {
  up({digits_model, "--split", "by-type"});
  const auto error = [](const std::string& op, const std::string& setting) {
    return error_line(opsplit({"set", op, setting}));
  };
  EXPECT_THAT(error("digits/conv", "threads=2"), HasSubstr("what can be set is cores"));
  EXPECT_THAT(error("digits/conv", "cores"), HasSubstr("what can be set is cores"));
  EXPECT_THAT(error("digits/conv", "cores=many"), HasSubstr("not a list of cores"));
  EXPECT_THAT(error("digits/conv", "cores=8191"), HasSubstr("physical cores to use"));
  EXPECT_THAT(error("digits/conv", "cores=8190-8191"), HasSubstr("do not exist here"));
  EXPECT_THAT(error("digits/cnov", "cores=1"), HasSubstr("no operator 'cnov'"));
  EXPECT_THAT(error("other/conv", "cores=1"), HasSubstr("no deployment 'other'"));
  EXPECT_THAT(error("digits", "cores=1"), HasSubstr("DEPLOYMENT/OPERATOR"));
  EXPECT_EQ(opsplit({"set", "digits/conv"}).status, 2);
  down();
}

}  // namespace
}  // namespace opsplit::test
