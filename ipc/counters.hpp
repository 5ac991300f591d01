// What a participant has counted on the board, copied to compute with. The copy is not a moment's:
// who writes goes on while it is made.
#pragma once

#include <cstdint>

#include "ipc/histogram.hpp"

namespace opsplit::ipc {

class Board;

// Of an instance; of a client `tasks_done`, `busy_ns` and `run` are about its answered requests.
struct Counters {
  std::uint64_t tasks_done = 0;
  std::uint64_t busy_ns = 0;  // sum of `run`
  std::uint64_t wait_ns = 0;  // sum of `wait`
  std::uint64_t bytes_copied = 0;
  Histogram run;
  Histogram wait;

  static Counters copy_of(const Board& board, std::uint32_t launch);
  void add(const Counters& other);

  friend bool operator==(const Counters&, const Counters&) = default;
};

}  // namespace opsplit::ipc
