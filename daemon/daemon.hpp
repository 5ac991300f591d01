// opsplitd: answers the CLI, operators and clients over its socket, and runs the deployments. One
// thread with an event loop; only planning, which can take seconds, has a thread of its own.
//
// Requests are JSON objects with "op" and "version"; each gets one reply (ipc/message_socket.hpp),
// `up` any number of {"progress": "..."} before it.
//
//   {"op": "up", "path": P, "split"?, "name"?, "shapes"?,
//    "attach"?, "temporary"?}                                  -> its status; a temporary one is
//                                                                 stopped when the connection ends
//   {"op": "down", "deployment"?}                              once nothing of it is left
//   {"op": "ping"}                                             at once
//   {"op": "ps", "histograms"?}                                -> all deployments, the broker, the time;
//                                                                 with all that was measured if true
//   {"op": "attach_operator", "deployment": N, "operator": O,
//    "iceoryx": V, "can_run": [ops]}                           -> Attachment; from a process that we
//                                                                 launched, or that attaches as O;
//                                                                 "*" among the ops stands for all
//   {"op": "ready", "deployment": N}                           on the same connection
//   {"op": "cores", "deployment": N}                           -> AssignedCores, on the same
//                                                                 connection
//   {"op": "set", "deployment": N, "operator": O,
//    "cores": "2" | "0-1"}                                     -> the deployment's status, once every
//                                                                 process has its affinity
//   {"op": "swap", "deployment": N, "operator": O,
//    "backend": "native" | "attach" ...}                       -> its status, once the replacements serve and
//                                                                 the others have ended; {"progress"} once the
//                                                                 replacements can attach. Given up when the
//                                                                 connection ends before
//   {"op": "attach_client", "deployment": N}                   -> Attachment; lasts as the connection
//   {"op": "introduce_client", "deployment": N, "epoch": E,
//    "launch": L}                                              from a client that attached to an earlier
//                                                              opsplitd; as if it had to us
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "daemon/broker_process.hpp"
#include "daemon/preparation.hpp"
#include "daemon/running_deployment.hpp"
#include "ipc/message_socket.hpp"

namespace opsplit::daemon {

class Daemon {
 public:
  struct Options {
    std::filesystem::path folder;         // of the socket and the logs
    std::filesystem::path cache;          // of weights and models; empty: none
    std::filesystem::path programs;       // where opsplit-operator and opsplit-broker are
    std::vector<std::uint64_t> reserve;   // bytes of further arenas that the broker sets aside
    bool exit_when_empty = false;         // after the last `down`
    std::optional<Target> up;             // to be started at once
    std::filesystem::path broker_socket;  // of a broker that somebody else starts; empty: none
    std::string metrics;                  // HOST:PORT of the metrics; for people
    bool exit_when_alone = false;         // once nobody is connected and nothing runs
  };

  // Everything but the listener outlives the daemon.
  Daemon(boost::asio::io_context& io, Launcher& launcher, ipc::Futex& futex,
         ipc::MessageListener listener, Options options);
  ~Daemon();

  // Goes on with what an earlier opsplitd started and left. Before the event loop runs. Error: something
  // runs that is not ours to take over.
  Result<> take_over();
  // The reply to `ps`. On the event loop's thread.
  [[nodiscard]] nlohmann::json ps(RunningDeployment::Detail detail) const;
  // Stops every deployment and the broker; then the event loop runs dry.
  void shut_down();
  // Whether it shut down by itself, since what it was to start at once did not start.
  [[nodiscard]] bool failed() const { return failed_; }

  static std::filesystem::path socket_path(const std::filesystem::path& folder) {
    return folder / "opsplitd.sock";
  }

 private:
  using ConnectionId = std::uint64_t;
  static constexpr ConnectionId nobody = 0;  // who waits for what we were told at the start
  struct Connection;
  struct WaitingClient {
    ConnectionId connection;
    std::string deployment;
  };

  void accept();
  void receive(ConnectionId id);
  void disconnect(ConnectionId id);
  void reply(ConnectionId id, const nlohmann::json& message);
  void reply(ConnectionId id, const Error& error);
  void handle(ConnectionId id, const nlohmann::json& request);

  void up(ConnectionId id, const nlohmann::json& request);
  void prepared(ConnectionId id, std::string name, std::uint64_t epoch, bool temporary,
                Result<Planned> planned);
  void started(ConnectionId id, const std::string& name, bool temporary, const Result<>& result);
  void down(ConnectionId id, const nlohmann::json& request);
  void set(ConnectionId id, RunningDeployment& deployment, const nlohmann::json& request);
  void swap(ConnectionId id, RunningDeployment& deployment, const nlohmann::json& request);
  void attach_client(ConnectionId id, const std::string& deployment);
  Result<> introduce_client(Connection& connection, RunningDeployment& deployment,
                            const nlohmann::json& request);

  // Makes sure that the broker runs and has published the arena; starts it for this one if needed.
  void publish(const std::string& name, std::uint64_t epoch, std::uint64_t bytes,
               std::function<void(Result<>)> done);
  void start_broker(std::vector<std::uint64_t> pools, std::function<void(Result<>)> done);
  void let_broker_outlive_us(const RunningDeployment& deployment);
  void broker_died(const std::string& reason);
  void epoch_lost(const std::string& name, const std::string& reason, bool goes_on);
  void leave_epoch(const std::string& spared = "");
  void enter_next_epoch();
  [[nodiscard]] bool has_room_for_next_epoch() const;
  [[nodiscard]] bool has_earlier_epochs() const;
  [[nodiscard]] std::vector<std::uint64_t> pools() const;
  void remove(const std::string& name);
  void stop(RunningDeployment& deployment, std::function<void()> done);
  void serve_waiting_clients();
  [[nodiscard]] Result<> remove_what_is_stale() const;
  void finish_if_empty();
  void finish_if_idle_for(std::chrono::seconds time);

  boost::asio::io_context& io_;
  Options options_;
  Context context_;
  BrokerProcess broker_;
  std::vector<std::function<void(Result<>)>> waiting_for_broker_;  // while it starts
  Instance broker_life_{{.max_deaths = 10}};
  bool recovering_ = false;  // from the broker's end, planned or not
  Deadline room_by_{};       // for the next epoch, where clients still hold the earlier one
  bool shutting_down_ = false;
  bool failed_ = false;
  std::uint64_t last_epoch_ = 0;
  std::map<std::string, std::shared_ptr<RunningDeployment>, std::less<>> deployments_;
  std::set<std::string, std::less<>> preparing_;                         // names
  std::map<std::string, std::vector<std::function<void()>>> cancelled_;  // `down` while preparing
  std::map<ConnectionId, std::unique_ptr<Connection>> connections_;
  ConnectionId last_connection_ = 0;
  std::vector<WaitingClient> waiting_clients_;
  std::vector<std::function<void()>> when_empty_;  // once no deployment and no broker is left
  ipc::MessageListener listener_;  // closed before the connections: their end says that it is
  Watch listening_;
  Timer accept_again_;
  Timer idle_;
  Timer enter_again_;
  boost::asio::thread_pool planner_{1};
};

// An `up` request, without "op" and "version".
nlohmann::json to_json(const Target& target);

}  // namespace opsplit::daemon
