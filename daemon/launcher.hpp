// Starts processes. Behind an interface so that whoever supervises can be tested without any.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/cpu_set.hpp"
#include "base/error.hpp"
#include "base/system.hpp"

namespace opsplit::daemon {

struct Command {
  std::vector<std::string> arguments;    // [0] is the program's path
  std::vector<std::string> environment;  // "NAME=value", added to ours
  CpuSet cpus;                           // to run on; empty: as we do
  std::filesystem::path log;             // stdout and stderr are appended to it
};

struct Process {
  ProcessIdentity identity;
  FileDescriptor pidfd;  // readable once it has ended
};

class Launcher {
 public:
  virtual ~Launcher() = default;
  virtual Result<Process> launch(const Command& command) = 0;
  // Sends a signal to exactly this process; none if it has ended.
  virtual void signal(const Process& process, int signal_number) = 0;
  // All of its threads. The kernel silently leaves out what the process's cpuset forbids; error: that
  // is all of them.
  virtual Result<> set_cpus(const Process& process, const CpuSet& cpus) = 0;
  // What its threads may really use, all together.
  virtual Result<CpuSet> cpus(const Process& process) = 0;
  // After its pidfd became readable: reaps it and says how it ended ("exit code 1", "signal 9
  // (Killed)").
  virtual std::string reap(const Process& process) = 0;
};

// Children of this process. They are killed when it dies, until they say themselves (PR_SET_PDEATHSIG)
// that a successor will find them. Processes that somebody else started can be signalled, confined and
// reaped like them.
class ProcessLauncher final : public Launcher {
 public:
  Result<Process> launch(const Command& command) override;
  void signal(const Process& process, int signal_number) override;
  Result<> set_cpus(const Process& process, const CpuSet& cpus) override;
  Result<CpuSet> cpus(const Process& process) override;
  std::string reap(const Process& process) override;
};

// The last line that a process wrote into its log: most often why it ended.
std::string last_words(const std::filesystem::path& log);
// The same of one that writes time, name and level before each line: only of an error or what is no such line.
std::string last_error(const std::filesystem::path& log);

}  // namespace opsplit::daemon
