// Processes that the tests of ipc/ start: the broker, and this test program again as a helper.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/system.hpp"
#include "ipc/arena.hpp"
#include "ipc/message_socket.hpp"

namespace opsplit::test {

inline constexpr std::uint64_t kibibyte = 1024, mebibyte = 1024 * kibibyte;

// A child process, killed and reaped at the end of its scope.
class Child {
 public:
  // `error_fd` becomes its stderr, `output_fd` its stdout, unless -1.
  explicit Child(const std::vector<std::string>& arguments, int error_fd = -1, int output_fd = -1);
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child();

  [[nodiscard]] pid_t pid() const { return pid_; }
  void signal(int number) const;
  // Waits for its end: the exit status, or minus the number of the signal.
  int wait();
  int stop(int number) {
    signal(number);
    return wait();
  }

 private:
  pid_t pid_;
};

// opsplit-broker with its socket at /tmp/broker/socket.
class BrokerProcess : public Child {
 public:
  explicit BrokerProcess(const std::vector<std::uint64_t>& pools, int error_fd = -1,
                         const std::string& socket = socket_path);
  ~BrokerProcess();  // asks it to end: nothing is left, unless the test has killed it

  // Connects again for each request, and waits until the broker listens.
  static Result<nlohmann::json> request(const nlohmann::json& request);
  static Result<> publish(const ipc::ArenaId& id, std::uint64_t bytes);
  static Result<> withdraw(const ipc::ArenaId& id);
  static bool pool_is_free(std::size_t pool);

  static constexpr const char* socket_path = "/tmp/broker/socket";
};

// After a broker was killed: starts one and ends it, so that no file is left.
void clean_up_after_kill();

// Starts this program as the helper `arguments[0]`.
std::vector<std::string> helper(std::vector<std::string> arguments);
int run_helper(const std::vector<std::string>& arguments);

// Names in a folder, sorted.
std::vector<std::string> names_in(const std::string& folder);

Deadline in_seconds(double seconds);

// Polls until it holds, 10 s at most.
bool eventually(const std::function<bool()>& condition);

}  // namespace opsplit::test
