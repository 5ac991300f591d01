// Runs other programs: docker, docker-compose, dot.
#pragma once

#include <boost/process/child.hpp>
#include <boost/process/pipe.hpp>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "daemon/cli/output_file.hpp"

namespace opsplit::daemon::cli {

struct ProgramEnd {
  int exit_code = 0;  // -1: a signal ended it
  std::string how;    // "exit code 1", "signal 9 (Killed)"
  std::string out;
  std::string err;
};

// `arguments[0]` is looked up in PATH; no shell is involved. Waits for its end; `input` is its standard
// input. Error not_found: there is no such program.
Result<ProgramEnd> run_program(const std::vector<std::string>& arguments,
                               std::string_view input = {});

// The same, where it has to end well: its output, or its last words as an error.
Result<std::string> output_of(const std::vector<std::string>& arguments,
                              std::string_view input = {});
// Why a program like ours, or docker-compose, has ended, from what it wrote to its standard error. May be empty.
std::string reason_of_end(const std::string& err);

// A program that runs while we do something else. It can tell that we have ended, however: then its
// standard input does.
class BackgroundProgram {
 public:
  static Result<std::unique_ptr<BackgroundProgram>> start(
      const std::vector<std::string>& arguments);
  BackgroundProgram(const BackgroundProgram&) = delete;
  BackgroundProgram& operator=(const BackgroundProgram&) = delete;
  ~BackgroundProgram() { (void)end(); }
  // What it has written to its standard error so far.
  [[nodiscard]] std::string err() const;
  // Nothing while it runs.
  std::optional<ProgramEnd> look();
  // Ends its standard input, and waits for its end.
  ProgramEnd end();

 private:
  explicit BackgroundProgram(ScratchFolder output) : output_(std::move(output)) {}
  [[nodiscard]] ProgramEnd how_ended() const;

  ScratchFolder output_;
  boost::process::opstream input_;
  boost::process::child child_;
};

// Starts it; it reads and writes where we do.
Result<std::unique_ptr<boost::process::child>> start_program(
    const std::vector<std::string>& arguments);
// "exit code 1", "signal 9 (Killed)", from a status of waitpid().
std::string how_it_ended(int status);

// The same as run_program(), but what it writes goes where our output goes.
Result<int> run_program_in_view(const std::vector<std::string>& arguments);

// From now on SIGTERM and SIGINT do not end us, but are asked for.
void hold_stop_signals();
// The one that came since the last call, or 0.
int take_stop_signal();

}  // namespace opsplit::daemon::cli
