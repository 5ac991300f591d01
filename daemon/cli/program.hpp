// Runs other programs: docker, docker-compose, dot.
#pragma once

#include <boost/process/child.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

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

// Starts it; it reads and writes where we do.
Result<std::unique_ptr<boost::process::child>> start_program(
    const std::vector<std::string>& arguments);
// "exit code 1", "signal 9 (Killed)", from a status of waitpid().
std::string how_it_ended(int status);

// The same as run_program(), but what it writes goes where our output goes.
Result<int> run_program_in_view(const std::vector<std::string>& arguments);

}  // namespace opsplit::daemon::cli
