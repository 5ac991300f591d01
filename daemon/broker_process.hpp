// The broker as opsplitd sees it: a child process that owns the arenas' memory, and what is asked of
// it. Runs on the event loop's thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "daemon/events.hpp"
#include "daemon/launcher.hpp"
#include "ipc/arena.hpp"

namespace opsplit::daemon {

class BrokerProcess {
 public:
  struct Paths {
    std::filesystem::path program;  // opsplit-broker
    std::filesystem::path socket;
    std::filesystem::path log;
  };
  BrokerProcess(boost::asio::io_context& io, Launcher& launcher, Paths paths,
                std::function<void(std::string)> on_death);
  ~BrokerProcess();  // kills it

  // `started` is called once it answers, or with the reason why it does not.
  void start(const std::vector<std::uint64_t>& pool_bytes, std::function<void(Result<>)> started);
  [[nodiscard]] bool running() const { return running_; }
  [[nodiscard]] bool stopping() const { return stopped_ != nullptr; }
  [[nodiscard]] pid_t pid() const { return running_ ? process_.identity.pid : 0; }

  // Milliseconds each: the broker only loans a chunk that is there. Errors: limit_exceeded (no pool
  // is large enough; the message says how many bytes are missing), unavailable.
  Result<> publish(const ipc::ArenaId& arena, std::uint64_t bytes);
  Result<> withdraw(const ipc::ArenaId& arena);

  // `stopped` is called once it has ended; on_death is not. Asked twice, both are called.
  void stop(std::function<void()> stopped);

 private:
  void poll_until_ready();
  void died();
  Result<> ask(const nlohmann::json& request, std::chrono::milliseconds timeout);

  boost::asio::io_context& io_;
  Launcher& launcher_;
  Paths paths_;
  std::function<void(std::string)> on_death_;
  std::function<void(Result<>)> started_;
  std::function<void()> stopped_;
  Process process_;
  bool running_ = false;
  Watch death_;
  Timer timer_;
  Deadline start_deadline_;
};

}  // namespace opsplit::daemon
