#include "ipc/handover.hpp"

#include <algorithm>
#include <cctype>
#include <cstring>

#include "ipc/doorbell.hpp"

namespace opsplit::ipc {
namespace {

// One compare-and-swap on the exact word that was read: the only way in which a word changes.
template <class Word>
bool swap(std::atomic<std::uint64_t>& word, Word from, Word to) {
  std::uint64_t expected = from.pack();
  return word.compare_exchange_strong(expected, to.pack());
}

TaskWord load(const TaskRecord& record) { return TaskWord::unpack(record.word.load()); }
SlotWord load(const SlotRecord& record) { return SlotWord::unpack(record.word.load()); }

}  // namespace

Handover::Handover(const Board& board, const Plan& plan, Futex& futex)
    : board_(board), plan_(plan), futex_(futex), index_in_operator_(plan.tasks.size()) {
  for (const PlannedOperator& op : plan.operators)
    for (std::size_t i = 0; i < op.tasks.size(); ++i)
      index_in_operator_[static_cast<std::size_t>(op.tasks[i])] = static_cast<std::uint32_t>(i);
  for (std::uint32_t task = 0; task < plan.tasks.size(); ++task) {
    const PlannedTask& planned = plan.tasks[task];
    // A task without producers is one that the client's submit makes runnable.
    if (planned.reads_client || planned.producers.empty()) client_fed_tasks_.push_back(task);
    if (planned.feeds_client) client_feeding_tasks_.push_back(task);
    auto& operators = consumer_operators_.emplace_back();
    for (const std::int32_t consumer : planned.consumers)
      operators.push_back(
          static_cast<std::uint32_t>(plan.tasks[static_cast<std::size_t>(consumer)].op));
    std::sort(operators.begin(), operators.end());
    operators.erase(std::unique(operators.begin(), operators.end()), operators.end());
  }
}

Handover::Readiness Handover::readiness(std::uint32_t slot, std::uint32_t task,
                                        std::uint32_t generation) const {
  const PlannedTask& planned = plan_.tasks[task];
  bool input_failed = false;
  for (const std::int32_t producer : planned.producers) {
    const TaskWord word = load(board_.task(slot, static_cast<std::uint32_t>(producer)));
    if (!word.finished(generation)) return Readiness::no;
    input_failed = input_failed || word.state == TaskState::failed;
  }
  if (planned.reads_client || planned.producers.empty()) {
    const SlotWord word = load(board_.slot(slot));
    if (word.generation != generation || word.state != SlotState::running) return Readiness::no;
  }
  return input_failed ? Readiness::input_failed : Readiness::yes;
}

std::optional<Claim> Handover::claim(std::uint32_t slot, std::uint32_t task, LaunchNumber launch) {
  TaskRecord& record = board_.task(slot, task);
  const TaskWord word = load(record);
  if (word.state != TaskState::waiting) return std::nullopt;
  const Readiness ready = readiness(slot, task, word.generation);
  if (ready == Readiness::no) return std::nullopt;
  if (!swap(record.word, word, {word.generation, TaskState::claimed, word.attempts, launch}))
    return std::nullopt;
  return Claim{slot, task, word.generation, word.attempts, ready == Readiness::input_failed};
}

bool Handover::has_hints(std::uint32_t op) const {
  for (const auto& word : board_.hints(op))
    if (word.load() != 0) return true;
  return false;
}

std::optional<Claim> Handover::find_work(std::uint32_t op, LaunchNumber launch) {
  const auto hints = board_.hints(op);
  const std::uint32_t words = board_.layout().hint_words[op];
  const auto hinted = [&](std::uint32_t slot) {
    return std::any_of(hints.begin() + slot * words, hints.begin() + (slot + 1) * words,
                       [](const auto& word) { return word.load() != 0; });
  };
  // A pass per slot at the most: hints that keep coming back without work must not hold us here.
  for (std::uint32_t pass = 0; pass < board_.layout().depth; ++pass) {
    std::optional<std::uint32_t> oldest;
    for (std::uint32_t slot = 0; slot < board_.layout().depth; ++slot)
      if (hinted(slot) && (!oldest || board_.slot(slot).ticket.load(std::memory_order_relaxed) <
                                          board_.slot(*oldest).ticket.load(std::memory_order_relaxed)))
        oldest = slot;
    if (!oldest) return std::nullopt;
    for (std::uint32_t w = 0; w < words; ++w) {
      auto& word = hints[*oldest * words + w];
      for (std::uint64_t bits = word.load(); bits != 0;) {
        const int index = std::countr_zero(bits);
        const std::uint64_t bit = std::uint64_t{1} << index;
        bits &= ~bit;
        // Clear first, look afterwards: a commit after the look sets the hint again.
        if ((word.fetch_and(~bit) & bit) == 0) continue;
        const std::size_t local = w * 64 + static_cast<std::size_t>(index);
        if (local >= plan_.operators[op].tasks.size()) continue;  // nobody who keeps the rules
        const auto task = static_cast<std::uint32_t>(plan_.operators[op].tasks[local]);
        if (auto found = claim(*oldest, task, launch)) {
          if (has_hints(op)) ring(board_.doorbell(op), futex_);
          return found;
        }
      }
    }
  }
  return std::nullopt;
}

std::optional<Claim> Handover::sweep(std::uint32_t op, LaunchNumber launch) {
  for (std::uint32_t slot = 0; slot < board_.layout().depth; ++slot) {
    if (load(board_.slot(slot)).state != SlotState::running) continue;
    for (const std::int32_t task : plan_.operators[op].tasks)
      if (auto found = claim(slot, static_cast<std::uint32_t>(task), launch)) return found;
  }
  return std::nullopt;
}

bool Handover::commit(const Claim& claim, LaunchNumber launch, TaskState outcome) {
  const TaskWord from{claim.generation, TaskState::claimed, claim.attempts, launch};
  const TaskWord to{claim.generation, outcome, claim.attempts, launch};
  if (!swap(board_.task(claim.slot, claim.task).word, from, to)) return false;
  announce(claim.slot, claim.task, claim.generation);
  return true;
}

void Handover::hint(std::uint32_t slot, std::uint32_t task) {
  const auto op = static_cast<std::uint32_t>(plan_.tasks[task].op);
  const std::uint32_t index = index_in_operator_[task];
  board_.hints(op)[slot * board_.layout().hint_words[op] + index / 64].fetch_or(std::uint64_t{1}
                                                                              << index % 64);
  ring(board_.doorbell(op), futex_);
}

void Handover::announce(std::uint32_t slot, std::uint32_t task, std::uint32_t generation) {
  const PlannedTask& planned = plan_.tasks[task];
  // Only who finds all producers finished hints: of two that finish at the same time, at least one
  // does, since the swaps and the loads are sequentially consistent.
  for (const std::int32_t consumer : planned.consumers)
    if (readiness(slot, static_cast<std::uint32_t>(consumer), generation) != Readiness::no)
      hint(slot, static_cast<std::uint32_t>(consumer));
  if (planned.feeds_client && finished({slot, generation})) ring_client(slot, generation);
}

void Handover::ring_client(std::uint32_t slot, std::uint32_t generation) {
  const SlotWord word = load(board_.slot(slot));
  if (word.generation != generation || word.holder == 0) return;
  Participant& client = board_.participant(word.holder);
  client.bell.fetch_add(1);
  if (client.bell_waiters.load() != 0) futex_.wake(client.bell, INT32_MAX);
}

void Handover::ring_ahead(std::uint32_t task) {
  for (const std::uint32_t op : consumer_operators_[task]) ring(board_.doorbell(op), futex_);
}

std::optional<SlotHold> Handover::take_slot(LaunchNumber launch) {
  for (std::uint32_t slot = 0; slot < board_.layout().depth; ++slot) {
    SlotRecord& record = board_.slot(slot);
    SlotWord word = load(record);
    if (word.state == SlotState::closing && advance_closing(slot)) word = load(record);
    if (word.state == SlotState::free &&
        swap(record.word, word, {word.generation, SlotState::filling, launch}))
      return SlotHold{slot, word.generation};
  }
  return std::nullopt;
}

bool Handover::submit(SlotHold hold, LaunchNumber launch) {
  SlotRecord& record = board_.slot(hold.slot);
  record.ticket.store(board_.header().next_ticket.fetch_add(1, std::memory_order_relaxed),
                      std::memory_order_relaxed);
  if (!swap(record.word, SlotWord{hold.generation, SlotState::filling, launch},
            SlotWord{hold.generation, SlotState::running, launch}))
    return false;
  for (const std::uint32_t task : client_fed_tasks_)
    if (readiness(hold.slot, task, hold.generation) != Readiness::no) hint(hold.slot, task);
  return true;
}

bool Handover::finished(SlotHold hold) const {
  return std::all_of(client_feeding_tasks_.begin(), client_feeding_tasks_.end(),
                     [&](std::uint32_t task) {
                       return load(board_.task(hold.slot, task)).finished(hold.generation);
                     });
}

std::optional<std::uint32_t> Handover::failed_task(SlotHold hold) const {
  // In topological order the first failed task has no failed input: it is where it began.
  for (std::uint32_t task = 0; task < plan_.tasks.size(); ++task) {
    const TaskWord word = load(board_.task(hold.slot, task));
    if (word.generation == hold.generation && word.state == TaskState::failed) return task;
  }
  return std::nullopt;
}

bool Handover::close(SlotHold hold, LaunchNumber launch) {
  SlotRecord& record = board_.slot(hold.slot);
  const SlotWord word = load(record);
  if (word.generation != hold.generation || word.holder != launch) return true;
  if (word.state == SlotState::filling || word.state == SlotState::running)
    swap(record.word, word, {word.generation, SlotState::closing, word.holder});
  return advance_closing(hold.slot);
}

bool Handover::advance_closing(std::uint32_t slot) {
  SlotRecord& record = board_.slot(slot);
  const SlotWord closing = load(record);
  if (closing.state != SlotState::closing) return true;
  const std::uint32_t generation = closing.generation;
  bool swept = true;
  for (std::uint32_t task = 0; task < plan_.tasks.size(); ++task) {
    TaskRecord& task_record = board_.task(slot, task);
    TaskWord word = load(task_record);
    while (word.generation == generation && word.state != TaskState::claimed &&
           !swap(task_record.word, word, {generation + 1, TaskState::waiting, 0, 0}))
      word = load(task_record);
    swept = swept && !(word.generation == generation && word.state == TaskState::claimed);
  }
  if (!swept) return false;
  const bool over = board_.header().over.load() != 0;
  if (swap(record.word, closing,
           {generation + 1, over ? SlotState::retired : SlotState::free, 0})) {
    board_.header().slots_freed.fetch_add(1);
    if (board_.header().slot_waiters.load() != 0)
      futex_.wake(board_.header().slots_freed, INT32_MAX);
  }
  return true;
}

Handover::GivenBack Handover::give_back(LaunchNumber dead, std::string_view last_words) {
  GivenBack result;
  for (std::uint32_t slot = 0; slot < board_.layout().depth; ++slot) {
    for (std::uint32_t task = 0; task < plan_.tasks.size(); ++task) {
      TaskRecord& record = board_.task(slot, task);
      const TaskWord word = load(record);
      if (word.state != TaskState::claimed || word.holder != dead) continue;
      const auto attempts = static_cast<std::uint8_t>(std::min(word.attempts + 1, 15));
      if (attempts < max_attempts) {
        result.tasks += swap(record.word, word,
                             {word.generation, TaskState::waiting, attempts, 0})
                            ? 1
                            : 0;
        continue;
      }
      write_failure({slot, task, word.generation, attempts, false}, last_words);
      if (swap(record.word, word, {word.generation, TaskState::failed, attempts, dead})) {
        ++result.poisoned;
        announce(slot, task, word.generation);
      }
    }
    SlotRecord& record = board_.slot(slot);
    const SlotWord word = load(record);
    if (word.holder == dead &&
        (word.state == SlotState::filling || word.state == SlotState::running)) {
      result.slots += swap(record.word, word, {word.generation, SlotState::closing, dead}) ? 1 : 0;
    }
    // A close can have waited for the dead holder of a claim.
    advance_closing(slot);
  }
  hint_everything();
  return result;
}

void Handover::hint_everything() {
  for (std::uint32_t slot = 0; slot < board_.layout().depth; ++slot) {
    const SlotWord slot_word = load(board_.slot(slot));
    if (slot_word.state != SlotState::running) continue;
    for (std::uint32_t task = 0; task < plan_.tasks.size(); ++task) {
      const TaskWord word = load(board_.task(slot, task));
      if (word.state == TaskState::waiting &&
          readiness(slot, task, word.generation) != Readiness::no)
        hint(slot, task);
    }
    if (finished({slot, slot_word.generation})) ring_client(slot, slot_word.generation);
  }
  for (std::uint32_t op = 0; op < board_.layout().operators; ++op)
    ring_all(board_.doorbell(op), futex_);
}

void Handover::end_epoch() {
  board_.header().over.store(1);
  for (std::uint32_t slot = 0; slot < board_.layout().depth; ++slot) {
    SlotRecord& record = board_.slot(slot);
    SlotWord word = load(record);
    while (word.state == SlotState::free &&
           !swap(record.word, word, {word.generation, SlotState::retired, 0}))
      word = load(record);
    ring_client(slot, word.generation);
  }
  board_.header().slots_freed.fetch_add(1);
  futex_.wake(board_.header().slots_freed, INT32_MAX);
}

std::uint32_t Handover::slots_in_use() const {
  std::uint32_t in_use = 0;
  for (std::uint32_t slot = 0; slot < board_.layout().depth; ++slot) {
    const SlotState state = load(board_.slot(slot)).state;
    in_use += state != SlotState::free && state != SlotState::retired ? 1 : 0;
  }
  return in_use;
}

void Handover::write_failure(const Claim& claim, std::string_view text) {
  auto& failure = board_.task(claim.slot, claim.task).failure;
  const std::size_t length = std::min(text.size(), failure.size());
  failure.fill('\0');
  std::memcpy(failure.data(), text.data(), length);
}

std::string Handover::failure(std::uint32_t slot, std::uint32_t task) const {
  const auto copy = board_.task(slot, task).failure;
  std::string text(copy.data(), std::find(copy.begin(), copy.end(), '\0'));
  for (char& c : text)
    if (std::isprint(static_cast<unsigned char>(c)) == 0) c = ' ';
  return text;
}

}  // namespace opsplit::ipc
