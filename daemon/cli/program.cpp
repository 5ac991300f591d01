#include "daemon/cli/program.hpp"

#include <string.h>
#include <sys/wait.h>

#include <boost/asio/io_context.hpp>
#include <boost/process.hpp>
#include <future>
#include <utility>  // Boost.Asio 1.74 forgets it

namespace opsplit::daemon::cli {
namespace {

namespace process = boost::process;

Result<boost::filesystem::path> find(const std::string& name) {
  if (name.find('/') != std::string::npos) return name;
  boost::filesystem::path found = process::search_path(name);
  if (found.empty()) return fail(ErrorCode::not_found, "there is no program '{}' in PATH", name);
  return found;
}

}  // namespace

Result<ProgramEnd> run_program(const std::vector<std::string>& arguments, std::string_view input) {
  OPSPLIT_TRY(const auto path, find(arguments[0]));
  boost::asio::io_context io;
  std::future<std::string> out, err;
  std::error_code error;
  process::child child(
      path, process::args(std::vector(arguments.begin() + 1, arguments.end())),
      process::std_in<boost::asio::buffer(input.data(), input.size()), process::std_out> out,
      process::std_err > err, io, error);
  if (error) return fail_errno(error.value(), "could not start {}", path.string());
  io.run();
  child.wait(error);
  if (error) return fail_errno(error.value(), "{}", path.string());
  const int status = child.native_exit_code();
  const int exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return ProgramEnd{exit_code, how_it_ended(status), out.get(), err.get()};
}

std::string how_it_ended(int status) {
  return WIFEXITED(status)
             ? fmt::format("exit code {}", WEXITSTATUS(status))
             : fmt::format("signal {} ({})", WTERMSIG(status), strsignal(WTERMSIG(status)));
}

Result<std::unique_ptr<process::child>> start_program(const std::vector<std::string>& arguments) {
  OPSPLIT_TRY(const auto path, find(arguments[0]));
  std::error_code error;
  auto child = std::make_unique<process::child>(
      path, process::args(std::vector(arguments.begin() + 1, arguments.end())), error);
  if (error) return fail_errno(error.value(), "could not start {}", path.string());
  return child;
}

Result<int> run_program_in_view(const std::vector<std::string>& arguments) {
  OPSPLIT_TRY(const auto path, find(arguments[0]));
  std::error_code error;
  const int exit_code = process::system(
      path, process::args(std::vector(arguments.begin() + 1, arguments.end())), error);
  if (error) return fail_errno(error.value(), "could not start {}", path.string());
  return exit_code;
}

}  // namespace opsplit::daemon::cli
