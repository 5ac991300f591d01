// Processes for whoever supervises some.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "daemon/launcher.hpp"

namespace opsplit::daemon {

// Processes that are none: an eventfd for a pidfd. They die when they are told to, or when killed.
class FakeLauncher : public Launcher {
 public:
  struct Launched {
    Command command;
    pid_t pid;
    FileDescriptor end;
    std::vector<int> signals;
  };

  Result<Process> launch(const Command& command) override {
    if (refuses) return fail(ErrorCode::system, "no more processes");
    const pid_t pid = 1'000'000'000 + static_cast<pid_t>(all.size());
    all.push_back({command, pid, FileDescriptor(::eventfd(0, EFD_CLOEXEC)), {}});
    confined[pid] = command.cpus;
    return Process{{pid, 1, 1}, FileDescriptor(::dup(all.back().end.get()))};
  }
  Result<> set_cpus(const Process& process, const CpuSet& cpus) override {
    const pid_t pid = process.identity.pid;
    moves.emplace_back(pid, cpus);
    CpuSet given;
    std::set_difference(cpus.begin(), cpus.end(), forbidden[pid].begin(), forbidden[pid].end(),
                        std::back_inserter(given));
    if (given.empty()) return fail(ErrorCode::refused, "its cpuset forbids {}", to_string(cpus));
    confined[pid] = given;
    return {};
  }
  Result<CpuSet> cpus(const Process& process) override { return confined[process.identity.pid]; }
  void signal(const Process& process, int number) override {
    if (process.identity.pid < 1'000'000'000) return;  // a real one, of somebody else's
    Launched& launched = find(process.identity.pid);
    launched.signals.push_back(number);
    if (number == SIGKILL) die(launched);
  }
  std::string reap(const Process& process) override {
    return fmt::format("the end of {}", process.identity.pid);
  }

  static void die(Launched& launched, const std::string& last_words = "") {
    if (!last_words.empty()) std::ofstream(launched.command.log, std::ios::app) << last_words;
    ASSERT_EQ(::eventfd_write(launched.end.get(), 1), 0);
  }
  Launched& find(pid_t pid) { return all.at(static_cast<std::size_t>(pid - 1'000'000'000)); }

  bool refuses = false;
  std::vector<Launched> all;
  std::map<pid_t, CpuSet> confined;
  std::map<pid_t, CpuSet> forbidden;            // by its cpuset
  std::vector<std::pair<pid_t, CpuSet>> moves;  // set_cpus(), in order
};

}  // namespace opsplit::daemon
