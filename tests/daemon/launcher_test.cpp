#include "daemon/launcher.hpp"

#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/daemon/temporary_folder.hpp"

namespace opsplit::daemon {
namespace {

using namespace std::chrono_literals;

class LauncherTest : public testing::Test {
 protected:
  [[nodiscard]] Command shell(const std::string& script) const {
    return {{"/bin/sh", "-c", script}, {}, {}, log_};
  }
  // Waits for its end and says how it ended.
  std::string end_of(const Process& process) {
    EXPECT_TRUE(has_ended(process.pidfd, Clock::now() + 10s));
    return launcher_.reap(process);
  }
  [[nodiscard]] std::string logged() const { return read_file(log_).value(); }

  TemporaryFolder folder_;
  std::filesystem::path log_ = folder_.path() / "log";
  ProcessLauncher launcher_;
};

TEST_F(LauncherTest, WhatItWritesIsAppendedToItsLog) {
  for (const char* word : {"one", "two"}) {
    const auto process = launcher_.launch(shell(fmt::format("echo {}; echo {} >&2", word, word)));
    ASSERT_TRUE(process) << process.error().message;
    EXPECT_EQ(end_of(*process), "exit code 0");
  }
  EXPECT_EQ(logged(), "one\none\ntwo\ntwo\n");
}

TEST_F(LauncherTest, SaysHowItEnded) {
  const auto exits = launcher_.launch(shell("exit 3"));
  ASSERT_TRUE(exits);
  EXPECT_EQ(end_of(*exits), "exit code 3");
  const auto killed = launcher_.launch(shell("sleep 60"));
  ASSERT_TRUE(killed);
  EXPECT_FALSE(has_ended(killed->pidfd));
  launcher_.signal(*killed, SIGKILL);
  EXPECT_EQ(end_of(*killed), "signal 9 (Killed)");
  launcher_.signal(*killed, SIGKILL);  // nobody's any more
}

TEST_F(LauncherTest, AProgramThatCannotRunIsAnErrorAndLeavesNoProcess) {
  const auto process = launcher_.launch({{"/no/such/program"}, {}, {}, log_});
  ASSERT_FALSE(process);
  EXPECT_EQ(process.error().message, "could not start /no/such/program: No such file or directory");
  const auto no_log = launcher_.launch({{"/bin/true"}, {}, {}, "/no/such/folder/log"});
  ASSERT_FALSE(no_log);
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

TEST_F(LauncherTest, AddsToTheEnvironmentAndReplacesWhatIsThere) {
  ::setenv("OPSPLIT_TEST_A", "old", 1);
  Command command = shell("echo $OPSPLIT_TEST_A $OPSPLIT_TEST_AB");
  command.environment = {"OPSPLIT_TEST_A=new", "OPSPLIT_TEST_AB=other"};
  const auto process = launcher_.launch(command);
  ASSERT_TRUE(process);
  end_of(*process);
  EXPECT_EQ(logged(), "new other\n");
  ::unsetenv("OPSPLIT_TEST_A");
}

TEST_F(LauncherTest, RunsOnTheCpusThatItIsGiven) {
  cpu_set_t ours;
  ASSERT_EQ(sched_getaffinity(0, sizeof ours, &ours), 0);
  int last = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(static_cast<std::size_t>(cpu), &ours)) last = cpu;
  Command command = shell("grep Cpus_allowed_list /proc/self/status");
  command.cpus = {last};
  const auto process = launcher_.launch(command);
  ASSERT_TRUE(process);
  end_of(*process);
  EXPECT_EQ(logged(), fmt::format("Cpus_allowed_list:\t{}\n", last));
}

// Ctrl-C in a terminal is sent to a process group; blocked signals would be inherited.
TEST_F(LauncherTest, HasAProcessGroupOfItsOwnAndBlocksNoSignal) {
  sigset_t blocked, before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  sigprocmask(SIG_BLOCK, &blocked, &before);
  const auto process = launcher_.launch(shell("grep SigBlk /proc/self/status; sleep 60"));
  sigprocmask(SIG_SETMASK, &before, nullptr);
  ASSERT_TRUE(process);
  EXPECT_EQ(::getpgid(process->identity.pid), process->identity.pid);
  while (logged().empty()) ::usleep(1000);
  EXPECT_EQ(logged(), "SigBlk:\t0000000000000000\n");
  ::kill(-process->identity.pid, SIGKILL);  // and the sleep
  EXPECT_EQ(end_of(*process), "signal 9 (Killed)");
}

// However its supervisor ends, it does not outlive it.
TEST_F(LauncherTest, DiesWithItsSupervisor) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const pid_t supervisor = ::fork();
  if (supervisor == 0) {
    const auto process = launcher_.launch({{"/bin/sleep", "60"}, {}, {}, log_});
    const pid_t pid = process ? process->identity.pid : 0;
    [[maybe_unused]] const auto written = ::write(ends[1], &pid, sizeof pid);
    while (true) ::pause();
  }
  pid_t pid = 0;
  ASSERT_EQ(::read(ends[0], &pid, sizeof pid), static_cast<ssize_t>(sizeof pid));
  const auto identity = identify(pid);
  ASSERT_TRUE(identity);
  const auto pidfd = open_pidfd(*identity);
  ASSERT_TRUE(pidfd);
  ::kill(supervisor, SIGKILL);
  ::waitpid(supervisor, nullptr, 0);
  EXPECT_TRUE(has_ended(*pidfd, Clock::now() + 10s));
  ::close(ends[0]);
  ::close(ends[1]);
}

}  // namespace
}  // namespace opsplit::daemon
