// The broker as opsplitd sees it: the process that owns the arenas' memory, and what is asked of it.
// Runs on the event loop's thread.
//
// It is asked a few times a second whether it is alive: one that had a second's time to answer and did
// not is killed.
//
// It is a child of opsplitd, or one that somebody else starts, and starts again when it ends: the
// engine, in a container. Such a one has its pools from its own command line. One that served an
// earlier opsplitd is taken over with the deployments that it serves; else it is killed, since whoever
// attached to it may hold its pools for ever.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "daemon/events.hpp"
#include "daemon/launcher.hpp"
#include "daemon/pings.hpp"
#include "ipc/arena.hpp"
#include "ipc/message_socket.hpp"

namespace opsplit::daemon {

class BrokerProcess {
 public:
  struct Paths {
    std::filesystem::path program;  // opsplit-broker; empty: somebody else starts it
    std::filesystem::path socket;
    std::filesystem::path log;
  };
  BrokerProcess(boost::asio::io_context& io, Launcher& launcher, Paths paths,
                std::function<void(std::string)> on_death);
  ~BrokerProcess();  // kills it, if it is ours

  // `started` is called once it answers, or with the reason why it does not. Somebody else's has the
  // pools that it has.
  void start(const std::vector<std::uint64_t>& pool_bytes, std::function<void(Result<>)> started);
  // Goes on with the one that an earlier opsplitd used, and that has published nothing but these. Error:
  // there is none any more, it does not answer, or has published something else; it is dead then.
  Result<> take_over(const std::set<ipc::ArenaId>& published);
  // It no longer ends with this opsplitd.
  Result<> outlive() { return demand({{"op", "outlive"}}); }
  [[nodiscard]] bool running() const { return running_; }
  [[nodiscard]] bool stopping() const { return stopped_ != nullptr; }
  // Whether opsplitd starts it.
  [[nodiscard]] bool ours() const { return !paths_.program.empty(); }
  [[nodiscard]] pid_t pid() const { return running_ ? process_.identity.pid : 0; }

  // Milliseconds each: the broker only loans a chunk that is there. Errors: limit_exceeded (no pool
  // is large enough; the message says how many bytes are missing), unavailable, timed_out (it was
  // killed then: its death follows).
  Result<> publish(const ipc::ArenaId& arena, std::uint64_t bytes);
  Result<> withdraw(const ipc::ArenaId& arena);  // what it has not published is no error

  // `stopped` is called once it has ended; on_death is not. Asked twice, both are called. Somebody
  // else's goes on, and is only let go.
  void stop(std::function<void()> stopped);

 private:
  void start_took_too_long();
  void watch_for_hangs();
  Result<> accept(const ipc::PeerCredentials& peer, const nlohmann::json& answer);
  void supervise(Process process);
  void await_answer();
  void died();
  Result<> demand(const nlohmann::json& request);

  boost::asio::io_context& io_;
  Launcher& launcher_;
  Paths paths_;
  std::function<void(std::string)> on_death_;
  std::function<void(Result<>)> started_;
  std::function<void()> stopped_;
  Process process_;
  std::set<ipc::ArenaId> published_;
  bool running_ = false;
  Watch death_;
  Timer timer_;  // to kill it
  Pings pings_;
};

}  // namespace opsplit::daemon
