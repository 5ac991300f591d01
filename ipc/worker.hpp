// An instance's side of the hand-over: waits for work that it may claim, and commits it.
//
// It stays awake after a task where that pays, as long as its options allow, then sleeps at its
// operator's doorbell. A wake-up without work is a ring ahead of time: a commit is near, and it stays
// awake for it. A sleep ends at a deadline after which the words are looked at, whatever the hints say. That is
// for hints that somebody lost who died; with hundreds of operators on a core, looking more often costs
// more than the work.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <vector>

#include "ipc/awake.hpp"
#include "ipc/handover.hpp"

namespace opsplit::ipc {

struct WorkerOptions {
  // At the most, between two tasks; 0: sleeps at once, and wakes nobody ahead.
  std::uint64_t spin_ns = 0;
  bool measure = true;  // take the times of each task: two clock readings, more than a spinning hop
};

// Not thread safe: one thread per instance claims, and holds one claim at a time.
class Worker {
 public:
  // The participant `launch` must be on the board; it claims while its mode is active. `seat` is its
  // own at the operator's doorbell, below seats_per_operator.
  Worker(Handover& handover, std::uint32_t op, LaunchNumber launch, std::uint32_t seat,
         WorkerOptions options);

  // For what follows: other cores allow another way to wait.
  void set_options(WorkerOptions options) { options_ = options; }

  // The next task to run, or nothing after at most 100 ms: the caller then looks whether to go on.
  std::optional<Claim> next();
  // Counts the task for `ps`. As Handover::commit; a claim with a failed input can only fail.
  bool commit(const Claim& claim, TaskState outcome, std::uint64_t bytes_copied);
  // The last step of the claimed task begins: Handover::ring_ahead, where that step is short enough.
  void ring_ahead(const Claim& claim);

 private:
  static constexpr std::uint64_t deadline_ns = 80'000'000;

  // The time, or that of the commit just before: a clock reading is a good part of a hop.
  std::uint64_t recent_ns();
  std::optional<Claim> stay_awake(Backoff& backoff);
  std::optional<Claim> started(std::optional<Claim> claim);

  Handover& handover_;
  std::uint32_t op_;
  LaunchNumber launch_;
  std::uint32_t seat_;
  WorkerOptions options_;
  Presence presence_;
  Participant& self_;
  Durations& durations_;
  std::vector<Backoff> after_task_;     // staying awake, by task
  std::vector<Backoff> ringing_ahead_;  // likewise
  Backoff after_ring_;
  Backoff* just_done_ = nullptr;  // of after_task_; null: it has been tried
  std::uint64_t rang_at_ns_ = 0;  // ahead, for the claimed task
  std::uint64_t claimed_at_ns_ = 0;
  std::uint64_t runnable_at_ns_ = 0;   // the claimed task
  std::uint64_t committed_at_ns_ = 0;  // 0: not since the clock was last needed
};

}  // namespace opsplit::ipc
