// Whether a process answers: {"op": "ping"} to its socket, from the event loop, which nobody's silence holds up. First
// until it is ready, then a few times a second for as long as it lives.
//
// Runs on the event loop's thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>

#include "base/error.hpp"
#include "base/system.hpp"
#include "daemon/events.hpp"
#include "ipc/message_socket.hpp"

namespace opsplit::daemon {

// What a process has left of the time that it was given to answer. What it waits for a CPU does not count.
class TimeToAnswer {
 public:
  TimeToAnswer(pid_t pid, std::chrono::nanoseconds time);
  // The end of it, if the process has a CPU from now on.
  [[nodiscard]] Deadline end() const { return since_ + left_; }
  // Whether nothing is left now.
  bool is_over();

 private:
  pid_t pid_;
  std::chrono::nanoseconds left_;
  Deadline since_;
  CpuTime before_;
};

class Pings {
 public:
  // Takes an answer; error: it is not the one that was waited for, and is asked again.
  using Accept = std::function<Result<>(const ipc::PeerCredentials& peer, const nlohmann::json&)>;

  Pings(boost::asio::io_context& io, std::filesystem::path socket)
      : io_(io), socket_(std::move(socket)), timer_(io) {}

  // Until `accept` takes an answer. `too_late` once the deadline has passed.
  void until_answered(Deadline deadline, Accept accept, std::function<void()> too_late);
  // From now on. `lost` once it had a second's time to answer, as the kernel counts it, and did not, or once `accept`
  // does not take its answer.
  void keep_asking(pid_t pid, Accept accept, std::function<void()> lost);
  void stop();

 private:
  void ask_whether_ready();
  void hear_whether_ready();
  void ask_whether_alive();
  bool hear_whether_alive();
  void wait_for_sign_of_life();
  void is_alive();
  void hang_up();
  void is_too_late();
  void is_lost();

  boost::asio::io_context& io_;
  std::filesystem::path socket_;
  Deadline deadline_;
  Accept accept_;
  std::function<void()> too_late_, lost_;
  pid_t pid_ = 0;
  std::optional<TimeToAnswer> time_;
  std::optional<ipc::MessageSocket> asked_;
  Watch answers_;
  Timer timer_;
};

}  // namespace opsplit::daemon
