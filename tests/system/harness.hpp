// What the system tests share: opsplit's programs as real processes, in a /tmp and /dev/shm of their
// own where the system allows that, and the proof that nothing of them is left behind.
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace opsplit::test {

using namespace std::chrono_literals;
using nlohmann::json;

inline constexpr const char* digits_model = OPSPLIT_SOURCE_DIR "/examples/digits/digits.onnx";

// Polls until it holds.
bool eventually(const std::function<bool()>& condition, std::chrono::milliseconds limit = 20s);

// How a process ended: its exit code, or minus the number of the signal; what it wrote.
struct Outcome {
  int status = 0;
  std::string out;
  std::string err;
};

// A process that the test started, killed and reaped at the end of its scope.
class Process {
 public:
  explicit Process(const std::vector<std::string>& arguments);
  Process(Process&& other) noexcept : pid_(other.pid_), folder_(std::move(other.folder_)) {
    other.pid_ = 0;
  }
  Process& operator=(Process&&) = delete;
  ~Process();

  [[nodiscard]] pid_t pid() const { return pid_; }
  void signal(int number) const;
  [[nodiscard]] std::string out() const;  // so far
  [[nodiscard]] std::string err() const;
  [[nodiscard]] bool has_ended();
  // Killed when it takes longer, which is a failure of the test.
  Outcome wait(std::chrono::milliseconds limit = 120s);

 private:
  pid_t pid_ = 0;
  int status_ = 0;  // once pid_ is 0
  std::filesystem::path folder_;
};

// Of build/*/bin.
std::string program(const std::string& name);
// `opsplit ARGUMENTS`, started and waited for.
Process start_opsplit(std::vector<std::string> arguments);
Outcome opsplit(std::vector<std::string> arguments);
// This program again, in the role of `arguments[0]` (main.cpp).
Process start_helper(std::vector<std::string> arguments);

// `opsplit ps --json`; null when no opsplitd runs.
json ps();
json deployment(const std::string& name);  // of ps(); null if there is none
std::vector<json> instances(const std::string& deployment_name, const std::string& op);
json instance(const std::string& deployment_name, const std::string& op);  // the first

std::filesystem::path socket_path();

// An error as every command reports it: status 1, and one line "opsplit: ..." after the progress.
// Returns the line without the prefix.
std::string error_line(const Outcome& outcome);

// The processes of opsplit's programs that come from this test.
std::vector<pid_t> our_processes();
// Anonymous memory, in bytes: what a process has for itself.
std::uint64_t private_bytes(pid_t pid);
// Of all files in /dev/shm.
std::uint64_t shared_bytes();
void write_file(const std::filesystem::path& path, const std::string& text);

// Each test begins with nothing, and fails if it leaves anything.
class SystemTest : public testing::Test {
 protected:
  SystemTest();
  ~SystemTest() override;

  // What is there of opsplit: processes, files in /dev/shm, sockets.
  [[nodiscard]] std::vector<std::string> leftovers() const;
  // Starts a deployment; ends the test if it does not start.
  void up(std::vector<std::string> arguments);
  void down();

  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }

 private:
  void TearDown() override;

  std::filesystem::path folder_;            // for the test's files
  std::vector<std::string> shared_before_;  // in /dev/shm
};

}  // namespace opsplit::test
