// The broker: a process of its own that embeds iceoryx's RouDi and owns the arenas. This class is
// that process's inside; broker_main.cpp puts it behind a socket.
//
// Its files: the lock /dev/shm/opsplit.broker.lock, and RouDi's (ipc/roudi_files.hpp lists them).
// After a clean end none is left. After a SIGKILL all are left, and the next start removes them;
// the pages of the segments live on while processes of the old epoch have them mapped.
//
// Pools are fixed for the broker's life (iceoryx cannot add any): each holds one arena at a time.
// A larger arena than any of them needs a new broker, that is, a new epoch.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "ipc/arena.hpp"
#include "ipc/iceoryx_runtime.hpp"  // broker_lock_path

namespace opsplit::ipc {

inline constexpr std::size_t max_pools = 32;

struct PoolState {
  std::uint64_t bytes = 0;
  bool free = true;
};

// What a broker with these pools takes in /dev/shm: the pools, rounded up to whole pages, and the
// management segment. Errors: no pool, too many, or one too large.
Result<std::uint64_t> broker_bytes(std::span<const std::uint64_t> pools);

// Not thread safe: one thread uses it. Once it is destroyed the process must end by _exit():
// iceoryx's threads are still running (they would signal nobody, but waiting for them may hang).
class Broker {
 public:
  // Starts RouDi; takes as long as the kernel takes to provide zeroed pages (~1 s per GB).
  // Errors, all found before RouDi is touched: refused (another broker or a foreign RouDi runs,
  // named; the user or group has no name), limit_exceeded (/dev/shm is too small: bytes needed and
  // found), invalid_input. A fatal error of iceoryx later on removes the files and calls
  // `on_fatal`, which must end the process.
  static Result<std::unique_ptr<Broker>> start(std::vector<std::uint64_t> pools,
                                               std::function<void(const char*)> on_fatal);
  ~Broker();  // removes all files; signals nobody, and processes that are attached go on
  Broker(const Broker&) = delete;
  Broker& operator=(const Broker&) = delete;

  // Gives the arena the smallest free pool that it fits into, and publishes it for those who
  // attach. Its bytes are not zeroed: fresh from the kernel they are, after a withdraw() they hold
  // what the last arena left. Errors: already_exists; limit_exceeded (bytes missing).
  Result<> publish(const ArenaId& id, std::uint64_t bytes);
  // Takes the arena back. Whoever is attached keeps its mapping, and the pool is free once the
  // last of them has let go of it or has ended. Waits up to half a second for that; not an error
  // if it takes longer. Error: not_found.
  Result<> withdraw(const ArenaId& id);

  // What RouDi cannot do: forgets processes that have ended (all need one PID namespace), so that
  // their pools become free and their places can be used again. Call it every second or so.
  // Returns how many it forgot.
  std::size_t forget_ended();

  [[nodiscard]] std::vector<PoolState> pools() const;
  [[nodiscard]] std::size_t processes() const;        // registered now
  [[nodiscard]] std::vector<ArenaId> arenas() const;  // published now

 private:
  struct State;
  explicit Broker(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace opsplit::ipc
