#include "ipc/worker.hpp"

#include <utility>

#include "ipc/doorbell.hpp"

namespace opsplit::ipc {

Worker::Worker(Handover& handover, std::uint32_t op, LaunchNumber launch, std::uint32_t seat,
               WorkerOptions options)
    : handover_(handover),
      op_(op),
      launch_(launch),
      seat_(seat),
      options_(options),
      presence_(handover.board(), handover.futex(), launch),
      self_(handover.board().participant(launch)),
      durations_(handover.board().durations(launch)),
      after_task_(handover.plan().tasks.size()),
      ringing_ahead_(handover.plan().tasks.size()) {}

std::optional<Claim> Worker::started(std::optional<Claim> claim) {
  if (claim) {
    presence_.appear();
    if (options_.measure) {
      claimed_at_ns_ = handover_.futex().now_ns();
      runnable_at_ns_ = handover_.runnable_since_ns(*claim);  // their words have just been read
    }
  }
  return claim;
}

std::uint64_t Worker::recent_ns() {
  const std::uint64_t committed = std::exchange(committed_at_ns_, 0);
  return committed != 0 ? committed : handover_.futex().now_ns();
}

std::optional<Claim> Worker::stay_awake(Backoff& backoff) {
  std::optional<Claim> claim;
  ipc::stay_awake(presence_, backoff, handover_.futex(), recent_ns(), options_.spin_ns, [&] {
    if (handover_.has_hints(op_)) claim = handover_.find_work(op_, launch_);
    return claim.has_value();
  });
  return claim;
}

std::optional<Claim> Worker::next() {
  Futex& futex = handover_.futex();
  if (self_.mode.load(std::memory_order_relaxed) != static_cast<std::uint32_t>(Mode::active)) {
    // Standby and draining instances take no ring that is meant for work.
    presence_.disappear();
    const std::uint32_t seen = self_.bell.load();
    if (self_.mode.load() != static_cast<std::uint32_t>(Mode::active))
      futex.wait(self_.bell, seen, futex.now_ns() + deadline_ns);
    return std::nullopt;
  }
  if (auto claim = handover_.find_work(op_, launch_)) return started(claim);
  if (just_done_ != nullptr)
    if (auto claim = stay_awake(*std::exchange(just_done_, nullptr))) return started(claim);
  const std::uint64_t deadline = recent_ns() + deadline_ns;
  Doorbell& bell = handover_.board().doorbell(op_);
  presence_.lie_down(bell.beds[seat_]);
  sleep_unless(bell, seat_, futex, deadline, [&] { return handover_.has_hints(op_); });
  if (auto claim = handover_.find_work(op_, launch_)) return started(claim);
  if (futex.now_ns() >= deadline) return started(handover_.sweep(op_, launch_));
  return started(stay_awake(after_ring_));
}

void Worker::ring_ahead(const Claim& claim) {
  if (options_.spin_ns == 0 || !ringing_ahead_[claim.task].worth_trying()) return;
  rang_at_ns_ = handover_.futex().now_ns();
  handover_.ring_ahead(claim.task);
}

bool Worker::commit(const Claim& claim, TaskState outcome, std::uint64_t bytes_copied) {
  // Only this participant writes its counters, so that they need no read-modify-write.
  const auto add = [](std::atomic<std::uint64_t>& counter, std::uint64_t value) {
    counter.store(counter.load(std::memory_order_relaxed) + value, std::memory_order_relaxed);
  };
  TaskRecord& record = handover_.board().task(claim.slot, claim.task);
  if (options_.measure) {
    const std::uint64_t now = handover_.futex().now_ns();
    record.started_ns.store(claimed_at_ns_, std::memory_order_relaxed);
    record.finished_ns.store(now, std::memory_order_relaxed);
    committed_at_ns_ = now;
    if (rang_at_ns_ != 0) ringing_ahead_[claim.task].paid(now - rang_at_ns_ < options_.spin_ns);
    rang_at_ns_ = 0;
  }
  just_done_ = &after_task_[claim.task];
  record.bytes_copied.store(bytes_copied, std::memory_order_relaxed);
  add(self_.tasks_done, 1);
  add(self_.bytes_copied, bytes_copied);
  const bool committed = handover_.commit(claim, launch_, outcome);
  // After the commit, so that the next operator need not wait for it.
  if (options_.measure && !claim.input_failed) {
    const std::uint64_t run = committed_at_ns_ - claimed_at_ns_;
    // What others wrote may be missing, or later than now.
    const std::uint64_t wait = runnable_at_ns_ != 0 && runnable_at_ns_ < claimed_at_ns_
                                   ? claimed_at_ns_ - runnable_at_ns_
                                   : 0;
    add(self_.busy_ns, run);
    add(self_.wait_ns, wait);
    durations_.run.record(run);
    durations_.wait.record(wait);
  }
  return committed;
}

}  // namespace opsplit::ipc
