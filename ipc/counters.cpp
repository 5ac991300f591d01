#include "ipc/counters.hpp"

#include "ipc/board.hpp"

namespace opsplit::ipc {

Counters Counters::copy_of(const Board& board, std::uint32_t launch) {
  const Participant& participant = board.participant(launch);
  const Durations& durations = board.durations(launch);
  return {participant.tasks_done.load(std::memory_order_relaxed),
          participant.busy_ns.load(std::memory_order_relaxed),
          participant.wait_ns.load(std::memory_order_relaxed),
          participant.bytes_copied.load(std::memory_order_relaxed),
          Histogram::copy_of(durations.run),
          Histogram::copy_of(durations.wait)};
}

void Counters::add(const Counters& other) {
  tasks_done = saturating_sum(tasks_done, other.tasks_done);
  busy_ns = saturating_sum(busy_ns, other.busy_ns);
  wait_ns = saturating_sum(wait_ns, other.wait_ns);
  bytes_copied = saturating_sum(bytes_copied, other.bytes_copied);
  run.add(other.run);
  wait.add(other.wait);
}

}  // namespace opsplit::ipc
