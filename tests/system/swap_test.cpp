// Operators that others take the place of, while requests flow, and operators that nobody serves yet.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <csignal>
#include <thread>

#include "ipc/client.hpp"
#include "tests/system/load.hpp"

namespace opsplit::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class Swap : public SystemTest {
 protected:
  static Process attach(const std::string& mode) {
    return start_opsplit({"attach", "digits/relu", "--", program("custom-operator"), mode});
  }
  // Of the one instance that serves.
  static std::string backend() {
    const auto all = instances("digits", "relu");
    return all.size() == 1 && all[0]["state"] == "ready" ? all[0]["backend"].get<std::string>()
                                                         : "";
  }
  static std::string state() { return instance("digits", "relu")["state"]; }
  static void swap_to_native() {
    const Outcome outcome = opsplit({"swap", "digits/relu", "--backend", "native"});
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(backend(), "native");
  }
  static Result<> ask(std::chrono::seconds patience = 10s) {
    const auto client = ipc::Client::connect({socket_path().string(), "digits"});
    if (!client) return tl::unexpected(client.error());
    auto request = (*client)->begin(10s);
    if (!request) return tl::unexpected(request.error());
    const std::span<std::byte> image = request->input(0);
    std::fill(image.begin(), image.end(), std::byte{0x3F});
    if (auto sent = request->submit(); !sent) return sent;
    return request->wait(patience);
  }
};

TEST_F(Swap, BackAndForthUnderLoadLosesNothing) {
  up({digits_model});
  const auto answers = folder() / "answers";
  find_answers("digits", 400, answers);
  std::vector<Load> loads;
  for (std::uint32_t client = 0; client < 4; ++client)
    loads.emplace_back(Load::Options{
        .answers = answers, .first = client * 100, .count = 100, .in_flight = 2, .repeat = true});
  const auto goes_on = [&] {
    const std::uint64_t before = loads[0].answered();
    return eventually([&] { return loads[0].answered() > before; });
  };
  constexpr int rounds = 10;
  for (int round = 0; round < rounds; ++round) {
    Process custom = attach("relu");
    ASSERT_TRUE(eventually([] { return backend() == "attach"; })) << custom.err();
    EXPECT_TRUE(goes_on());
    ASSERT_NO_FATAL_FAILURE(swap_to_native());
    EXPECT_EQ(custom.wait().status, 0) << "the program ends, and well, when it is swapped out";
    EXPECT_TRUE(goes_on());
  }
  const Report report = finish(loads);
  EXPECT_EQ(report.wrong, 0u);
  EXPECT_EQ(report.failed, 0u) << report.error;
  EXPECT_EQ(report.epochs_lost, 0u);
  EXPECT_EQ(deployment("digits")["in_use"], 0);
  EXPECT_GE(instance("digits", "relu")["tasks_done"], 4 * report.answered) << "figures only grow";
  down();
}

TEST_F(Swap, WhatDoesNotGetThereLeavesTheOtherServing) {
  up({digits_model});
  const pid_t before = instance("digits", "relu")["pid"];
  const auto failure = [](const std::string& mode) {
    const Outcome outcome = attach(mode).wait();
    EXPECT_EQ(outcome.status, 1);
    return outcome.err;
  };
  EXPECT_THAT(failure("refuses"), AllOf(HasSubstr("no Relu for relu1"), HasSubstr("exit code 1"),
                                        HasSubstr("served as before")));
  EXPECT_THAT(failure("crashes"), AllOf(HasSubstr("signal 6"), HasSubstr("served as before")));
  EXPECT_THAT(error_line(opsplit({"attach", "digits/relu", "--", "/no/such/program"})),
              HasSubstr("/no/such/program"));
  EXPECT_THAT(error_line(opsplit({"attach", "digits/nobody", "--", "true"})),
              HasSubstr("no operator 'nobody'"));
  EXPECT_THAT(error_line(opsplit({"attach", "other/relu", "--", "true"})),
              HasSubstr("no deployment 'other'"));
  EXPECT_TRUE(eventually([] { return backend() == "native"; }));
  EXPECT_EQ(instance("digits", "relu")["pid"], before);
  const auto answered = ask();
  EXPECT_TRUE(answered) << answered.error().message;
  down();
}

TEST_F(Swap, IsForWhoeverAttachesNextWhereThatIsAskedFor) {
  up({digits_model});
  Process swap = start_opsplit({"swap", "digits/relu", "--backend", "attach"});
  ASSERT_TRUE(eventually([&] {
    return swap.err().find("waiting for whoever") != std::string::npos;
  })) << swap.err();
  EXPECT_TRUE(ask()) << "served as before, meanwhile";
  Process custom({program("custom-operator"), "relu", "--socket", socket_path().string(),
                  "--deployment", "digits", "--operator", "relu"});
  EXPECT_EQ(swap.wait().status, 0) << swap.err();
  EXPECT_EQ(backend(), "attach");
  EXPECT_TRUE(ask());
  down();
}

TEST_F(Swap, AnExceptionIsTheClientsAndTheOperatorGoesOn) {
  up({digits_model});
  Process custom = attach("throws-at-digits");
  ASSERT_TRUE(eventually([] { return backend() == "attach"; })) << custom.err();
  const pid_t pid = instance("digits", "relu")["pid"];
  for (int time = 0; time < 2; ++time) {
    const auto answer = ask();
    ASSERT_FALSE(answer);
    EXPECT_THAT(answer.error().message, HasSubstr("relu"));
    EXPECT_THAT(answer.error().message, HasSubstr("this is a digit"));
  }
  EXPECT_EQ(instance("digits", "relu")["pid"], pid);
  down();
  EXPECT_EQ(custom.wait().status, 0);
}

TEST_F(Swap, RequestsWaitForAnOperatorThatNobodyServesYet) {
  const auto file = folder() / "digits.yaml";
  write_file(file, fmt::format("name: digits\nmodel: {}\nsplit: by-type\n"
                               "operators:\n  relu: {{backend: attach}}\n",
                               digits_model));
  up({file});
  EXPECT_EQ(state(), "awaited");
  Result<> answer = fail(ErrorCode::timed_out, "");
  std::thread client([&] { answer = ask(); });
  ASSERT_TRUE(eventually([] { return deployment("digits")["in_use"] == 1; }));
  {
    Process custom = attach("relu");
    client.join();
    EXPECT_TRUE(answer) << answer.error().message;
    custom.signal(SIGTERM);
    EXPECT_EQ(custom.wait().status, 0);
  }
  EXPECT_TRUE(eventually([] { return state() == "awaited"; }));
  Process again = attach("relu");
  EXPECT_TRUE(ask());
  EXPECT_EQ(instance("digits", "relu")["bytes_copied"], 0);
  down();
  EXPECT_EQ(again.wait().status, 0);
}

TEST_F(Swap, CtrlCWhileTheProgramLoadsLeavesTheOtherServing) {
  up({digits_model});
  const pid_t before = instance("digits", "relu")["pid"];
  Process custom = attach("loads-slowly");
  ASSERT_TRUE(eventually([] {
    const auto all = instances("digits", "relu");
    return all.size() == 2 && all[1]["state"] == "starting";
  }));
  custom.signal(SIGINT);
  EXPECT_EQ(custom.wait().status, 1);
  EXPECT_TRUE(eventually([] { return backend() == "native"; }));
  EXPECT_EQ(instance("digits", "relu")["pid"], before);
  EXPECT_TRUE(ask());
  down();
}

TEST_F(Swap, ATaskThatTakesLongIsFinishedByWhoHoldsIt) {
  up({digits_model});
  Process custom = attach("takes-4-seconds");
  ASSERT_TRUE(eventually([] { return backend() == "attach"; })) << custom.err();
  Result<> answer = fail(ErrorCode::timed_out, "");
  std::thread client([&] { answer = ask(30s); });
  ASSERT_TRUE(eventually([] { return instance("digits", "relu")["in_flight"] == 1; }));
  ASSERT_NO_FATAL_FAILURE(swap_to_native());
  client.join();
  EXPECT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(custom.wait().status, 0);
  down();
}

TEST_F(Swap, AProgramAttachesAgainInTheNextEpoch) {
  up({digits_model});
  Process custom = attach("relu");
  ASSERT_TRUE(eventually([] { return backend() == "attach"; })) << custom.err();
  const json before = ps();
  ::kill(before["broker"].get<pid_t>(), SIGKILL);
  EXPECT_TRUE(eventually([&] {
    return deployment("digits")["epoch"] > before["deployments"][0]["epoch"] &&
           backend() == "attach";
  }));
  EXPECT_TRUE(ask());
  EXPECT_GE(instance("digits", "relu")["tasks_done"],
            before["deployments"][0]["instances"][1]["tasks_done"]);
  down();
  EXPECT_EQ(custom.wait().status, 0);
}

TEST_F(Swap, ASuccessorOfOpsplitdKnowsWhoServes) {
  up({digits_model});
  Process custom = attach("relu");
  ASSERT_TRUE(eventually([] { return backend() == "attach"; })) << custom.err();
  const pid_t pid = instance("digits", "relu")["pid"];
  ::kill(ps()["pid"].get<pid_t>(), SIGKILL);
  ASSERT_TRUE(eventually([] { return backend() == "attach"; }));
  EXPECT_EQ(instance("digits", "relu")["pid"], pid);
  EXPECT_TRUE(ask());
  ASSERT_NO_FATAL_FAILURE(swap_to_native());
  EXPECT_TRUE(ask());
  down();
}

}  // namespace
}  // namespace opsplit::test
