#include "ipc/handover.hpp"

#include <algorithm>
#include <bit>
#include <cctype>
#include <cstring>
#include <iterator>

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

// A line that is about to be written: taken from the other cores now. __builtin_prefetch would only
// read it, unless the compiler were told that the CPU can do this.
void prefetch_to_write(const void* line) {
#if defined(__x86_64__)
  asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(line)));
#else
  __builtin_prefetch(line, 1);
#endif
}

}  // namespace

Handover::Handover(const Board& board, const Plan& plan, Futex& futex)
    : board_(board), plan_(plan), futex_(futex), routes_(plan.tasks.size()) {
  for (std::uint32_t op = 0; op < plan.operators.size(); ++op) {
    const auto& tasks = plan.operators[op].tasks;
    hints_.push_back({board.hints(op), board.layout().hint_words[op], tasks});
    for (std::size_t i = 0; i < tasks.size(); ++i)
      routes_[static_cast<std::size_t>(tasks[i])].in_operator = static_cast<Index>(i);
  }
  for (std::uint32_t task = 0; task < plan.tasks.size(); ++task) {
    const PlannedTask& planned = plan.tasks[task];
    add_route(planned, routes_[task]);
    if (routes_[task].by_client) client_fed_tasks_.push_back(task);
    if (routes_[task].feeds_client) client_feeding_tasks_.push_back(task);
    auto& operators = consumer_operators_.emplace_back();
    for (const std::int32_t consumer : planned.consumers)
      operators.push_back(
          static_cast<std::uint32_t>(plan.tasks[static_cast<std::size_t>(consumer)].op));
    std::sort(operators.begin(), operators.end());
    operators.erase(std::unique(operators.begin(), operators.end()), operators.end());
  }
}

void Handover::add_route(const PlannedTask& planned, Route& route) {
  route.op = static_cast<Index>(planned.op);
  route.by_client = planned.reads_client || planned.producers.empty();
  route.feeds_client = planned.feeds_client;
  std::vector<Index> lists;
  const auto append = [&lists](const std::vector<std::int32_t>& indices) {
    std::transform(indices.begin(), indices.end(), std::back_inserter(lists),
                   [](std::int32_t index) { return static_cast<Index>(index); });
    return static_cast<Index>(lists.size());
  };
  std::vector<std::int32_t> roots;
  for (const std::int32_t tensor : planned.inputs) roots.push_back(plan_.root(tensor));
  route.producers_end = append(planned.producers);
  route.consumers_end = append(planned.consumers);
  route.read_end = append(roots);
  route.written_end = append(planned.outputs);
  if (lists.size() <= route.lists.size()) {
    std::copy(lists.begin(), lists.end(), route.lists.begin());
  } else {
    route.elsewhere = static_cast<std::uint32_t>(long_lists_.size());
    long_lists_.insert(long_lists_.end(), lists.begin(), lists.end());
  }
}

Handover::Readiness Handover::readiness(std::uint32_t slot, std::uint32_t task,
                                        std::uint32_t generation) const {
  const Route& route = routes_[task];
  bool input_failed = false;
  for (const Index producer : producers(route)) {
    const TaskWord word = load(board_.task(slot, producer));
    if (!word.finished(generation)) return Readiness::no;
    input_failed = input_failed || word.state == TaskState::failed;
  }
  if (route.by_client) {
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

// Fetches what claiming and running the task will touch and another core has written, all at the
// same time: one after the other would take longer than the rest of the hop.
void Handover::prefetch(std::uint32_t slot, std::uint32_t task) const {
  const Route& route = routes_[task];
  prefetch_to_write(&board_.task(slot, task));
  for (const Index producer : producers(route)) __builtin_prefetch(&board_.task(slot, producer));
  for (const Index tensor : read(route)) __builtin_prefetch(&board_.tensor_header(slot, tensor));
  for (const Index tensor : written(route)) prefetch_to_write(&board_.tensor_header(slot, tensor));
  for (const Index consumer : consumers(route)) __builtin_prefetch(&routes_[consumer]);
}

bool Handover::has_hints(std::uint32_t op) const {
  for (const auto& word : hints_[op].words)
    if (word.load() != 0) return true;
  return false;
}

std::optional<Claim> Handover::find_work(std::uint32_t op, LaunchNumber launch) {
  const Hints& hints = hints_[op];
  const std::uint32_t words = hints.words_per_slot;
  const auto hinted = [&](std::uint32_t slot) {
    return std::any_of(hints.words.begin() + slot * words, hints.words.begin() + (slot + 1) * words,
                       [](const auto& word) { return word.load() != 0; });
  };
  // A pass per slot at the most: hints that keep coming back without work must not hold us here.
  for (std::uint32_t pass = 0; pass < board_.layout().depth; ++pass) {
    std::optional<std::uint32_t> oldest;
    for (std::uint32_t slot = 0; slot < board_.layout().depth; ++slot)
      if (hinted(slot) &&
          (!oldest || board_.slot(slot).ticket.load(std::memory_order_relaxed) <
                          board_.slot(*oldest).ticket.load(std::memory_order_relaxed)))
        oldest = slot;
    if (!oldest) return std::nullopt;
    for (std::uint32_t w = 0; w < words; ++w) {
      auto& word = hints.words[*oldest * words + w];
      for (std::uint64_t bits = word.load(); bits != 0;) {
        const int index = std::countr_zero(bits);
        const std::uint64_t bit = std::uint64_t{1} << index;
        bits &= ~bit;
        const std::size_t local = w * 64 + static_cast<std::size_t>(index);
        const bool known = local < hints.tasks.size();  // else it is of nobody who keeps the rules
        const auto task = known ? static_cast<std::uint32_t>(hints.tasks[local]) : 0;
        if (known) prefetch(*oldest, task);
        // Clear first, look afterwards: a commit after the look sets the hint again.
        if ((word.fetch_and(~bit) & bit) == 0 || !known) continue;
        if (auto found = claim(*oldest, task, launch)) {
          if (has_hints(op)) ring(board_, op, futex_);
          return found;
        }
      }
    }
  }
  return std::nullopt;
}

bool Handover::has_runnable(std::uint32_t op) const {
  for (std::uint32_t slot = 0; slot < board_.layout().depth; ++slot) {
    if (load(board_.slot(slot)).state != SlotState::running) continue;
    for (const std::int32_t index : plan_.operators[op].tasks) {
      const auto task = static_cast<std::uint32_t>(index);
      const TaskWord word = load(board_.task(slot, task));
      if (word.state == TaskState::waiting &&
          readiness(slot, task, word.generation) != Readiness::no)
        return true;
    }
  }
  return false;
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
  // A close that waited for this claim may have nobody else left to finish it.
  if (load(board_.slot(claim.slot)).state == SlotState::closing) advance_closing(claim.slot);
  return true;
}

std::uint64_t Handover::runnable_since_ns(const Claim& claim) const {
  const Indices commits = producers(routes_[claim.task]);
  if (commits.empty()) return board_.slot(claim.slot).submitted_ns.load(std::memory_order_relaxed);
  std::uint64_t latest = 0;
  for (const Index producer : commits)
    latest = std::max(
        latest, board_.task(claim.slot, producer).finished_ns.load(std::memory_order_relaxed));
  return latest;
}

void Handover::hint(std::uint32_t slot, std::uint32_t task) {
  const Route& route = routes_[task];
  const Hints& hints = hints_[route.op];
  hints.words[slot * hints.words_per_slot + route.in_operator / 64].fetch_or(
      std::uint64_t{1} << route.in_operator % 64);
  ring(board_, route.op, futex_);
}

void Handover::announce(std::uint32_t slot, std::uint32_t task, std::uint32_t generation) {
  const Route& route = routes_[task];
  // Only who finds all producers finished hints: of two that finish at the same time, at least one
  // does, since the swaps and the loads are sequentially consistent.
  for (const Index consumer : consumers(route))
    if (readiness(slot, consumer, generation) != Readiness::no) hint(slot, consumer);
  if (route.feeds_client && finished({slot, generation})) ring_client(slot, generation);
}

void Handover::ring_client(std::uint32_t slot, std::uint32_t generation) {
  const SlotWord word = load(board_.slot(slot));
  if (word.generation != generation || word.holder == 0) return;
  Participant& client = board_.participant(word.holder);
  client.bell.fetch_add(1);
  if (client.bell_waiters.load() == 0) return;
  announce_waking(board_, board_.slot(slot).bed);
  futex_.wake(client.bell, INT32_MAX);
}

void Handover::ring_ahead(std::uint32_t task) {
  for (const std::uint32_t op : consumer_operators_[task]) {
    const Doorbell& bell = board_.doorbell(op);
    const std::uint64_t sleepers = bell.sleepers.load(std::memory_order_relaxed);
    if (sleepers == 0) continue;
    const auto seat = static_cast<std::size_t>(std::countr_zero(sleepers));
    // On this CPU it could do nothing before we are done.
    if (bell.beds[seat].cpu.load(std::memory_order_relaxed) !=
        static_cast<std::uint32_t>(futex_.cpu()))
      ring(board_, op, futex_);
  }
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
  record.submitted_ns.store(futex_.now_ns(), std::memory_order_relaxed);
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

std::uint64_t Handover::duration_ns(SlotHold hold) const {
  std::uint64_t end = 0;
  for (const std::uint32_t task : client_feeding_tasks_)
    end = std::max(end, board_.task(hold.slot, task).finished_ns.load(std::memory_order_relaxed));
  const auto begin = board_.slot(hold.slot).submitted_ns.load(std::memory_order_relaxed);
  return end > begin ? end - begin : 0;
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
  const SlotWord free{generation + 1, SlotState::free, 0};
  if (swap(record.word, closing, free)) {
    // enter() sets the state and then retires what is free: one of the two sees the other.
    if (epoch_state() >= EpochState::retiring)
      swap(record.word, free, SlotWord{generation + 1, SlotState::retired, 0});
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
        result.tasks +=
            swap(record.word, word, {word.generation, TaskState::waiting, attempts, 0}) ? 1 : 0;
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
  // It may have died awake, or have been rung just now. Those that are awake and need it known appear
  // again.
  for (std::uint32_t cpu = 0; cpu < cpu_records; ++cpu) board_.cpu(cpu).awake.store(0);
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

EpochState Handover::epoch_state() const {
  // Whatever else may stand there.
  return static_cast<EpochState>(std::min(board_.header().epoch_state.load(),
                                          static_cast<std::uint32_t>(EpochState::drained)));
}

void Handover::enter(EpochState state) {
  if (state > epoch_state()) board_.header().epoch_state.store(static_cast<std::uint32_t>(state));
  if (epoch_state() < EpochState::retiring) return;
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

bool Handover::all_retired() const {
  std::uint32_t retired = 0;
  for (std::uint32_t slot = 0; slot < board_.layout().depth; ++slot)
    retired += load(board_.slot(slot)).state == SlotState::retired ? 1 : 0;
  return retired == board_.layout().depth;
}

std::uint32_t Handover::requests_under_way() const {
  std::uint32_t under_way = 0;
  for (std::uint32_t slot = 0; slot < board_.layout().depth; ++slot) {
    const SlotWord word = load(board_.slot(slot));
    under_way += word.state == SlotState::closing ||
                         (word.state == SlotState::running && !finished({slot, word.generation}))
                     ? 1
                     : 0;
  }
  return under_way;
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
