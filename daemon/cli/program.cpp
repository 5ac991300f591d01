#include "daemon/cli/program.hpp"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/process.hpp>
#include <future>
#include <utility>  // Boost.Asio 1.74 forgets it

#include "base/system.hpp"

namespace opsplit::daemon::cli {
namespace {

namespace process = boost::process;

Result<boost::filesystem::path> find(const std::string& name) {
  if (name.find('/') != std::string::npos) return name;
  boost::filesystem::path found = process::search_path(name);
  if (found.empty()) return fail(ErrorCode::not_found, "there is no program '{}' in PATH", name);
  return found;
}

std::string last_line(const std::string& text) {
  const auto end = text.find_last_not_of('\n');
  if (end == std::string::npos) return "";
  const auto before = text.rfind('\n', end);
  const auto begin = before == std::string::npos ? 0 : before + 1;
  return text.substr(begin, end + 1 - begin);
}

std::atomic<int> stop_signal{0};
static_assert(std::atomic<int>::is_always_lock_free);  // for the signal handler

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

std::string reason_of_end(const std::string& err) {
  if (const auto why = err.find("ERROR: "); why != std::string::npos)  // docker-compose's own
    return err.substr(why + 7, err.find('\n', why) - why - 7);
  std::string words = last_line(err);
  if (constexpr std::string_view ours = "opsplit: "; words.starts_with(ours))
    words.erase(0, ours.size());
  return words;
}

Result<std::string> output_of(const std::vector<std::string>& arguments, std::string_view input) {
  OPSPLIT_TRY(ProgramEnd end, run_program(arguments, input));
  if (end.exit_code == 0) return std::move(end.out);
  const std::string words = reason_of_end(end.err.empty() ? end.out : end.err);
  return fail(ErrorCode::unavailable, "{}",
              words.empty() ? fmt::format("{}: {}", arguments[0], end.how) : words);
}

Result<std::unique_ptr<BackgroundProgram>> BackgroundProgram::start(
    const std::vector<std::string>& arguments) {
  OPSPLIT_TRY(const auto path, find(arguments[0]));
  OPSPLIT_TRY(ScratchFolder output, ScratchFolder::make());
  std::unique_ptr<BackgroundProgram> program(new BackgroundProgram(std::move(output)));
  const boost::filesystem::path folder = program->output_.path().string();
  std::error_code error;
  program->child_ =
      process::child(path, process::args(std::vector(arguments.begin() + 1, arguments.end())),
                     process::std_in<program->input_, process::std_out>(folder / "out"),
                     process::std_err > (folder / "err"), error);
  if (error) return fail_errno(error.value(), "could not start {}", path.string());
  return program;
}

std::string BackgroundProgram::err() const {
  return read_file(output_.path() / "err").value_or("");
}

std::optional<ProgramEnd> BackgroundProgram::look() {
  std::error_code ignored;
  if (child_.running(ignored)) return std::nullopt;
  return how_ended();
}

ProgramEnd BackgroundProgram::end() {
  input_.pipe().close();
  std::error_code ignored;
  child_.wait(ignored);
  return how_ended();
}

ProgramEnd BackgroundProgram::how_ended() const {
  const int status = child_.native_exit_code();
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, how_it_ended(status),
          read_file(output_.path() / "out").value_or(""), err()};
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

void hold_stop_signals() {
  struct sigaction action {};
  action.sa_handler = [](int number) { stop_signal = number; };
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
}

int take_stop_signal() { return stop_signal.exchange(0); }

}  // namespace opsplit::daemon::cli
