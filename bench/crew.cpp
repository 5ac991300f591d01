#include "bench/crew.hpp"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "base/system.hpp"

namespace opsplit::bench {
namespace {

constexpr std::uint64_t look_again_ns = 100'000'000;
constexpr auto grace = std::chrono::seconds(5);

void pin(int cpu) {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(static_cast<std::size_t>(cpu), &cpus);
  if (sched_setaffinity(0, sizeof cpus, &cpus) != 0) std::perror("sched_setaffinity");
}

}  // namespace

void* map_shared(std::size_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory != MAP_FAILED) return memory;
  std::perror("mmap");
  std::abort();
}

void unmap_shared(void* memory, std::size_t bytes) { ::munmap(memory, bytes); }

const std::vector<int>& allowed_cores() {
  static const std::vector<int> cores = [] {
    std::vector<int> found;
    cpu_set_t cpus;
    sched_getaffinity(0, sizeof cpus, &cpus);
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
      if (CPU_ISSET(static_cast<std::size_t>(cpu), &cpus)) found.push_back(cpu);
    return found;
  }();
  return cores;
}

Process::Process(int cpu, int signal, const std::function<int()>& body) : signal_(signal) {
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) std::perror("fork");
  if (pid_ != 0) return;
  ::prctl(PR_SET_PDEATHSIG, signal);
  if (::getppid() != parent) ::_exit(1);  // it died before the line above
  ::signal(SIGINT, SIG_DFL);
  ::signal(SIGTERM, SIG_DFL);
  if (cpu >= 0) pin(cpu);
  ::_exit(body());  // not exit(): what it would destroy is the parent's
}

bool Process::has_ended() const {
  siginfo_t info{};
  return ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
         info.si_pid != 0;
}

bool Process::has_ended_well() const {
  siginfo_t info{};
  return ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         info.si_pid != 0 && info.si_code == CLD_EXITED && info.si_status == 0;
}

Process::~Process() {
  if (pid_ <= 0) return;
  if (signal_ != SIGKILL) ::kill(pid_, signal_);
  const auto deadline = Clock::now() + grace;
  while (!has_ended() && Clock::now() < deadline) ::usleep(500);
  ::kill(pid_, SIGKILL);  // a zombie does not mind
  ::waitpid(pid_, nullptr, 0);
}

void Crew::join(Control& control) {
  control.ready.fetch_add(1);
  system_futex.wake(control.ready, 1);
}

Result<std::unique_ptr<Crew>> Crew::start(const Setting& setting, const Member& member) {
  std::unique_ptr<Crew> crew(new Crew);
  Control& control = crew->control();
  for (int i = 0; i < setting.processes; ++i) {
    const int cpu = allowed_cores().at(static_cast<std::size_t>(i % setting.cores));
    crew->members_.emplace_back(cpu, SIGKILL, [&, i] {
      const auto result = member(i, control);
      if (!result)
        std::fprintf(stderr, "%s: process %d: %s\n", program_invocation_short_name, i,
                     result.error().message.c_str());
      return result ? 0 : 1;
    });
  }
  for (std::uint32_t ready = 0; ready < crew->members_.size(); ready = control.ready.load())
    OPSPLIT_CHECK(crew->wait(control.ready, ready));
  return crew;
}

Crew::~Crew() {
  control().quit.store(1);
  control().go.fetch_add(1);
  system_futex.wake(control().go, INT32_MAX);
}

Result<> Crew::wait(std::atomic<std::uint32_t>& word, std::uint32_t seen) {
  while (word.load() == seen) {
    system_futex.wait(word, seen, system_futex.now_ns() + look_again_ns);
    if (word.load() != seen) break;
    for (const Process& member : members_)
      if (member.has_ended())
        return fail(ErrorCode::operator_failed, "process {} has ended", member.pid());
  }
  return {};
}

}  // namespace opsplit::bench
