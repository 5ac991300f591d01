#include "daemon/cli/graphviz.hpp"

#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/system.hpp"

namespace opsplit::daemon::cli {
namespace {

// In memory, not pipes: nobody waits for the other end to read.
Result<FileDescriptor> memory_file(const char* name) {
  FileDescriptor file(::memfd_create(name, MFD_CLOEXEC));
  if (!file) return fail_errno(errno, "memory for dot");
  return file;
}

Result<> write_all(const FileDescriptor& file, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(file.get(), text.data(), text.size());
    if (written < 0) return fail_errno(errno, "memory for dot");
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  ::lseek(file.get(), 0, SEEK_SET);
  return {};
}

Result<std::string> read_all(const FileDescriptor& file) {
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return fail_errno(errno, "memory of dot");
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  const ssize_t got = ::pread(file.get(), text.data(), text.size(), 0);
  if (got < 0) return fail_errno(errno, "memory of dot");
  text.resize(static_cast<std::size_t>(got));
  return text;
}

// The exit status as waitpid() has it.
Result<int> run_dot(const FileDescriptor& in, const FileDescriptor& out,
                    const FileDescriptor& err) {
  std::array<char*, 3> arguments = {const_cast<char*>("dot"), const_cast<char*>("-Tsvg"), nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  int target = STDIN_FILENO;
  for (const FileDescriptor* file : {&in, &out, &err})
    posix_spawn_file_actions_adddup2(&actions, file->get(), target++);
  pid_t pid = 0;
  const int error = ::posix_spawnp(&pid, "dot", &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error == ENOENT)
    return fail(
        ErrorCode::not_found,
        "dot is not installed: install the Debian package graphviz, or take the text of --dot "
        "to where it is");
  if (error != 0) return fail_errno(error, "dot");
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) return fail_errno(errno, "dot");
  return status;
}

}  // namespace

Result<std::string> render_svg(const std::string& graph) {
  OPSPLIT_TRY(const FileDescriptor in, memory_file("graph"));
  OPSPLIT_TRY(const FileDescriptor out, memory_file("svg"));
  OPSPLIT_TRY(const FileDescriptor err, memory_file("errors"));
  OPSPLIT_CHECK(write_all(in, graph));
  OPSPLIT_TRY(const int status, run_dot(in, out, err));
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return read_all(out);
  OPSPLIT_TRY(const std::string words, read_all(err));
  const std::string end = WIFEXITED(status) ? fmt::format("exit code {}", WEXITSTATUS(status))
                                            : fmt::format("signal {} ({})", WTERMSIG(status),
                                                          strsignal(WTERMSIG(status)));
  return fail(ErrorCode::system, "dot -Tsvg failed with {}: {}", end,
              words.empty() ? "it says nothing" : words.substr(0, words.find('\n')));
}

}  // namespace opsplit::daemon::cli
