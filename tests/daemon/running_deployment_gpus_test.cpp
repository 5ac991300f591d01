// Operators on GPUs that are host memory: the device broker is a process of its own, the operators are none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <nlohmann/json.hpp>

#include "daemon/preparation.hpp"
#include "daemon/running_deployment.hpp"
#include "tests/daemon/fake_launcher.hpp"
#include "tests/daemon/temporary_folder.hpp"
#include "tests/private_namespace.hpp"

namespace opsplit::daemon {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using Phase = RunningDeployment::Phase;

class GpuLauncher final : public FakeLauncher {
 public:
  Result<Process> launch(const Command& command) override {
    if (!command.arguments[0].ends_with("opsplit-device-broker"))
      return FakeLauncher::launch(command);
    Command fake = command;
    fake.arguments[0] = OPSPLIT_BIN_DIR "/fake-device-broker";
    auto process = real_.launch(fake);
    if (process) brokers_.insert(process->identity.pid);
    return process;
  }
  void signal(const Process& process, int number) override {
    if (brokers_.contains(process.identity.pid)) return real_.signal(process, number);
    FakeLauncher::signal(process, number);
  }
  std::string reap(const Process& process) override {
    return brokers_.contains(process.identity.pid) ? real_.reap(process)
                                                   : FakeLauncher::reap(process);
  }

 private:
  ProcessLauncher real_;
  std::set<pid_t> brokers_;
};

class RunningDeploymentOnGpus : public testing::Test {
 protected:
  static void SetUpTestSuite() { test::enter_private_namespace(); }

  RunningDeploymentOnGpus() {
    const auto program = files.path() / "opsplit-operator-cuda";
    std::ofstream(program) << "#!/bin/sh\n";
    std::filesystem::permissions(program, std::filesystem::perms::owner_all);
  }
  ~RunningDeploymentOnGpus() override {
    deployment.reset();
    std::filesystem::remove_all(ipc::folder_path(name, 1));
    std::filesystem::remove_all(ipc::folder_path(name, 2));
  }

  // stage1 on a GPU, stage2 not.
  void make(const std::string& device, Backend backend = Backend::native) {
    Deployment digits = Deployment::open(OPSPLIT_SOURCE_DIR "/examples/digits/digits.onnx").value();
    EXPECT_TRUE(digits.set_split("stages:2") && digits.set_name(name));
    digits.file = "digits.yaml";
    digits.operators["stage1"].gpu = GpuRequest{device, ipc::StreamPriority::low, 5};
    digits.operators["stage1"].backend = backend;
    std::filesystem::create_directory(ipc::folder_path(name, 1));
    deployment = std::make_shared<RunningDeployment>(
        context, plan_deployment(std::move(digits)).value(), ipc::folder_path(name, 1),
        /*temporary=*/true);
    deployment->start(1, [this](const Result<>& result) { started = result; });
  }
  void make_ready(FakeLauncher::Launched& instance) {
    const auto attached = deployment->attach_operator(instance.pid, "");
    ASSERT_TRUE(attached) << attached.error().message;
    ASSERT_TRUE(deployment->operator_ready(instance.pid));
  }
  void become_ready() {
    make("1");
    ASSERT_TRUE(until([&] { return launcher.all.size() == 2; }));
    for (auto& instance : launcher.all) make_ready(instance);
    ASSERT_EQ(deployment->phase(), Phase::ready);
  }
  template <class Condition>
  bool until(Condition holds) {
    for (const Deadline deadline = Clock::now() + 20s; !holds() && Clock::now() < deadline;) {
      io.restart();  // it may have run dry between two epochs
      io.run_one_for(100ms);
    }
    return holds();
  }
  // Operators do as they are told.
  void die_when_told() {
    for (auto& instance : launcher.all)
      if (std::ranges::find(instance.signals, SIGTERM) != instance.signals.end())
        FakeLauncher::die(instance);
  }
  [[nodiscard]] pid_t broker() const {
    return deployment->status()["gpus"][0]["broker"].get<pid_t>();
  }
  [[nodiscard]] std::vector<std::string> files_of_brokers() const {
    std::vector<std::string> names;
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(context.device_folder, ignored))
      names.push_back(entry.path().filename());
    return names;
  }

  const TemporaryFolder files;
  boost::asio::io_context io;
  GpuLauncher launcher;
  ipc::SystemFutex futex;
  std::vector<std::pair<std::string, bool>> lost;  // reason, and whether it is to go on
  Context context{io,
                  launcher,
                  futex,
                  "/run/test.sock",
                  files.path(),
                  files.path() / "logs",
                  files.path() / "devices",
                  [this](const std::string&, const std::string& reason, bool goes_on) {
                    lost.emplace_back(reason, goes_on);
                  }};
  const std::string name = fmt::format("gpu{}", ::getpid());
  std::optional<Result<>> started;
  std::shared_ptr<RunningDeployment> deployment;
};

TEST_F(RunningDeploymentOnGpus, OperatorsThereAreLaunchedOnceTheirMemoryIsThere) {
  make("1");
  ASSERT_EQ(launcher.all.size(), 1u) << "the other one does not wait";
  EXPECT_THAT(launcher.all[0].command.arguments.back(), "stage2");
  ASSERT_TRUE(until([&] { return launcher.all.size() == 2; }));
  const auto& command = launcher.all[1].command.arguments;
  EXPECT_THAT(command.front(), EndsWith("/opsplit-operator-cuda"));
  EXPECT_EQ(command.back(), "stage1");
  const auto attachment = deployment->attach_operator(launcher.all[1].pid, "").value();
  ASSERT_TRUE(attachment.gpu);
  EXPECT_EQ(to_string(attachment.gpu->uuid), "GPU-f1f1f1f1-f1f1-f1f1-f1f1-f1f1f1f1f1f1");
  EXPECT_EQ(attachment.gpu->priority, ipc::StreamPriority::low);
  EXPECT_EQ(attachment.gpu->broker, context.device_folder / (name + ".1.0.sock"));
  EXPECT_FALSE(deployment->attach_operator(launcher.all[0].pid, "")->gpu);
}

// Whoever attaches when `up` has returned must find the memory there.
TEST_F(RunningDeploymentOnGpus, ReadyWaitsForTheMemoryOfOperatorsThatComeLater) {
  make("1", Backend::attach);
  ASSERT_EQ(launcher.all.size(), 1u);
  make_ready(launcher.all[0]);
  EXPECT_EQ(deployment->phase(), Phase::starting);
  ASSERT_TRUE(until([&] { return started.has_value(); }));
  EXPECT_TRUE(*started);
  EXPECT_EQ(deployment->phase(), Phase::ready);
  EXPECT_THAT(files_of_brokers(), Not(IsEmpty()));
}

TEST_F(RunningDeploymentOnGpus, WhatTheGpuDoesNotHaveForThoseThatComeLaterEndsTheStart) {
  make("7", Backend::attach);
  make_ready(launcher.all[0]);
  ASSERT_TRUE(until([&] { return !launcher.all[0].signals.empty(); }));
  die_when_told();
  ASSERT_TRUE(until([&] { return started.has_value(); }));
  EXPECT_FALSE(*started);
  EXPECT_TRUE(lost.empty());
}

TEST_F(RunningDeploymentOnGpus, WhatTheGpuDoesNotHaveEndsTheStartWithTheFilesLine) {
  make("7");
  ASSERT_TRUE(until([&] { return !launcher.all[0].signals.empty(); }));
  die_when_told();
  ASSERT_TRUE(until([&] { return started.has_value(); }));
  ASSERT_FALSE(*started);
  EXPECT_THAT(started->error().message,
              HasSubstr("digits.yaml:5: operators.stage1.gpu: 7: no GPU 7 here; there is 0: "));
  EXPECT_THAT(started->error().message, EndsWith("(see `opsplit doctor`)"));
  EXPECT_THAT(files_of_brokers(), IsEmpty());
  EXPECT_TRUE(lost.empty());
}

TEST_F(RunningDeploymentOnGpus, TheBrokerEndsAfterTheOperatorsAndBeforeTheEpoch) {
  become_ready();
  const pid_t pid = broker();
  bool stopped = false;
  deployment->stop([&] { stopped = true; });
  io.run_for(100ms);
  EXPECT_FALSE(stopped) << "its operators have not ended";
  EXPECT_TRUE(identify(pid)) << "somebody may have its memory open";
  die_when_told();
  ASSERT_TRUE(until([&] { return stopped; }));
  EXPECT_FALSE(identify(pid));
  EXPECT_THAT(files_of_brokers(), IsEmpty());
}

TEST_F(RunningDeploymentOnGpus, ItsDeathLosesTheEpochAndTheNextOneHasAnother) {
  become_ready();
  const pid_t first = broker();
  ::kill(first, SIGKILL);
  ASSERT_TRUE(until([&] { return !lost.empty(); }));
  EXPECT_THAT(
      lost,
      ElementsAre(testing::Pair(
          HasSubstr("digits.yaml:5: operators.stage1.gpu: 1: the device broker ended"), true)));
  const auto earlier = deployment;
  deployment = std::make_shared<RunningDeployment>(earlier);
  EXPECT_EQ(earlier->phase(), Phase::retiring);
  ASSERT_TRUE(until([&] { return earlier->phase() == Phase::stopping; }))
      << "nothing is answered there any more";
  die_when_told();
  ASSERT_TRUE(until([&] { return !deployment->has_earlier_epoch(); }));
  deployment->start(2, [](const Result<>&) {});
  ASSERT_TRUE(until([&] { return launcher.all.size() == 4; }));
  EXPECT_NE(broker(), first);
  make_ready(launcher.all[2]);
  make_ready(launcher.all[3]);
  EXPECT_EQ(deployment->phase(), Phase::ready);
  EXPECT_EQ(lost.size(), 1u);
}

TEST_F(RunningDeploymentOnGpus, AnOperatorThatEndsForItFirstIsNoFailureOfARequest) {
  become_ready();
  const auto identity = identify(broker()).value();
  const auto pidfd = open_pidfd(identity).value();
  ::kill(identity.pid, SIGKILL);
  ASSERT_TRUE(has_ended(pidfd, Clock::now() + 20s));
  FakeLauncher::die(launcher.all[1]);
  ASSERT_TRUE(until([&] { return deployment->status()["instances"][0]["restarts"] == 1; }));
  EXPECT_EQ(lost.size(), 1u) << "whoever was heard of first";
}

TEST_F(RunningDeploymentOnGpus, OneThatDiesTooOftenIsNotFollowedForEver) {
  become_ready();
  for (std::uint64_t epoch = 2; lost.empty() || lost.back().second; ++epoch) {
    ASSERT_LT(epoch, 20u);
    const std::size_t before = lost.size();
    ::kill(broker(), SIGKILL);
    ASSERT_TRUE(until([&] { return lost.size() > before; }));
    if (!lost.back().second) break;
    deployment = std::make_shared<RunningDeployment>(deployment);
    ASSERT_TRUE(until([&] {
      die_when_told();
      return !deployment->has_earlier_epoch();
    }));
    const std::size_t launched = launcher.all.size();
    deployment->start(epoch, [](const Result<>&) {});
    ASSERT_TRUE(until([&] { return launcher.all.size() == launched + 2; }));
    make_ready(launcher.all[launched]);
    make_ready(launcher.all[launched + 1]);
  }
  EXPECT_EQ(lost.size(), 10u);
  deployment.reset();
}

TEST_F(RunningDeploymentOnGpus, OnlyWhatRunsThereTakesAnOperatorsPlace) {
  become_ready();
  EXPECT_THAT(deployment->can_swap("stage1", Backend::tensorflow).error().message,
              HasSubstr("runs on a GPU, and backend tensorflow on CPUs only so far"));
  EXPECT_TRUE(deployment->can_swap("stage1", Backend::native));
  EXPECT_TRUE(deployment->can_swap("stage1", Backend::attach));
}

TEST_F(RunningDeploymentOnGpus, WhoAttachesThereMustComeWithAGpu) {
  make("0", Backend::attach);
  const std::set<std::string> all = {"*"};
  const RunsOn cpus{.cpus = true, .gpu = false}, either{.cpus = true, .gpu = true};
  EXPECT_EQ(deployment->attach_operator(::getpid(), "stage1", all, either).error().code,
            ErrorCode::unavailable)
      << "its memory is not there yet";
  ASSERT_TRUE(until([&] { return !deployment->device_sockets().empty(); }));
  ASSERT_TRUE(until([&] { return deployment->status()["gpus"][0]["uuid"] != "not there yet"; }));
  EXPECT_THAT(deployment->attach_operator(::getpid(), "stage1", all, cpus).error().message,
              HasSubstr("runs on a GPU, which the program that attaches does not"));
  const auto attachment = deployment->attach_operator(::getpid(), "stage1", all, either);
  ASSERT_TRUE(attachment) << attachment.error().message;
  EXPECT_TRUE(attachment->gpu);
}

}  // namespace
}  // namespace opsplit::daemon
