// Starts and stops that are interrupted at a bad moment.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <csignal>
#include <fstream>

#include "tests/system/load.hpp"

namespace opsplit::test {
namespace {

using testing::AnyOf;
using testing::HasSubstr;
using testing::IsEmpty;

class StartAndStop : public SystemTest {
 protected:
  std::string image() {
    const auto file = folder() / "image.npy";
    write_file(file, daemon_header() + std::string(256, '\0'));
    return "image=" + file.string();
  }
  std::vector<std::string> run_command() {
    return {"run", digits_model, "--input", image(), "--output-dir", folder() / "out"};
  }

 private:
  static std::string daemon_header();
};

// NumPy's, of float32 1x1x8x8.
std::string StartAndStop::daemon_header() {
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 8, 8), }";
  header.resize(117, ' ');
  return std::string("\x93NUMPY\x01\x00\x76\x00", 10) + header + "\n";
}

// 0: it is not there yet.
pid_t pid_of(const std::string& op) {
  const json found = instance("digits", op);
  return found.is_null() ? 0 : found["pid"].get<pid_t>();
}

// Waits until it has begun with something, as it tells its user.
void wait_for_progress(Process& process, const std::string& text) {
  ASSERT_TRUE(eventually([&] {
    return process.err().find(text) != std::string::npos || process.has_ended();
  })) << process.err();
}

class Interrupted : public StartAndStop,
                    public testing::WithParamInterface<std::tuple<std::string, int>> {};

// `run` and `up` leave nothing, whatever they were at.
TEST_P(Interrupted, LeavesNothing) {
  const auto [progress, signal] = GetParam();
  {
    Process run = start_opsplit(run_command());
    wait_for_progress(run, progress);
    run.signal(signal);
    EXPECT_THAT(run.wait().status, AnyOf(-signal, 0)) << "0: it was faster than the signal";
  }
  EXPECT_TRUE(eventually([&] { return leftovers().empty(); }));
  {
    Process up = start_opsplit({"up", digits_model});
    wait_for_progress(up, progress);
    up.signal(signal);
    const int status = up.wait().status;
    EXPECT_THAT(status, AnyOf(-signal, 0));
    if (status == 0) down();
  }
  EXPECT_TRUE(eventually([&] { return leftovers().empty(); }));
}

INSTANTIATE_TEST_SUITE_P(Stages, Interrupted,
                         testing::Combine(testing::Values("planning", "starting"),
                                          testing::Values(SIGINT, SIGKILL)));

TEST_F(StartAndStop, RunInterruptedWhileItWaitsForTheAnswerLeavesNothing) {
  Process run = start_opsplit(run_command());
  // An operator that stands still keeps it from ending.
  pid_t gemm = 0;
  ASSERT_TRUE(eventually([&] { return (gemm = pid_of("gemm")) != 0 || run.has_ended(); }));
  if (gemm != 0) ::kill(gemm, SIGSTOP);
  run.signal(SIGINT);
  run.wait();
  EXPECT_TRUE(eventually([&] { return leftovers().empty(); }));
}

TEST_F(StartAndStop, DownWhileItStarts) {
  for (const char* progress : {"planning", "starting"}) {
    Process up = start_opsplit({"up", digits_model});
    wait_for_progress(up, progress);
    ASSERT_TRUE(eventually([] { return ps().is_object(); }));
    const Outcome down = opsplit({"down", "digits"});
    EXPECT_EQ(down.status, 0) << down.err;
    const Outcome stopped = up.wait();
    if (stopped.status != 0) {
      EXPECT_THAT(error_line(stopped), HasSubstr("was stopped while it started"));
    }
    EXPECT_TRUE(eventually([&] { return leftovers().empty(); })) << progress;
  }
}

TEST_F(StartAndStop, OfTwoUpsAtOnceOneWins) {
  for (int round = 0; round < 3; ++round) {
    Process first = start_opsplit({"up", digits_model});
    Process second = start_opsplit({"up", digits_model});
    const std::vector<Outcome> outcomes = {first.wait(), second.wait()};
    EXPECT_EQ(outcomes[0].status + outcomes[1].status, 1) << outcomes[0].err << outcomes[1].err;
    const Outcome& loser = outcomes[outcomes[0].status == 0 ? 1 : 0];
    EXPECT_THAT(error_line(loser), HasSubstr("a deployment 'digits' runs already"));
    EXPECT_EQ(deployment("digits")["phase"], "ready");
    down();
    EXPECT_THAT(leftovers(), IsEmpty());
  }
}

// The broker fills its pools when the first is given up; the second waits for the same broker.
TEST_F(StartAndStop, UpRightAfterAnotherWasGivenUp) {
  for (int round = 0; round < 5; ++round) {
    Process first = start_opsplit({"up", digits_model});
    wait_for_progress(first, "starting");
    first.signal(SIGKILL);
    Outcome second;
    // Until the first is gone, the name is taken.
    ASSERT_TRUE(eventually([&] {
      return (second = opsplit({"up", digits_model})).status == 0;
    })) << second.err;
    EXPECT_EQ(deployment("digits")["phase"], "ready");
    EXPECT_EQ(our_processes().size(), 2u + 5u) << "opsplitd, the broker, an operator per type";
    down();
  }
}

TEST_F(StartAndStop, UpRightAfterDown) {
  for (int round = 0; round < 3; ++round) {
    up({digits_model});
    down();
  }
}

TEST_F(StartAndStop, TheBrokerDiesWhileOperatorsStart) {
  Process up = start_opsplit({"up", digits_model});
  ASSERT_TRUE(eventually([] {
    const json status = ps();
    return status.is_object() && status["broker"] != 0 && !deployment("digits").is_null();
  }));
  ::kill(ps()["broker"].get<pid_t>(), SIGKILL);
  const Outcome outcome = up.wait();
  if (outcome.status == 0) {
    ASSERT_TRUE(eventually([] { return deployment("digits")["phase"] == "ready"; }));
    find_answers("digits", 20, folder() / "answers");
    down();
  } else {
    error_line(outcome);
  }
}

TEST_F(StartAndStop, AnOperatorThatDiesWhileItStartsIsNamed) {
  Process up = start_opsplit({"up", digits_model});
  pid_t pid = 0;
  ASSERT_TRUE(eventually([&] { return (pid = pid_of("conv")) != 0; }));
  ::kill(pid, SIGKILL);
  const Outcome outcome = up.wait();
  if (outcome.status != 0) {
    const std::string error = error_line(outcome);
    EXPECT_THAT(error, HasSubstr(fmt::format("digits/conv.0 (pid {}) ended with signal 9", pid)));
  } else {  // it was ready already
    down();
  }
}

}  // namespace
}  // namespace opsplit::test
