#include "daemon/running_deployment.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "daemon/preparation.hpp"
#include "tests/daemon/fake_launcher.hpp"
#include "tests/daemon/temporary_folder.hpp"
#include "tests/private_namespace.hpp"

namespace opsplit::daemon {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using Phase = RunningDeployment::Phase;

class RunningDeploymentTest : public testing::Test {
 protected:
  const std::set<std::string> everything = {"Conv", "Gemm", "MaxPool", "Relu", "Softmax"};
  static constexpr std::uint64_t epoch = 1;

  // An opsplitd that starts elsewhere would take our board for one that was left over.
  static void SetUpTestSuite() { test::enter_private_namespace(); }
  RunningDeploymentTest() {
    make([](Deployment&) {});
  }
  // On this machine, or on one in hwloc's synthetic notation.
  void make(const std::function<void(Deployment&)>& change, std::string_view machine = "") {
    deployment.reset();
    launcher.all.clear();
    Deployment digits = Deployment::open(OPSPLIT_SOURCE_DIR "/examples/digits/digits.onnx").value();
    EXPECT_TRUE(digits.set_split("stages:2") && digits.set_name(name));
    change(digits);
    Planned planned = plan_deployment(std::move(digits)).value();
    if (!machine.empty()) {
      planned.topology = Topology::synthetic(machine).value();
      planned.cores = assign_cores(planned, planned.deployment).value();
    }
    plan = planned.plan;
    std::filesystem::create_directory(folder);
    deployment.emplace(context, std::move(planned), folder, /*temporary=*/true);
  }
  ~RunningDeploymentTest() override { std::filesystem::remove_all(folder); }

  void start() {
    deployment->start(epoch, [this](const Result<>& result) { started = result; });
    ASSERT_EQ(launcher.all.size(), 2u);
  }
  void make_ready(FakeLauncher::Launched& instance) {
    ASSERT_TRUE(deployment->attach_operator(instance.pid, ""));
    ASSERT_TRUE(deployment->operator_ready(instance.pid));
  }
  void start_and_make_ready() {
    start();
    for (auto& instance : launcher.all) make_ready(instance);
    ASSERT_TRUE(started && *started);
  }
  // Runs the event loop until the condition holds.
  template <class Condition>
  bool until(Condition holds) {
    for (const Deadline deadline = Clock::now() + 10s; !holds() && Clock::now() < deadline;)
      io.run_one_for(100ms);
    return holds();
  }
  // Lets an operator die, and its successor become ready, until it is not restarted any more.
  void wear_out(const std::string& last_words) {
    std::size_t victim = 0;
    while (true) {
      const std::size_t before = launcher.all.size();
      FakeLauncher::die(launcher.all[victim], last_words);
      ASSERT_TRUE(until([&] {
        return launcher.all.size() > before ||
               deployment->status()["instances"][0]["state"] == "failed";
      }));
      if (launcher.all.size() == before) return;
      victim = before;
      make_ready(launcher.all[victim]);
    }
  }

  // The record of the process that was launched as the `index`th.
  ipc::Participant& participant(std::size_t index) {
    if (!first_board) {
      const auto layout = ipc::BoardLayout::of(plan, 8, ipc::default_participants).value();
      first_board.emplace(ipc::Board::open(ipc::board_name(name, epoch), layout, epoch).value());
    }
    // Launch number 1 is opsplitd's own.
    return first_board->participant(static_cast<ipc::LaunchNumber>(index) + 2);
  }

  TemporaryFolder logs;
  boost::asio::io_context io;
  FakeLauncher launcher;
  ipc::SystemFutex futex;
  Context context{io, launcher, futex, "/run/test.sock", "/usr/bin", logs.path()};
  const std::string name = fmt::format("unit{}", ::getpid());
  const std::string folder = ipc::folder_path(name, epoch);
  Plan plan;
  std::optional<Result<>> started;
  std::optional<RunningDeployment> deployment;
  std::optional<ipc::Board> first_board;  // of the first epoch, as others see it
};

TEST_F(RunningDeploymentTest, IsReadyOnceEveryInstanceIs) {
  start();
  EXPECT_THAT(launcher.all[0].command.arguments,
              ElementsAre("/usr/bin/opsplit-operator", "--socket", "/run/test.sock", "--deployment",
                          name, "--operator", plan.operators[0].name));
  EXPECT_EQ(deployment->phase(), Phase::starting);
  make_ready(launcher.all[0]);
  EXPECT_EQ(deployment->phase(), Phase::starting);
  EXPECT_FALSE(started);
  make_ready(launcher.all[1]);
  EXPECT_EQ(deployment->phase(), Phase::ready);
  ASSERT_TRUE(started);
  EXPECT_TRUE(*started);
}

TEST_F(RunningDeploymentTest, OnlyWhoItLaunchedMayAttachAndOnlyOnce) {
  start();
  EXPECT_FALSE(deployment->attach_operator(::getpid(), ""));
  EXPECT_FALSE(deployment->operator_ready(::getpid()));
  make_ready(launcher.all[0]);
  EXPECT_FALSE(deployment->attach_operator(launcher.all[0].pid, ""));
  EXPECT_FALSE(deployment->operator_ready(launcher.all[0].pid));
}

TEST_F(RunningDeploymentTest, ADeathWhileItStartsEndsTheStartWithItsLastWords) {
  start();
  FakeLauncher::die(launcher.all[1], "something\nno kernel for node 7\n");
  ASSERT_TRUE(until([&] { return launcher.all[0].signals.size() == 1; }));
  EXPECT_THAT(launcher.all[0].signals, ElementsAre(SIGTERM));
  EXPECT_FALSE(started) << "the other process is still there";
  FakeLauncher::die(launcher.all[0]);
  ASSERT_TRUE(until([&] { return started.has_value(); }));
  ASSERT_FALSE(*started);
  EXPECT_EQ(started->error().code, ErrorCode::operator_failed);
  EXPECT_THAT(started->error().message, HasSubstr("no kernel for node 7"));
  EXPECT_THAT(started->error().message, HasSubstr(plan.operators[1].name));
  EXPECT_EQ(deployment->phase(), Phase::stopped);
}

TEST_F(RunningDeploymentTest, ADeathLaterIsFollowedByARestartUnderANewLaunchNumber) {
  start();
  const ipc::LaunchNumber before =
      deployment->attach_operator(launcher.all[0].pid, "").value().launch;
  for (auto& instance : launcher.all) make_ready(instance);
  FakeLauncher::die(launcher.all[0]);
  ASSERT_TRUE(until([&] { return launcher.all.size() == 3; }));
  EXPECT_EQ(launcher.all[2].command.arguments, launcher.all[0].command.arguments);
  const auto attachment = deployment->attach_operator(launcher.all[2].pid, "");
  ASSERT_TRUE(attachment);
  EXPECT_GT(attachment->launch, before);
  EXPECT_EQ(attachment->seat, 0u);
  EXPECT_EQ(deployment->status()["instances"][0]["restarts"], 1);
  EXPECT_EQ(deployment->phase(), Phase::ready);
}

TEST_F(RunningDeploymentTest, AStandbyTakesThePlaceOfWhoDiesAndWhoIsReadyNextStandsBy) {
  make([](Deployment& digits) { digits.operators["stage1"].standby = 1; });
  deployment->start(epoch, [this](const Result<>& result) { started = result; });
  ASSERT_EQ(launcher.all.size(), 3u);
  for (auto& instance : launcher.all) make_ready(instance);
  EXPECT_EQ(deployment->phase(), Phase::ready);
  const auto states = [&] {
    std::vector<std::string> found;
    const nlohmann::json status = deployment->status();
    for (const nlohmann::json& instance : status["instances"]) found.push_back(instance["state"]);
    return found;
  };
  EXPECT_THAT(states(), ElementsAre("ready", "standby", "ready"));
  FakeLauncher::die(launcher.all[0]);
  ASSERT_TRUE(until([&] { return launcher.all.size() == 4; }));
  EXPECT_THAT(states(), ElementsAre("starting", "ready", "ready"));
  make_ready(launcher.all[3]);
  EXPECT_THAT(states(), ElementsAre("standby", "ready", "ready"));
}

TEST_F(RunningDeploymentTest, FiguresOnlyGrowThroughRestartsAndEpochs) {
  start();
  const auto attachment = deployment->attach_operator(launcher.all[0].pid, "").value();
  for (auto& instance : launcher.all) make_ready(instance);
  const auto board_of = [&](std::uint64_t of_epoch) {
    const auto layout =
        ipc::BoardLayout::of(plan, attachment.depth, attachment.participants).value();
    return ipc::Board::open(ipc::board_name(name, of_epoch), layout, of_epoch).value();
  };
  const auto count = [](const ipc::Board& board, ipc::LaunchNumber launch) {
    ipc::Participant& record = board.participant(launch);
    ++record.tasks_done;
    record.busy_ns += 1000;
    record.bytes_copied += 7;
    board.durations(launch).run.record(1000);
  };
  const auto expect_counted = [&](std::uint64_t times) {
    const auto status = deployment->status(RunningDeployment::Detail::histograms);
    const auto& entry = status["instances"][0];
    EXPECT_EQ(entry["tasks_done"], times);
    EXPECT_EQ(entry["busy_ns"], times * 1000);
    EXPECT_EQ(entry["bytes_copied"], times * 7);
    EXPECT_EQ(entry["run_histogram"], (nlohmann::json{ipc::bucket_of(1000), times}));
    EXPECT_NEAR(entry["run_p50_ns"].get<double>(), 1000, 125);
    EXPECT_EQ(entry["wait_p50_ns"], nullptr);
    EXPECT_EQ(status["instances"][1]["tasks_done"], 0);
  };
  std::optional<ipc::Board> board = board_of(epoch);
  count(*board, attachment.launch);
  expect_counted(1);
  FakeLauncher::die(launcher.all[0]);
  ASSERT_TRUE(until([&] { return launcher.all.size() == 3; }));
  expect_counted(1);
  const auto successor = deployment->attach_operator(launcher.all[2].pid, "").value().launch;
  count(*board, successor);
  expect_counted(2);

  // Requests: a slot given back is one, answered or not.
  const auto client = deployment->attach_client(own_identity()).value().launch;
  ipc::Handover handover(*board, plan, futex);
  const auto hold = handover.take_slot(client);
  ASSERT_TRUE(hold && handover.close(*hold, client));
  count(*board, client);
  const auto expect_requests = [&] {
    EXPECT_EQ(deployment->status()["requests_done"], 1);
    EXPECT_EQ(deployment->status()["requests_answered"], 1);
  };
  expect_requests();

  deployment->interrupt([] {});
  for (std::size_t i = 1; i < 3; ++i) FakeLauncher::die(launcher.all[i]);
  ASSERT_TRUE(until([&] { return deployment->phase() == Phase::stopped; }));
  expect_counted(2);
  expect_requests();
  deployment->start(epoch + 1, [](const Result<>&) {});
  board = board_of(epoch + 1);
  count(*board, deployment->attach_operator(launcher.all[3].pid, "").value().launch);
  expect_counted(3);
  expect_requests();
  EXPECT_EQ(deployment->status()["instances"][0]["restarts"], 1);
}

TEST_F(RunningDeploymentTest, WhateverAnOperatorWritesIsOnlyShown) {
  start();
  const auto attachment = deployment->attach_operator(launcher.all[0].pid, "").value();
  const auto layout = ipc::BoardLayout::of(plan, attachment.depth, attachment.participants).value();
  const ipc::Board board = ipc::Board::open(ipc::board_name(name, epoch), layout, epoch).value();
  std::memset(static_cast<void*>(&board.durations(attachment.launch)), 0xff,
              sizeof(ipc::Durations));
  board.participant(attachment.launch).busy_ns = UINT64_MAX;
  for (int life = 0; life < 2; ++life) {
    const auto entry = deployment->status()["instances"][0];
    EXPECT_EQ(entry["busy_ns"], UINT64_MAX);
    EXPECT_TRUE(entry["run_p99_ns"].is_number());
    if (life == 0) FakeLauncher::die(launcher.all[0]);
    until([&] { return deployment->status()["instances"][0]["pid"] == 0; });
  }
}

TEST_F(RunningDeploymentTest, RequestsOfAnOperatorThatIsGivenUpAreRefusedWithItsLastWords) {
  start_and_make_ready();
  ASSERT_NO_FATAL_FAILURE(wear_out("out of luck\n"));
  const auto client = deployment->attach_client(own_identity());
  ASSERT_TRUE(client);
  const auto layout = ipc::BoardLayout::of(plan, client->depth, client->participants).value();
  const ipc::Board board = ipc::Board::open(ipc::board_name(name, epoch), layout, epoch).value();
  ipc::Handover handover(board, plan, futex);
  const auto hold = handover.take_slot(client->launch);
  ASSERT_TRUE(hold && handover.submit(*hold, client->launch));
  // The second operator is a fake, too: what has failed reaches it as data, which nobody hands on.
  ASSERT_TRUE(until([&] { return handover.failed_task(*hold).has_value(); }));
  const auto task = *handover.failed_task(*hold);
  EXPECT_EQ(plan.tasks[task].op, 0);
  EXPECT_THAT(handover.failure(hold->slot, task), HasSubstr("out of luck"));
}

TEST_F(RunningDeploymentTest, IsStoppedOnceTheLastProcessHasEnded) {
  start_and_make_ready();
  bool stopped = false;
  deployment->stop([&] { stopped = true; });
  for (auto& instance : launcher.all) EXPECT_THAT(instance.signals, ElementsAre(SIGTERM));
  EXPECT_FALSE(deployment->attach_operator(launcher.all[0].pid, ""));
  FakeLauncher::die(launcher.all[0]);
  io.poll();
  EXPECT_FALSE(stopped);
  FakeLauncher::die(launcher.all[1]);
  EXPECT_TRUE(until([&] { return stopped; }));
  EXPECT_EQ(deployment->phase(), Phase::stopped);
  EXPECT_EQ(launcher.all.size(), 2u) << "a death that was asked for is followed by no restart";
}

TEST_F(RunningDeploymentTest, AStopWhileItStartsFailsTheStart) {
  start();
  deployment->stop([] {});
  ASSERT_TRUE(started);
  EXPECT_EQ(started->error().code, ErrorCode::unavailable);
  for (auto& instance : launcher.all) FakeLauncher::die(instance);
  EXPECT_TRUE(until([&] { return deployment->phase() == Phase::stopped; }));
}

TEST_F(RunningDeploymentTest, AnInterruptedStartIsAnsweredByTheNextEpoch) {
  start();
  bool interrupted = false;
  deployment->interrupt([&] { interrupted = true; });
  for (auto& instance : launcher.all) FakeLauncher::die(instance);
  ASSERT_TRUE(until([&] { return interrupted; }));
  EXPECT_FALSE(started);
  deployment->start(epoch + 1, [](const Result<>&) {});
  EXPECT_FALSE(std::filesystem::exists(folder)) << "it has moved to the new epoch's name";
  ASSERT_EQ(launcher.all.size(), 4u);
  make_ready(launcher.all[2]);
  make_ready(launcher.all[3]);
  ASSERT_TRUE(started);
  EXPECT_TRUE(*started);
}

TEST_F(RunningDeploymentTest, AClientIsForgottenOnceItHasLeftAndHoldsNothing) {
  start_and_make_ready();
  const auto client = deployment->attach_client(own_identity());
  ASSERT_TRUE(client);
  const auto layout = ipc::BoardLayout::of(plan, client->depth, client->participants).value();
  const ipc::Board board = ipc::Board::open(ipc::board_name(name, epoch), layout, epoch).value();
  ipc::Handover handover(board, plan, futex);
  const auto hold = handover.take_slot(client->launch);
  ASSERT_TRUE(hold);
  deployment->client_disconnected(client->launch);
  io.run_one_for(1s);  // a tick
  EXPECT_EQ(deployment->status()["clients"], 1) << "it holds a slot";
  handover.close(*hold, client->launch);
  EXPECT_TRUE(until([&] { return deployment->status()["clients"] == 0; }));
  EXPECT_EQ(board.participant(client->launch).launch, 0u);
}

TEST_F(RunningDeploymentTest, WhoAttachesIsConfinedAndItsPlaceIsTaken) {
  const std::string attached = plan.operators[1].name;
  make([&](Deployment& digits) { digits.operators[attached].backend = Backend::attach; });
  deployment->start(epoch, [this](const Result<>& result) { started = result; });
  ASSERT_EQ(launcher.all.size(), 1u);
  make_ready(launcher.all[0]);
  EXPECT_THAT(deployment->awaited(), ElementsAre(attached));
  EXPECT_TRUE(started && *started) << "requests wait for it, not the deployment";

  EXPECT_THAT(deployment->attach_operator(::getpid(), "nobody").error().message,
              HasSubstr("no operator 'nobody'"));
  EXPECT_THAT(deployment->attach_operator(::getpid(), plan.operators[0].name).error().message,
              HasSubstr("opsplitd itself starts"));
  EXPECT_THAT(deployment->attach_operator(1'000'000'999, attached, everything).error().message,
              HasSubstr("PID namespace"));
  const auto attachment = deployment->attach_operator(::getpid(), attached, everything);
  ASSERT_TRUE(attachment) << attachment.error().message;
  EXPECT_EQ(attachment->op, 1);
  EXPECT_FALSE(launcher.confined[::getpid()].empty());
  EXPECT_THAT(
      deployment->attach_operator(::getppid(), attached, everything).error().message,
      HasSubstr(fmt::format("is there already: {}/{}.0 (pid {})", name, attached, ::getpid())));
  ASSERT_TRUE(deployment->operator_ready(::getpid()));
  EXPECT_EQ(deployment->status()["instances"][1]["state"], "ready");
}

TEST_F(RunningDeploymentTest, WhereOthersStartAllOperatorsItIsReadyOnceAllHaveAttached) {
  make([](Deployment& digits) { digits.attach = true; });
  deployment->start(epoch, [this](const Result<>& result) { started = result; });
  EXPECT_TRUE(launcher.all.empty());
  ASSERT_TRUE(deployment->attach_operator(::getpid(), plan.operators[0].name, everything));
  ASSERT_TRUE(deployment->operator_ready(::getpid()));
  EXPECT_FALSE(started);
  ASSERT_TRUE(deployment->attach_operator(::getppid(), plan.operators[1].name, everything));
  ASSERT_TRUE(deployment->operator_ready(::getppid()));
  EXPECT_TRUE(started && *started);
}

TEST_F(RunningDeploymentTest, WhereOthersStartAllOperatorsWhoeverAttachesLaterIsNotWaitedFor) {
  make([&](Deployment& digits) {
    digits.attach = true;
    digits.operators[plan.operators[1].name].backend = Backend::attach;
  });
  deployment->start(epoch, [this](const Result<>& result) { started = result; });
  EXPECT_FALSE(started);
  ASSERT_TRUE(deployment->attach_operator(::getpid(), plan.operators[0].name, everything));
  ASSERT_TRUE(deployment->operator_ready(::getpid()));
  EXPECT_TRUE(started && *started);
  EXPECT_THAT(deployment->awaited(), ElementsAre(plan.operators[1].name));
}

TEST_F(RunningDeploymentTest, OnlyWhatAFrameworkComputesIsTriedBeforeItIsReady) {
  for (const auto& [backend, is_tried] : std::map<Backend, bool>{
           {Backend::native, false}, {Backend::attach, false}, {Backend::pytorch, true}}) {
    make([&](Deployment& digits) {
      digits.attach = true;
      digits.operators[plan.operators[0].name].backend = backend;
    });
    deployment->start(epoch, [this](const Result<>& result) { started = result; });
    const auto attachment =
        deployment->attach_operator(::getpid(), plan.operators[0].name, everything);
    ASSERT_TRUE(attachment) << attachment.error().message;
    EXPECT_EQ(attachment->warm_up, is_tried) << to_string(backend);
  }
}

// Two instances of stage 1, in a deployment that is ready.
class Swap : public RunningDeploymentTest {
 protected:
  Swap() {
    make([](Deployment& digits) { digits.operators["stage2"].instances = 2; });
    deployment->start(epoch, [this](const Result<>& result) { started = result; });
    for (auto& instance : launcher.all) make_ready(instance);
  }
  void swap(Backend backend = Backend::native) {
    deployment->swap("stage2", backend, [this](const Result<>& result) { swapped = result; });
  }
  // pid and state, of stage 2.
  [[nodiscard]] std::vector<std::string> serving() const {
    std::vector<std::string> found;
    const nlohmann::json status = deployment->status();
    for (const auto& instance : status["instances"])
      if (instance["operator"] == "stage2")
        found.push_back(fmt::format("{} {}", instance["pid"].get<pid_t>() % 1'000'000'000,
                                    instance["state"].get<std::string>()));
    return found;
  }
  std::optional<Result<>> swapped;
};

TEST_F(Swap, TheReplacementsServeOnceAllOfThemAreReadyAndTheOthersEnd) {
  swap();
  ASSERT_EQ(launcher.all.size(), 5u);
  const auto attachment = deployment->attach_operator(launcher.all[3].pid, "");
  ASSERT_TRUE(attachment) << attachment.error().message;
  EXPECT_TRUE(attachment->warm_up);
  EXPECT_EQ(attachment->seat, 2u) << "beside those that serve";
  ASSERT_TRUE(deployment->operator_ready(launcher.all[3].pid));
  EXPECT_THAT(serving(), ElementsAre("1 ready", "2 ready", "3 standby", "4 starting"));
  EXPECT_FALSE(swapped);

  make_ready(launcher.all[4]);
  EXPECT_THAT(serving(), ElementsAre("1 stopping", "2 stopping", "3 ready", "4 ready"));
  EXPECT_EQ(participant(3).mode, static_cast<std::uint32_t>(ipc::Mode::active));
  EXPECT_EQ(participant(1).mode, static_cast<std::uint32_t>(ipc::Mode::draining));
  EXPECT_THAT(launcher.all[1].signals, ElementsAre(SIGTERM));
  EXPECT_FALSE(swapped) << "the others may still be at a task";
  FakeLauncher::die(launcher.all[1]);
  FakeLauncher::die(launcher.all[2]);
  ASSERT_TRUE(until([this] { return swapped.has_value(); }));
  EXPECT_TRUE(*swapped);
  EXPECT_THAT(serving(), ElementsAre("3 ready", "4 ready"));
  EXPECT_EQ(launcher.all.size(), 5u) << "nothing was started in the place of those that ended";

  swap();
  ASSERT_EQ(launcher.all.size(), 7u);
  EXPECT_EQ(deployment->attach_operator(launcher.all[5].pid, "")->seat, 0u) << "free again";
}

TEST_F(Swap, AReplacementThatDiesLeavesTheOthersServing) {
  swap();
  make_ready(launcher.all[3]);
  FakeLauncher::die(launcher.all[4], "no such thing");
  ASSERT_TRUE(until([this] { return swapped.has_value(); }));
  ASSERT_FALSE(*swapped);
  EXPECT_THAT(swapped->error().message, HasSubstr("no such thing"));
  EXPECT_THAT(launcher.all[3].signals, ElementsAre(SIGKILL));
  ASSERT_TRUE(until([this] { return serving().size() == 2; }));
  EXPECT_THAT(serving(), ElementsAre("1 ready", "2 ready"));
  EXPECT_EQ(launcher.all.size(), 5u) << "replacements are not started again";
}

TEST_F(Swap, IsGivenUpWhenWhoeverAskedLeavesAndWhenTheDeploymentStops) {
  deployment->swap("stage1", Backend::attach, [this](const Result<>& r) { swapped = r; });
  EXPECT_THAT(deployment->awaited(), ElementsAre("stage1"));
  deployment->abandon_swap({ErrorCode::unavailable, "left"});
  ASSERT_TRUE(swapped.has_value());
  EXPECT_EQ(swapped->error().message, "left");
  EXPECT_TRUE(deployment->awaited().empty());

  swapped.reset();
  swap();
  deployment->stop(nullptr);
  ASSERT_TRUE(swapped.has_value());
  EXPECT_THAT(swapped->error().message, HasSubstr("was stopped"));
}

TEST_F(Swap, IsRefusedForWhatIsNotThereAndWhileAnotherGoesOn) {
  swap(Backend::attach);
  EXPECT_THAT(swapped->error().message, HasSubstr("has 2 instances"));
  deployment->swap("nobody", Backend::native, [this](const Result<>& r) { swapped = r; });
  EXPECT_THAT(swapped->error().message, HasSubstr("no operator 'nobody'"));
  swap();
  swap();
  EXPECT_THAT(swapped->error().message, HasSubstr("is being swapped"));
}

TEST_F(Swap, OneThatCannotBeLaunchedIsForgottenAndTheNextOneSucceeds) {
  launcher.refuses = true;
  swap();
  ASSERT_TRUE(swapped.has_value());
  EXPECT_EQ(swapped->error().message, "no more processes");
  launcher.refuses = false;
  ASSERT_TRUE(until([this] { return serving().size() == 2; }));
  swapped.reset();
  swap();
  for (std::size_t i = 3; i < 5; ++i) make_ready(launcher.all.at(i));
  FakeLauncher::die(launcher.all[1]);
  FakeLauncher::die(launcher.all[2]);
  ASSERT_TRUE(until([this] { return swapped.has_value(); }));
  EXPECT_TRUE(*swapped);
}

TEST_F(Swap, ADeathMeanwhileIsMendedAsEver) {
  swap();
  FakeLauncher::die(launcher.all[1]);
  ASSERT_TRUE(until([this] { return launcher.all.size() == 6u; })) << "started again";
  make_ready(launcher.all[3]);
  make_ready(launcher.all[4]);
  EXPECT_THAT(serving(), ElementsAre("5 stopping", "2 stopping", "3 ready", "4 ready"));
}

// Where others start all operators, as in containers.
class SwapBetweenThoseWhoAttach : public RunningDeploymentTest {
 protected:
  SwapBetweenThoseWhoAttach() {
    make([](Deployment& digits) {
      digits.attach = true;
      digits.operators["stage2"].instances = 2;
    });
    deployment->start(epoch, [this](const Result<>& result) { started = result; });
    attach("stage1");
    attach("stage2");
    attach("stage2");
  }
  ~SwapBetweenThoseWhoAttach() override {
    for (const pid_t pid : processes) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
    }
  }
  // A process that does nothing.
  void attach(const std::string& op) {
    const pid_t pid = ::fork();
    if (pid == 0)
      while (true) ::pause();
    processes.push_back(pid);
    ASSERT_TRUE(deployment->attach_operator(pid, op, everything));
    ASSERT_TRUE(deployment->operator_ready(pid));
  }
  void swap(Backend backend) {
    deployment->swap("stage2", backend, [this](const Result<>& result) { swapped = result; });
  }
  void end(std::size_t process) { ::kill(processes.at(process), SIGKILL); }
  [[nodiscard]] std::vector<std::string> states() const {
    std::vector<std::string> found;
    const nlohmann::json status = deployment->status();
    for (const auto& instance : status["instances"])
      if (instance["operator"] == "stage2") found.push_back(instance["state"]);
    return found;
  }
  std::vector<pid_t> processes;
  std::optional<Result<>> swapped;
};

TEST_F(SwapBetweenThoseWhoAttach, AsManyAsServeTakeTheirPlaces) {
  ASSERT_TRUE(started && *started);
  swap(Backend::attach);
  EXPECT_FALSE(swapped);
  EXPECT_THAT(deployment->awaited(), ElementsAre("stage2", "stage2"));
  attach("stage2");
  EXPECT_THAT(states(), testing::UnorderedElementsAre("ready", "ready", "standby", "awaited"));
  attach("stage2");
  EXPECT_THAT(states(), ElementsAre("stopping", "stopping", "ready", "ready"));
  end(1);
  end(2);
  ASSERT_TRUE(until([this] { return swapped.has_value(); }));
  EXPECT_TRUE(*swapped);
  EXPECT_THAT(states(), ElementsAre("ready", "ready"));
}

TEST_F(SwapBetweenThoseWhoAttach, OneThatDiesLeavesTheOthersServing) {
  swap(Backend::attach);
  attach("stage2");
  end(3);
  ASSERT_TRUE(until([this] { return swapped.has_value(); }));
  EXPECT_FALSE(*swapped);
  ASSERT_TRUE(until([this] { return states().size() == 2; }));
  EXPECT_THAT(states(), ElementsAre("ready", "ready"));
}

TEST_F(SwapBetweenThoseWhoAttach, OpsplitdStartsNobodyItself) {
  swap(Backend::native);
  ASSERT_TRUE(swapped && !*swapped);
  EXPECT_THAT(swapped->error().message, HasSubstr("opsplitd starts none"));
  EXPECT_TRUE(launcher.all.empty());
}

TEST_F(SwapBetweenThoseWhoAttach, TheNextEpochWaitsForThemAsForTheirPredecessors) {
  swap(Backend::attach);
  attach("stage2");
  attach("stage2");
  bool stopped = false;
  deployment->interrupt([&stopped] { stopped = true; });
  for (std::size_t process = 0; process < processes.size(); ++process) end(process);
  ASSERT_TRUE(until([&stopped] { return stopped; }));
  started.reset();
  deployment->start(epoch + 1, [this](const Result<>& result) { started = result; });
  attach("stage1");
  EXPECT_FALSE(started);
  attach("stage2");
  attach("stage2");
  EXPECT_TRUE(started && *started);
}

// Four cores: stage 0 asks for CPU 0, stage 1 has what is left.
class CoresOfADeployment : public RunningDeploymentTest {
 protected:
  CoresOfADeployment() {
    make([](Deployment& digits) { digits.operators["stage1"].cores = CpuSet{0}; }, "core:4 pu:1");
    start_and_make_ready();
  }
  [[nodiscard]] nlohmann::json instance(std::size_t index) const {
    return deployment->status()["instances"][index];
  }
  // As its host would say it.
  void follows(std::size_t index) {
    const ipc::AssignedCores cores = deployment->assigned_cores(launcher.all[index].pid).value();
    ipc::Participant& record = participant(index);
    record.threads = static_cast<std::uint32_t>(cores.threads);
    record.cores_followed = record.cores_version.load();
  }
};

TEST_F(CoresOfADeployment, ChangeForAllThatTheyAreSharedWith) {
  EXPECT_EQ(instance(0)["cores"], "0");
  EXPECT_EQ(instance(1)["cores"], "1-3");
  ASSERT_TRUE(deployment->set_cores("stage1", CpuSet{2, 3}));
  EXPECT_THAT(launcher.moves, ElementsAre(std::pair{launcher.all[0].pid, CpuSet{2, 3}},
                                          std::pair{launcher.all[1].pid, CpuSet{0, 1}}));
  EXPECT_EQ(participant(0).cores_version, 1u);
  EXPECT_EQ(participant(1).cores_version, 1u);
  const auto cores = deployment->assigned_cores(launcher.all[1].pid);
  ASSERT_TRUE(cores);
  EXPECT_THAT(cores->cpus, ElementsAre(0, 1));
  EXPECT_EQ(cores->threads, 2);
  EXPECT_GT(cores->worker.spin_ns, 0u);
  EXPECT_FALSE(deployment->assigned_cores(::getpid()));
  EXPECT_EQ(instance(0)["cores"], "2-3");
  EXPECT_EQ(instance(0)["changing"], true);
  follows(0);
  EXPECT_EQ(instance(0)["changing"], false);
  EXPECT_EQ(instance(0)["threads"], 2);
  EXPECT_EQ(instance(0)["degraded"], "");
}

TEST_F(CoresOfADeployment, ThoseThatAreTheSameAreLeftAlone) {
  ASSERT_TRUE(deployment->set_cores("stage1", CpuSet{0}));
  EXPECT_TRUE(launcher.moves.empty());
  EXPECT_EQ(participant(0).cores_version, 0u);
}

TEST_F(CoresOfADeployment, AreDividedAnewByWhatRequestsReallyTook) {
  make([](Deployment& digits) { digits.objective = Objective::throughput; }, "core:4 pu:1");
  start_and_make_ready();
  const auto client = deployment->attach_client(own_identity()).value();
  participant(0).busy_ns = 1'000'000;
  participant(1).busy_ns = 9'000'000;
  ipc::Handover handover(*first_board, plan, futex);
  const auto before = instance(1)["cores"];
  for (int request = 0; request < 99; ++request)
    handover.close(*handover.take_slot(client.launch), client.launch);
  io.run_one_for(1s);  // a tick
  EXPECT_EQ(instance(1)["cores"], before) << "too few to believe";
  handover.close(*handover.take_slot(client.launch), client.launch);
  ASSERT_TRUE(until([&] { return instance(1)["cores"] == "0-2"; })) << instance(1).dump(2);
  EXPECT_EQ(instance(0)["cores"], "3");
  EXPECT_EQ(participant(1).cores_version, 1u);
}

TEST_F(CoresOfADeployment, HoldForRestartsAndLaterEpochs) {
  ASSERT_TRUE(deployment->set_cores("stage1", CpuSet{2, 3}));
  FakeLauncher::die(launcher.all[0]);
  ASSERT_TRUE(until([&] { return launcher.all.size() == 3; }));
  EXPECT_THAT(launcher.all[2].command.cpus, ElementsAre(2, 3));
  const auto attachment = deployment->attach_operator(launcher.all[2].pid, "");
  ASSERT_TRUE(attachment);
  EXPECT_THAT(attachment->cores.cpus, ElementsAre(2, 3));
  EXPECT_EQ(attachment->cores.threads, 2);

  bool interrupted = false;
  deployment->interrupt([&] { interrupted = true; });
  FakeLauncher::die(launcher.all[1]);
  FakeLauncher::die(launcher.all[2]);
  ASSERT_TRUE(until([&] { return interrupted; }));
  deployment->start(epoch + 1, [](const Result<>&) {});
  ASSERT_EQ(launcher.all.size(), 5u);
  EXPECT_THAT(launcher.all[3].command.cpus, ElementsAre(2, 3));
  EXPECT_THAT(launcher.all[4].command.cpus, ElementsAre(0, 1));
}

TEST_F(CoresOfADeployment, WhatCannotBeGivenChangesNothingAndSaysWhy) {
  const auto before = deployment->status()["instances"];
  EXPECT_THAT(deployment->set_cores("stage1", CpuSet{3, 4}).error().message,
              HasSubstr("4 do not exist here, this machine has 0-3"));
  EXPECT_THAT(deployment->set_cores("stage1", 5).error().message, HasSubstr("4 physical cores"));
  EXPECT_THAT(deployment->set_cores("stage3", 1).error().message,
              HasSubstr("no operator 'stage3'"));
  EXPECT_TRUE(launcher.moves.empty());

  // The first can be moved, the second can't: both are where they were.
  launcher.forbidden[launcher.all[1].pid] = {0, 1};
  const auto refused = deployment->set_cores("stage1", CpuSet{2, 3});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("stage2.0"));
  EXPECT_THAT(refused.error().message, HasSubstr("its cpuset forbids 0-1"));
  EXPECT_THAT(launcher.confined[launcher.all[0].pid], ElementsAre(0));
  EXPECT_EQ(participant(0).cores_version, 1u) << "it places its threads anew";
  follows(0);
  follows(1);
  auto after = deployment->status()["instances"];
  for (std::size_t i = 0; i < 2; ++i) EXPECT_EQ(after[i]["cores"], before[i]["cores"]);
}

TEST_F(CoresOfADeployment, AProcessThatHasJustDiedIsNoReasonToRefuse) {
  FakeLauncher::die(launcher.all[0]);
  launcher.forbidden[launcher.all[0].pid] = {2, 3};
  ASSERT_TRUE(deployment->set_cores("stage1", CpuSet{2, 3}));
  ASSERT_TRUE(until([&] { return launcher.all.size() == 3; }));
  EXPECT_THAT(launcher.all[2].command.cpus, ElementsAre(2, 3));
}

TEST_F(CoresOfADeployment, AreDegradedWhereTheProcessHasOthers) {
  for (std::size_t i = 0; i < 2; ++i) {
    follows(i);
    EXPECT_EQ(instance(i)["degraded"], "");
  }
  // Its cpuset gives a part only.
  launcher.forbidden[launcher.all[0].pid] = {3};
  ASSERT_TRUE(deployment->set_cores("stage1", CpuSet{2, 3}));
  EXPECT_EQ(instance(0)["degraded"], "") << "not as long as it changes";
  follows(0);
  EXPECT_EQ(instance(0)["degraded"], "runs on 2 only: its cpuset forbids 3");
  // Somebody's taskset.
  launcher.confined[launcher.all[0].pid] = {0, 2};
  EXPECT_EQ(instance(0)["degraded"],
            "runs on 0,2 instead of 2-3: somebody has changed its affinity or cpuset");
  launcher.confined[launcher.all[0].pid] = {2, 3};
  participant(0).threads = 1;
  EXPECT_EQ(instance(0)["degraded"], "computes with 1 threads instead of 2: its log says why");
}

TEST_F(RunningDeploymentTest, WhoCannotRunWhatItAttachesForIsRefusedByName) {
  const std::string attached = plan.operators[1].name;  // stages:2: the dense layers are in it
  make([&](Deployment& digits) { digits.operators[attached].backend = Backend::attach; });
  deployment->start(epoch, [this](const Result<>& result) { started = result; });
  EXPECT_THAT(deployment->attach_operator(::getpid(), attached, {"Conv", "MaxPool", "Relu"})
                  .error()
                  .message,
              HasSubstr("has nodes of Gemm, Softmax, which the program that attaches cannot run"));
  EXPECT_THAT(deployment->awaited(), ElementsAre(attached));
  EXPECT_TRUE(deployment->attach_operator(::getpid(), attached, everything));
}

TEST_F(RunningDeploymentTest, WhoAttachesWhereNoneOfItsCpusIsAllowedIsRefused) {
  const std::string attached = plan.operators[1].name;
  make([&](Deployment& digits) { digits.operators[attached].backend = Backend::attach; });
  deployment->start(epoch, [this](const Result<>& result) { started = result; });
  for (int cpu = 0; cpu < 1024; ++cpu) launcher.forbidden[::getpid()].push_back(cpu);
  EXPECT_THAT(deployment->attach_operator(::getpid(), attached, everything).error().message,
              HasSubstr("its cpuset forbids"));
  launcher.forbidden.clear();
  EXPECT_TRUE(deployment->attach_operator(::getpid(), attached, everything));
}

TEST_F(RunningDeploymentTest, ItsEndKillsWhatRunsAndRemovesBoardAndFolder) {
  start_and_make_ready();
  const std::filesystem::path board = "/dev/shm/" + ipc::board_name(name, epoch);
  ASSERT_TRUE(std::filesystem::exists(board));
  deployment.reset();
  for (auto& instance : launcher.all) EXPECT_THAT(instance.signals, ElementsAre(SIGKILL));
  EXPECT_FALSE(std::filesystem::exists(board));
  EXPECT_FALSE(std::filesystem::exists(folder));
}

}  // namespace
}  // namespace opsplit::daemon
