#include "daemon/onnx_rules_process.hpp"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>

#include "daemon/frames.hpp"
#include "graph/names.hpp"

namespace opsplit::daemon {
namespace {

// Its own limit of CPU time comes first, unless it does not run at all.
constexpr timeval answer_limit{.tv_sec = 60, .tv_usec = 0};
constexpr auto most_time = std::chrono::seconds(60);  // for all questions of a model
constexpr std::size_t most_answer_bytes = std::size_t{64} << 20;

}  // namespace

// posix_spawn(), for opsplitd has threads: between fork() and exec() nothing may allocate.
Result<> OnnxRulesProcess::start() {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return fail_errno(errno, "socketpair");
  FileDescriptor ours(ends[0]);
  const FileDescriptor theirs(ends[1]);
  for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO})
    if (setsockopt(ours.get(), SOL_SOCKET, option, &answer_limit, sizeof answer_limit) != 0)
      return fail_errno(errno, "setsockopt");

  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&files);
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_adddup2(&files, theirs.get(), STDIN_FILENO);
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  std::string path = program_.string();
  std::array<char*, 2> arguments{path.data(), nullptr};
  const int error =
      posix_spawn(&child_, path.c_str(), &files, &attributes, arguments.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  if (error != 0) {
    child_ = -1;
    return fail_errno(error, "could not start {}, which knows ONNX's rules for types", path);
  }
  socket_ = std::move(ours);
  return {};
}

std::string OnnxRulesProcess::end() {
  if (child_ < 0) return "";
  socket_.reset();
  ::kill(child_, SIGKILL);  // it is not reaped yet, so the pid is its own
  int status = 0;
  while (::waitpid(child_, &status, 0) < 0 && errno == EINTR) {
  }
  child_ = -1;
  return WIFSIGNALED(status)
             ? fmt::format("signal {} ({})", WTERMSIG(status), strsignal(WTERMSIG(status)))
             : fmt::format("exit code {}", WEXITSTATUS(status));
}

Result<std::string> OnnxRulesProcess::ask(const std::string& model) {
  if (spent_ > most_time)
    return fail(ErrorCode::limit_exceeded,
                "ONNX's rules for types have taken {} s for this model, and are not done",
                most_time.count());
  if (child_ < 0) OPSPLIT_CHECK(start());
  const auto asked = Clock::now();
  std::optional<std::string> answer;
  if (send_frame(socket_.get(), model)) answer = receive_frame(socket_.get(), most_answer_bytes);
  const int problem = errno;
  spent_ += Clock::now() - asked;
  if (!answer || answer->empty()) {
    const bool late = problem == EAGAIN || problem == EWOULDBLOCK;
    const std::string how = end();
    return fail(ErrorCode::operator_failed, "ONNX's rules for types {} on it: {}",
                late ? "hung" : "crashed", how);
  }
  const auto code = static_cast<unsigned char>(answer->front());
  answer->erase(0, 1);
  if (code == 0) return *std::move(answer);
  return fail(code == 1 ? ErrorCode::unsupported : ErrorCode::invalid_input, "{}",
              graph::is_printable(*answer) ? *answer : "?");
}

}  // namespace opsplit::daemon
