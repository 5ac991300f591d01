// The device broker: the process that owns a deployment's arena on one GPU. This class is that process's
// inside; device_broker_main.cpp starts it. ipc/device_memory.hpp says what it promises, and its states.
//
// Requests, on its socket (ipc/message_server.hpp):
//
//   {"op": "ping"}     -> {"ok": true, "pid", "version", "device", "deployment", "epoch", "slot_bytes",
//                          "depth", "draining", "parties": [pid, ...]}; parties are who is granted
//   {"op": "open", "deployment", "epoch", "slot_bytes", "depth"}
//                      -> {"ok": true, "device", "handle"}; once per connection
//   {"op": "closed"}   -> {"ok": true}; this connection's grant has ended
//   {"op": "outlive"}  -> {"ok": true}; it no longer ends with the opsplitd that launched it
//
// Who is granted is known by the kernel's word (SO_PEERCRED, pidfd), so all need one PID namespace.
//
// Its files are the socket, its lock and the owner's lock, all beside each other. After a clean end none is
// left; what a killed one has left, the next start at this place replaces.
#pragma once

#include <filesystem>
#include <list>
#include <memory>
#include <optional>

#include "base/error.hpp"
#include "base/system.hpp"
#include "ipc/device_memory.hpp"
#include "ipc/message_socket.hpp"

namespace opsplit::ipc {

// One thread uses it.
class DeviceBroker {
 public:
  // Allocates the arena and exports it. The driver must outlive it. Errors: refused or already_exists (a
  // broker has this socket), limit_exceeded (bytes needed and free), invalid_input, the driver's.
  static Result<std::unique_ptr<DeviceBroker>> start(DeviceDriver& driver,
                                                     const std::filesystem::path& socket,
                                                     const ArenaId& id,
                                                     const DeviceArenaShape& shape);
  // Of one that has not run() to its end, what it allocated ends with the process.
  ~DeviceBroker();
  DeviceBroker(const DeviceBroker&) = delete;
  DeviceBroker& operator=(const DeviceBroker&) = delete;

  // Serves until `end` is readable and nobody is granted any more; then frees the arena.
  Result<> run(const FileDescriptor& end);

 private:
  struct Party {
    std::optional<MessageSocket> connection;  // empty: hung up while it was granted
    pid_t pid = 0;
    FileDescriptor pidfd;  // only while it is granted
  };

  DeviceBroker(DeviceDriver& driver, const std::filesystem::path& socket, const ArenaId& id,
               const DeviceArenaShape& shape, MessageListener listener, FileDescriptor owner_lock)
      : driver_(driver),
        socket_(socket),
        id_(id),
        shape_(shape),
        listener_(std::move(listener)),
        owner_lock_(std::move(owner_lock)) {}
  Result<> allocate();
  [[nodiscard]] bool anybody_granted() const;
  void accept_party();
  Result<nlohmann::json> serve(Party& party, const nlohmann::json& request);
  Result<nlohmann::json> grant(Party& party, const nlohmann::json& request);

  DeviceDriver& driver_;
  std::filesystem::path socket_;
  ArenaId id_;
  DeviceArenaShape shape_;
  MessageListener listener_;
  FileDescriptor owner_lock_;
  DeviceAddress arena_ = 0;
  DeviceHandle handle_{};
  std::list<Party> parties_;
  bool draining_ = false;
};

}  // namespace opsplit::ipc
