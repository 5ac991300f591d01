// The arena: the memory of all slots of a deployment. It is one iceoryx chunk, loaned and
// published once by the broker; whoever attaches keeps it and from then on calls iceoryx no more.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "base/system.hpp"

namespace opsplit::ipc {

struct ArenaId {
  std::string deployment;  // [A-Za-z0-9_-], 1 to 64 characters
  std::uint64_t epoch = 0;

  friend bool operator==(const ArenaId&, const ArenaId&) = default;
  friend auto operator<=>(const ArenaId&, const ArenaId&) = default;
};

// Whether the name can be part of an iceoryx service, a file and a runtime name.
Result<> check_deployment_name(std::string_view name);

class TakenChunk;

// A mapping of an arena, at a page boundary. Its bytes stay readable and writable as long as this
// object lives, also after the broker's death; other processes write there, too. A forked child
// does not have them (MADV_DONTFORK). bytes() may be called from any thread; attach() too.
class Arena {
 public:
  // `runtime_name` says in the broker's log who this is: [A-Za-z0-9_.-], at most 64 characters; it
  // need not be unique. A process may attach any number of arenas, of this and later epochs.
  // Blocks until the deadline at most. Errors: unavailable (no broker runs), refused (the broker
  // is another user's or has another iceoryx version, or the arena is smaller than `bytes`),
  // timed_out (not published), system.
  static Result<Arena> attach(std::string_view runtime_name, const ArenaId& id, std::uint64_t bytes,
                              Deadline deadline);
  Arena(Arena&&) noexcept;
  Arena& operator=(Arena&&) noexcept;
  ~Arena();  // gives the chunk back to the broker

  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }
  // Gives its memory back to the kernel, for everybody: zeros are read from now on.
  void discard();

 private:
  Arena(std::unique_ptr<TakenChunk> chunk, std::span<std::byte> bytes);

  std::unique_ptr<TakenChunk> chunk_;
  std::span<std::byte> bytes_;
};

}  // namespace opsplit::ipc
