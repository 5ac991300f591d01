// The only place where a process that is not the broker calls iceoryx: it registers with the
// broker's RouDi, takes the one chunk of an arena, and keeps it. Without iceoryx types, because
// nobody else should need them; see ipc/arena.hpp for what others use.
//
// What is done about iceoryx's habits:
//   - It terminates the process on most errors, waits for ever for some answers, and a thread that
//     is inside it must not be lost. So every call runs on a thread of our own, which a caller
//     waits for only until its deadline; a fatal error parks that thread and becomes an Error.
//   - initRuntime() works once per process. Here each life of the broker gets a runtime object of
//     its own; the former is abandoned, never destroyed (its destructor asks a dead RouDi and
//     waits), but its mapping goes when the last chunk taken through it does.
//   - A runtime sends a sign of life every 300 ms, and complains on stderr for ever once RouDi is
//     dead. Our broker does not listen for it (MonitoringMode::OFF): the sender is stopped.
//   - A process leaves /tmp/NAME and /tmp/NAME.lock behind when it is killed. Nobody needs either
//     once it is registered: they are removed then. If it is killed in between, the broker does it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "base/system.hpp"
#include "ipc/arena.hpp"

namespace opsplit::ipc {

// Turns iceoryx's log off and its error handling into ours. `on_fatal` is called for an error that
// iceoryx cannot go on after and that no call of ours waits for; it must not return. May be called
// again, but not while iceoryx's threads are running.
void tame_iceoryx(std::function<void(const char* error)> on_fatal = {});

// "2.0.3": RouDi and its applications must have the same.
std::string_view iceoryx_version();

// Held by the broker for its life; its note (base/system.hpp) is "iceoryx VERSION ...".
inline constexpr const char* broker_lock_path = "/dev/shm/opsplit.broker.lock";

// Runtime names begin with it.
inline constexpr std::string_view runtime_prefix = "opsplit.runtime.";

// The service under which the broker publishes an arena: {opsplit, DEPLOYMENT, EPOCH}.
inline constexpr std::string_view service_name = "opsplit";

// A chunk that was taken from the broker and is kept. Any thread may destroy it.
class TakenChunk {
 public:
  // Registers this process as opsplit.runtime.NAME.PID.N if this is its first chunk in this life of the broker.
  // Errors: unavailable (no broker, or it died meanwhile), refused (of another user or iceoryx
  // version), timed_out (the arena is not published), system (what iceoryx said).
  static Result<std::unique_ptr<TakenChunk>> take(std::string_view runtime_name,
                                                  const ArenaId& arena, Deadline deadline);
  ~TakenChunk();  // gives it back, if the broker lives
  TakenChunk(const TakenChunk&) = delete;
  TakenChunk& operator=(const TakenChunk&) = delete;

  [[nodiscard]] std::span<std::byte> payload() const;

 private:
  struct State;
  explicit TakenChunk(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace opsplit::ipc
