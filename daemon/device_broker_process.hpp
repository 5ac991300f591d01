// A device broker (ipc/device_broker.hpp) as opsplitd sees it: the process that has a deployment's memory on one GPU
// in one epoch.
//
//   none --start(), launch_at()--> starting --it answers--> serving --stop()--> ending --> none
//                                                take_over() --^
//
// Whatever it is at, it may die: then, and after stop(), `ended` is called, and nothing of it is left. One that had a
// second's time to answer a ping and did not, or that somebody else told to end, is killed; it has nothing to do for
// those that have its memory open, but nobody else could open it.
//
// It ends with the opsplitd that launched it until it is told to outlive it.
//
// Runs on the event loop's thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>

#include "base/error.hpp"
#include "daemon/events.hpp"
#include "daemon/launcher.hpp"
#include "daemon/pings.hpp"
#include "ipc/device_memory.hpp"

namespace opsplit::daemon {

class DeviceBrokerProcess {
 public:
  struct Spec {
    std::filesystem::path program;  // opsplit-device-broker
    std::filesystem::path socket;
    std::filesystem::path log;
    std::string device;  // number or UUID
    ipc::ArenaId arena;
    ipc::DeviceArenaShape shape;
  };
  struct Events {
    std::function<void()> serves;
    std::function<void(const std::string& reason)> ended;  // how, and its last words
  };

  DeviceBrokerProcess(boost::asio::io_context& io, Launcher& launcher, Spec spec, Events events);
  ~DeviceBrokerProcess();  // kills it, and removes its files
  DeviceBrokerProcess(const DeviceBrokerProcess&) = delete;
  DeviceBrokerProcess& operator=(const DeviceBrokerProcess&) = delete;

  Result<> launch();
  // What cannot be launched then has `ended`.
  void launch_at(Deadline time);
  // Goes on with the one that an earlier opsplitd launched, which serves. Blocks for three seconds at most. Error: there
  // is none any more, it does not answer, or has something else; it is dead then.
  Result<> take_over();
  // Best effort; blocks for two seconds at most.
  void outlive();
  // It ends once nobody has its memory open, or is killed. Nothing, if there is none, or it is ending.
  void stop();
  // At once; `ended` follows.
  void kill();

  [[nodiscard]] bool running() const { return running_; }
  [[nodiscard]] bool serves() const { return owner_.has_value(); }
  // Whether what lies in its memory is still there. Known before its death is; one system call.
  [[nodiscard]] bool has_its_memory() const { return owner_ && owner_->has_its_memory(); }
  [[nodiscard]] pid_t pid() const { return running_ ? process_.identity.pid : 0; }
  // Of its GPU. Once it serves.
  [[nodiscard]] const ipc::DeviceUuid& uuid() const { return uuid_; }
  [[nodiscard]] const Spec& spec() const { return spec_; }

 private:
  void supervise(Process process);
  Result<> accept(const ipc::PeerCredentials& peer, const nlohmann::json& answer);
  void watch_for_hangs();
  void died();
  void remove_files() const;

  boost::asio::io_context& io_;
  Launcher& launcher_;
  const Spec spec_;
  const Events events_;
  Process process_;
  bool running_ = false;
  bool ending_ = false;
  std::optional<ipc::DeviceOwner> owner_;  // while it serves
  ipc::DeviceUuid uuid_;
  Watch death_;
  Timer timer_;  // to launch it, or to kill it
  Pings pings_;
};

// Kills the device brokers whose sockets lie in `folder`, and removes what is there, but for the sockets `in_use`:
// what an earlier opsplitd left. Blocks for a second; for two more where a socket takes no connection.
void end_stale_device_brokers(const std::filesystem::path& folder,
                              const std::set<std::filesystem::path>& in_use = {});

}  // namespace opsplit::daemon
