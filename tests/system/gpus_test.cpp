// Operators on GPUs that are made of host memory (tests/ipc/host_device.hpp): every process of a deployment is there as
// in earnest, and only the driver's calls are not.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cmath>
#include <csignal>
#include <fstream>
#include <map>
#include <memory>

#include "base/system.hpp"
#include "daemon/paths.hpp"
#include "tests/graph/model_builder.hpp"
#include "tests/system/load.hpp"

namespace opsplit::test {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;

constexpr std::uint32_t number_of_answers = 60;  // a millisecond or more each: their GPU is no GPU

std::vector<float> answers_in(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::vector<float> values;
  for (float value = 0; stream.read(reinterpret_cast<char*>(&value), sizeof value);)
    values.push_back(value);
  return values;
}

class Gpus : public SystemTest {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(program("fake-gpu/opsplit-operator-cuda")))
      GTEST_SKIP() << "built without kernels for GPUs";
  }

  // The commands that start an opsplitd on the machine with GPUs.
  static Outcome opsplit_with_gpus(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), program("fake-gpu/opsplit"));
    return Process(arguments).wait();
  }
  std::filesystem::path deployment_file(const std::string& operators, int depth = 8) {
    const auto file = folder() / "digits.yaml";
    write_file(file,
               fmt::format("model: {}\ndepth: {}\noperators:\n{}", digits_model, depth, operators));
    return file;
  }
  // `opsplit ARGUMENTS` on that machine, where programs are looked for in a folder with a `docker` that writes its
  // arguments down, has these runtimes for containers and every image, and runs opsplit-operator-cuda for
  // opsplit/operator-cuda, and nothing else.
  Process start_with_docker(const std::string& runtimes, std::vector<std::string> arguments) {
    const auto docker = folder() / "bin/docker";
    std::filesystem::create_directories(docker.parent_path());
    write_file(docker, fmt::format(R"(#!/bin/sh
echo "$@" >>"{0}"
case "$1" in
  image) exit 0 ;;
  info) echo "{1}" ;;
  run)
    while [ "$1" != opsplit/operator-cuda ]; do shift; done
    shift
    exec "{2}" "$@" ;;
  *) exit 1 ;;
esac
)",
                                   docker_log().string(), runtimes,
                                   program("fake-gpu/opsplit-operator-cuda")));
    std::filesystem::permissions(docker, std::filesystem::perms::owner_all);
    arguments.insert(arguments.begin(),
                     {"/usr/bin/env", "PATH=" + docker.parent_path().string() + ":/usr/bin:/bin",
                      program("fake-gpu/opsplit")});
    return Process(arguments);
  }
  [[nodiscard]] std::filesystem::path docker_log() const { return folder() / "docker.log"; }
  // conv and relu hand tensors to each other there, gemm gets its inputs from elsewhere.
  void up_on_gpu(const std::string& settings_of_conv = "") {
    const Outcome up = opsplit_with_gpus(
        {"up", deployment_file(fmt::format("  conv: {{gpu: 0{}}}\n  relu: {{gpu: 0}}\n"
                                           "  gemm: {{gpu: 1, stream: {{priority: low}}}}\n",
                                           settings_of_conv))});
    ASSERT_EQ(up.status, 0) << up.err;
    find_answers("digits", number_of_answers, answers_);
  }
  static pid_t device_broker(std::size_t gpu = 0) {
    const json digits = deployment("digits");
    return digits.is_object() ? digits["gpus"].at(gpu)["broker"].get<pid_t>() : 0;
  }
  std::vector<Load> loads() {
    std::vector<Load> loads;
    for (std::uint32_t client = 0; client < 2; ++client)
      loads.emplace_back(Load::Options{.answers = answers_,
                                       .first = client * number_of_answers / 2,
                                       .count = number_of_answers / 2,
                                       .in_flight = 3,
                                       .repeat = true});
    return loads;
  }
  static bool goes_on(const Load& load) {
    const std::uint64_t before = load.answered();
    return eventually([&] { return load.answered() > before + 10; });
  }
  static void expect_answers(const std::vector<Load>& loads) {
    for (const Load& load : loads) EXPECT_TRUE(goes_on(load)) << ps().dump(2);
  }
  static bool ready_after(std::uint64_t epoch) {
    const json digits = deployment("digits");
    return digits.is_object() && digits["phase"] == "ready" && digits["epoch"] > epoch;
  }
  static void expect_nothing_lost(std::vector<Load>& loads) {
    const Report report = finish(loads);
    EXPECT_GT(report.answered, 20u);
    EXPECT_EQ(report.wrong, 0u);
    EXPECT_EQ(report.failed, 0u) << report.error;
    EXPECT_EQ(report.epochs_lost, 0u);
  }

  std::filesystem::path answers_ = folder() / "answers";
};

TEST_F(Gpus, AnswersAreTheCpus) {
  up_on_gpu();
  up({digits_model, "--name", "cpu"});
  find_answers("cpu", number_of_answers, folder() / "cpu");
  const std::vector<float> here = answers_in(answers_), there = answers_in(folder() / "cpu");
  ASSERT_EQ(here.size(), there.size());
  for (std::size_t i = 0; i < here.size(); ++i) ASSERT_NEAR(here[i], there[i], 1e-5) << i;

  EXPECT_THAT(instance("digits", "conv")["bytes_copied"].get<std::uint64_t>(), testing::Gt(0u));
  const std::string shown = opsplit({"ps"}).out;
  EXPECT_THAT(shown,
              AllOf(HasSubstr("GPU"), HasSubstr("stream"), HasSubstr("high"), HasSubstr("low"),
                    HasSubstr("GPU 1 is GPU-f1f1f1f1-f1f1-f1f1-f1f1-f1f1f1f1f1f1"),
                    HasSubstr("between processes a GPU gives time slices")));
  EXPECT_THAT(opsplit({"plan", folder() / "digits.yaml"}).out,
              AllOf(HasSubstr("copies between arena and GPU"), HasSubstr("GPU 1: 8 slots of ")));
  down();
  EXPECT_FALSE(std::filesystem::exists(daemon::default_folder() / daemon::device_folder_name));
}

TEST_F(Gpus, AnOperatorsDeathFreesNothingThatOthersUse) {
  up_on_gpu();
  const std::uint64_t epoch = deployment("digits")["epoch"];
  const pid_t broker = device_broker();
  auto clients = loads();
  for (const char* op : {"conv", "relu", "gemm", "conv", "relu"}) {
    expect_answers(clients);
    const json victim = instance("digits", op);
    ::kill(victim["pid"].get<pid_t>(), SIGKILL);
    EXPECT_TRUE(eventually([&] {
      const json now = instance("digits", op);
      return now["state"] == "ready" && now["restarts"] > victim["restarts"];
    }));
  }
  expect_answers(clients);
  EXPECT_EQ(device_broker(), broker);
  EXPECT_EQ(deployment("digits")["epoch"], epoch);
  expect_nothing_lost(clients);
  down();
}

// A standby that finds the memory gone must not make a request fail, either.
TEST_F(Gpus, TheirMemorysEndIsTheEpochsEnd) {
  up_on_gpu(", standby: 1");
  auto clients = loads();
  for (std::size_t death = 0; death < 4; ++death) {
    expect_answers(clients);
    const std::uint64_t epoch = deployment("digits")["epoch"];
    const pid_t victim = device_broker(death % 2);
    ::kill(victim, SIGKILL);
    ASSERT_TRUE(eventually([&] { return ready_after(epoch); })) << ps().dump(2);
    EXPECT_NE(device_broker(death % 2), victim);
  }
  expect_answers(clients);
  expect_nothing_lost(clients);
  down();
}

TEST_F(Gpus, TheirMemorysEndWhileTheNextEpochStarts) {
  up_on_gpu();
  const std::uint64_t epoch = deployment("digits")["epoch"];
  pid_t last = 0;
  for (int death = 0; death < 3; ++death) {
    pid_t now = 0;
    ASSERT_TRUE(eventually([&] {
      const json digits = deployment("digits");
      if (!digits.is_object() || digits["gpus"].empty()) return false;
      now = digits["gpus"][0]["broker"];
      return now != 0 && now != last;
    })) << ps().dump(2);
    ::kill(last = now, SIGKILL);
  }
  ASSERT_TRUE(eventually([&] { return ready_after(epoch); })) << ps().dump(2);
  find_answers("digits", 50, answers_);
  down();
}

TEST_F(Gpus, AHungOwnerOfMemoryIsReplaced) {
  up_on_gpu();
  auto clients = loads();
  const std::uint64_t epoch = deployment("digits")["epoch"];
  ::kill(device_broker(), SIGSTOP);
  ASSERT_TRUE(eventually([&] { return ready_after(epoch); })) << ps().dump(2);
  expect_answers(clients);
  expect_nothing_lost(clients);
  down();
}

TEST_F(Gpus, TheBrokersDeathLeavesTheEarlierEpochsMemoryAlone) {
  up_on_gpu();
  auto clients = loads();
  expect_answers(clients);
  const std::uint64_t epoch = deployment("digits")["epoch"];
  const pid_t owner = device_broker();
  ::kill(ps()["broker"].get<pid_t>(), SIGKILL);
  ASSERT_TRUE(eventually([&] { return ready_after(epoch); })) << ps().dump(2);
  EXPECT_NE(device_broker(), owner);
  expect_answers(clients);
  EXPECT_TRUE(eventually([&] { return !identify(owner); })) << "the earlier epoch's, with it";
  expect_nothing_lost(clients);
  down();
}

TEST_F(Gpus, ASuccessorOfOpsplitdGoesOnWithTheirMemory) {
  up_on_gpu();
  auto clients = loads();
  const pid_t owner = device_broker();
  const auto die = [] {
    ::kill(ps()["pid"].get<pid_t>(), SIGKILL);
    EXPECT_TRUE(eventually([] { return lock_exclusive(daemon::daemon_lock_path).has_value(); }));
  };
  die();
  EXPECT_TRUE(goes_on(clients[0]) && goes_on(clients[1])) << "without any opsplitd";
  ASSERT_EQ(opsplit_with_gpus({"ps"}).status, 0) << "starts the successor";
  EXPECT_EQ(device_broker(), owner);
  expect_answers(clients);

  // It ends while nobody is there to see it.
  const std::uint64_t epoch = deployment("digits")["epoch"];
  die();
  ::kill(owner, SIGKILL);
  ASSERT_EQ(opsplit_with_gpus({"ps"}).status, 0);
  ASSERT_TRUE(eventually([&] { return ready_after(epoch); })) << ps().dump(2);
  expect_answers(clients);
  expect_nothing_lost(clients);
  down();
}

TEST_F(Gpus, ASwapStaysOnTheGpu) {
  up_on_gpu();
  auto clients = loads();
  EXPECT_THAT(error_line(opsplit({"swap", "digits/conv", "--backend", "onnxruntime"})),
              HasSubstr("operator 'conv' of 'digits' runs on a GPU"));
  const Outcome swapped = opsplit({"swap", "digits/conv", "--backend", "native"});
  EXPECT_EQ(swapped.status, 0) << swapped.err;
  expect_answers(clients);
  expect_nothing_lost(clients);
  const Outcome attached = opsplit({"attach", "digits/conv", "--", program("opsplit-operator")});
  EXPECT_EQ(attached.status, 1);
  EXPECT_THAT(attached.err, HasSubstr("runs on a GPU, which the program that attaches does not"));
  find_answers("digits", 20, answers_);
  down();
}

// The parties of compose.cuda.yaml as processes: what ends is started again, as the engine does.
TEST_F(Gpus, OthersMayStartTheBrokerAndAllOperators) {
  const std::string broker_socket = socket_path().parent_path() / "broker.sock";
  Process opsplitd({program("fake-gpu/opsplitd"), "--broker", broker_socket, "--up",
                    deployment_file("  conv: {gpu: 0}\n  gemm: {gpu: 0}\n"), "--attach"});
  std::map<std::string, std::unique_ptr<Process>> parties;
  const auto keep = [&](const std::string& name, const std::vector<std::string>& command) {
    auto& process = parties[name];
    if (!process || process->has_ended()) process = std::make_unique<Process>(command);
  };
  const auto ready_in = [&](std::uint64_t epoch) {
    keep("broker", {program("opsplit-broker"), "--socket", broker_socket, "--pool", "1MiB"});
    for (const std::string op : {"conv", "relu", "maxpool", "gemm", "softmax"}) {
      const bool on_gpu = op == "conv" || op == "gemm";
      keep(op, {program(on_gpu ? "fake-gpu/opsplit-operator-cuda" : "opsplit-operator"), "--socket",
                socket_path(), "--wait", "60", "--deployment", "digits", "--operator", op});
    }
    return ready_after(epoch - 1);
  };
  ASSERT_TRUE(eventually([&] { return ready_in(1); })) << ps().dump(2) << opsplitd.err();
  find_answers("digits", 20, answers_);
  const std::uint64_t epoch = deployment("digits")["epoch"];

  parties["gemm"]->signal(SIGKILL);
  ASSERT_TRUE(eventually([&] {
    return ready_in(epoch) && instance("digits", "gemm")["restarts"] == 1 &&
           instance("digits", "gemm")["state"] == "ready";
  })) << ps().dump(2);
  find_answers("digits", 20, answers_);
  EXPECT_EQ(deployment("digits")["epoch"], epoch);

  ::kill(device_broker(), SIGKILL);
  ASSERT_TRUE(eventually([&] { return ready_in(epoch + 1); })) << ps().dump(2) << opsplitd.err();
  find_answers("digits", 20, answers_);
  opsplitd.signal(SIGTERM);
  EXPECT_EQ(opsplitd.wait().status, 0) << opsplitd.err();
  parties["broker"]->signal(SIGTERM);
  EXPECT_EQ(parties["broker"]->wait().status, 0);
}

TEST_F(Gpus, AContainerInAnOperatorsPlaceSeesItsGpuAndNoOther) {
  up_on_gpu();
  auto clients = loads();
  Process container =
      start_with_docker("io.containerd.runc.v2 nvidia runc",
                        {"swap", "digits/gemm", "--image", "opsplit/operator-cuda"});
  EXPECT_TRUE(eventually([] { return instance("digits", "gemm")["backend"] == "attach"; }))
      << container.err();
  EXPECT_THAT(
      read_file(docker_log()).value_or(""),
      AllOf(HasSubstr("--read-only"), HasSubstr("--cap-drop=ALL"), HasSubstr("--network=none"),
            HasSubstr(" --runtime=nvidia --env=NVIDIA_VISIBLE_DEVICES="
                      "GPU-f1f1f1f1-f1f1-f1f1-f1f1-f1f1f1f1f1f1 opsplit/operator-cuda ")));
  expect_answers(clients);
  expect_nothing_lost(clients);
  down();
  EXPECT_EQ(container.wait().status, 0) << container.err();
}

TEST_F(Gpus, ContainersNeedARuntimeThatShowsThemGpus) {
  const std::string said =
      "docker has no runtime 'nvidia', which shows GPUs to containers: install "
      "nvidia-container-toolkit, then ";
  const auto file = deployment_file("  conv: {gpu: 0}\n");
  EXPECT_THAT(error_line(start_with_docker("runc", {"up", file, "--runtime", "docker"}).wait()),
              HasSubstr(said));
  EXPECT_FALSE(std::filesystem::exists(daemon::default_folder() / "containers"));
  up_on_gpu();
  EXPECT_THAT(error_line(start_with_docker(
                             "runc", {"swap", "digits/conv", "--image", "opsplit/operator-cuda"})
                             .wait()),
              HasSubstr(said));
  EXPECT_EQ(instance("digits", "conv")["backend"], "native");
  find_answers("digits", 20, answers_);
  down();
}

TEST_F(Gpus, WhatTheMachineDoesNotHaveIsSaidWithTheFilesLine) {
  const auto error_of = [&](const std::string& operators, int depth) {
    return error_line(opsplit_with_gpus({"up", deployment_file(operators, depth)}));
  };
  EXPECT_THAT(
      error_of("  conv: {gpu: 2}\n", 8),
      AllOf(HasSubstr("digits.yaml:4: operators.conv.gpu: 2: no GPU 2 here; there is 0: GPU-"),
            HasSubstr("(see `opsplit doctor`)")));
  EXPECT_THAT(error_of("  conv: {gpu: 0}\n  relu: {gpu: 0}\n  maxpool: {gpu: 0}\n", 64),
              AllOf(HasSubstr("digits.yaml:4: operators.conv.gpu: 0: GPU-f0f0"),
                    HasSubstr("bytes of device memory needed, 1048576 are free")));
  EXPECT_TRUE(ps().is_null()) << "nothing runs";
}

TEST_F(Gpus, ANodeWithoutAKernelThereIsRefusedByName) {
  graph::ModelBuilder model;
  model.input("x", {4})
      .output("y")
      .node("Relu", {"x"}, {"a"})
      .node("CumSum", {"a", "axis"}, {"y"}, {}, "sums");
  model.ints("axis", {0});
  model.save(folder() / "m.onnx");
  write_file(folder() / "m.yaml", "model: m.onnx\noperators: {cumsum: {gpu: 0}}\n");
  EXPECT_THAT(error_line(opsplit_with_gpus({"up", folder() / "m.yaml"})),
              HasSubstr("node sums: operation CumSum has no kernel on a GPU"));
}

// The programs as they are. A machine with a GPU has nothing to refuse.
class NoGpu : public Gpus {
 protected:
  void SetUp() override {
    if (opsplit({"doctor"}).out.find("GPU driver") != std::string::npos)
      GTEST_SKIP() << "this machine has a GPU";
  }
};

TEST_F(NoGpu, IsSaidWithTheFilesLine) {
  EXPECT_THAT(error_line(opsplit({"up", deployment_file("  conv: {gpu: 0}\n")})),
              AnyOf(AllOf(HasSubstr("digits.yaml:4: operators.conv.gpu: 0: "),
                          HasSubstr("`opsplit doctor`")),
                    HasSubstr("there is no opsplit-operator-cuda beside opsplitd")));
}

}  // namespace
}  // namespace opsplit::test
