#include "daemon/launcher.hpp"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>

namespace opsplit::daemon {
namespace {

// Long enough for the memory of one that was just killed to be freed.
constexpr auto end_of_killed = std::chrono::seconds(10);

// What the child does between fork and exec: system calls only. Returns errno of what failed.
int become(const std::vector<char*>& arguments, const std::vector<char*>& environment,
           const AffinityMask* cpus, const char* log, pid_t parent) {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return errno;
  if (getppid() != parent) return ESRCH;  // it died before the line above
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  // A process group of its own: Ctrl-C in the terminal is opsplitd's to deal with.
  setpgid(0, 0);
  const int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
  const int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (in < 0 || out < 0) return errno;
  if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0) return errno;
  if (cpus != nullptr)
    if (const int error = cpus->apply_to(0); error != 0) return error;
  execve(arguments[0], arguments.data(), environment.data());
  return errno;
}

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (const std::string& string : strings) result.push_back(const_cast<char*>(string.c_str()));
  result.push_back(nullptr);
  return result;
}

}  // namespace

Result<Process> ProcessLauncher::launch(const Command& command) {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable)
    variables.emplace_back(*variable);
  for (const std::string& addition : command.environment) {
    const std::string_view name(addition.c_str(), addition.find('=') + 1);
    std::erase_if(variables, [&](const std::string& v) { return v.starts_with(name); });
    variables.push_back(addition);
  }
  const std::vector<char*> arguments = pointers(command.arguments);
  const std::vector<char*> environment = pointers(variables);
  const AffinityMask cpus(command.cpus);

  // The child reports through a close-on-exec pipe: end of file means that exec succeeded.
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno(errno, "pipe");
  const FileDescriptor read_end(ends[0]);
  FileDescriptor write_end(ends[1]);
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child < 0) return fail_errno(errno, "fork");
  if (child == 0) {
    const int error = become(arguments, environment, command.cpus.empty() ? nullptr : &cpus,
                             command.log.c_str(), parent);
    [[maybe_unused]] const auto written = write(write_end.get(), &error, sizeof error);
    _exit(127);
  }
  write_end.reset();
  int error = 0;
  if (read(read_end.get(), &error, sizeof error) == sizeof error) {
    waitpid(child, nullptr, 0);
    return fail_errno(error, "could not start {}", command.arguments[0]);
  }
  // Our own child: its pid cannot be used again before we reap it.
  auto process = [&]() -> Result<Process> {
    OPSPLIT_TRY(const ProcessIdentity identity, identify(child));
    OPSPLIT_TRY(FileDescriptor pidfd, open_pidfd(identity));
    return Process{identity, std::move(pidfd)};
  }();
  if (!process) {  // no descriptor left, say: nobody could supervise it
    ::kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
  }
  return process;
}

void ProcessLauncher::signal(const Process& process, int signal_number) {
  syscall(SYS_pidfd_send_signal, process.pidfd.get(), signal_number, nullptr, 0);
}

Result<> ProcessLauncher::set_cpus(const Process& process, const CpuSet& cpus) {
  return set_process_affinity(process.identity.pid, cpus);
}

Result<CpuSet> ProcessLauncher::cpus(const Process& process) {
  return process_affinity(process.identity.pid);
}

std::string ProcessLauncher::reap(const Process& process) {
  int status = 0;
  if (waitpid(process.identity.pid, &status, 0) != process.identity.pid) {
    has_ended(process.pidfd, Clock::now() + end_of_killed);
    return "a status that its parent knows";
  }
  if (WIFEXITED(status)) return fmt::format("exit code {}", WEXITSTATUS(status));
  return fmt::format("signal {} ({})", WTERMSIG(status), strsignal(WTERMSIG(status)));
}

std::string last_words(const std::filesystem::path& log) {
  std::ifstream stream(log, std::ios::ate);
  const auto size = static_cast<std::int64_t>(stream.tellg());
  if (size <= 0) return "";
  stream.seekg(std::max<std::int64_t>(0, size - 2048));
  std::string line, last;
  while (std::getline(stream, line))
    if (!line.empty()) last = line;
  return last;
}

std::string last_error(const std::filesystem::path& log) {
  const std::string words = last_words(log);
  constexpr std::string_view level = " error: ";
  if (const auto found = words.find(level); found != std::string::npos)
    return words.substr(found + level.size());
  return words.find(" info: ") == std::string::npos ? words : "";
}

}  // namespace opsplit::daemon
