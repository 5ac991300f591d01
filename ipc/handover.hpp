// The hand-over: how a request moves from task to task so that a kill at any instruction loses
// nothing, does nothing twice and writes nothing into the slot's next request. All of the protocol
// is in this class; ipc/board.hpp says what the words look like, tests/model/handover.pml is its
// model, and tests/ipc/handover_kill_test.cpp kills it after every single instruction.
//
// One rule carries the rest: no word is ever plainly stored; every change is one compare-and-swap on
// the exact word that was read. A word of another generation, holder or state makes the swap fail,
// so whoever comes too late changes nothing.
//
// A slot, generation g:
//
//      free(g) --take--> filling(g) --submit--> running(g)
//        ^                   |                      |
//        |                   +------ close ---------+
//        |                               |
//   free(g+1) <-- last task swept -- closing(g)
//
//   retired: the epoch retires or is over; never taken again.
//
// A task in that slot:
//
//      waiting(g) --claim--> claimed(g, L) --commit--> done(g, L)
//        ^   ^                  |      |
//        |   +--- L is dead ----+      +--- commit, or L dead twice --> failed(g, L)
//        |
//   waiting(g+1) <-- close sweeps every word of g that is not claimed
//
//   Claim.    A task may be claimed iff its word is waiting(g) and every producer's word is done(g) or
//             failed(g); one that reads the client's tensors needs the slot in running(g) as well.
//             `Runnable` is no state: the claimer checks, then swaps.
//   Commit.   Payload and headers are written, then the word is swapped to done (release; claimers
//             acquire). This is the one step that counts; hint and bell after it only save time.
//   Failure.  Travels as data: a task with a failed input commits `failed` and writes nothing.
//   Death.    Once the kernel confirms that L is dead, the supervisor swaps the words claimed by L
//             back to waiting, with one attempt more; at the second, to failed. Then it sets the hints
//             of everything that can run and rings, since L may have died before doing so.
//   Close.    Answered, cancelled or orphaned, it is one operation: the slot to closing(g), every word
//             of g that is not claimed to waiting(g+1), wait for the claimed ones, and last the slot
//             to free(g+1). Whoever finds `closing` may do or repeat any of it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/plan.hpp"
#include "ipc/board.hpp"
#include "ipc/futex.hpp"

namespace opsplit::ipc {

inline constexpr std::uint8_t max_attempts = 2;  // deaths on one request before its task is failed

// A task that its holder, and nobody else, may now run.
struct Claim {
  std::uint32_t slot = 0;
  std::uint32_t task = 0;
  std::uint32_t generation = 0;
  std::uint8_t attempts = 0;
  bool input_failed = false;  // to be committed as failed, without running

  friend bool operator==(const Claim&, const Claim&) = default;
};

// A slot that a client holds.
struct SlotHold {
  std::uint32_t slot = 0;
  std::uint32_t generation = 0;
};

// Stateless but for tables made from the plan: thread safe, one per process is enough. The board,
// the plan and the futex must outlive it.
class Handover {
 public:
  Handover(const Board& board, const Plan& plan, Futex& futex);

  // Operators.

  // The oldest request's first task that hints say `op` may run and that could be claimed.
  std::optional<Claim> find_work(std::uint32_t op, LaunchNumber launch);
  // The same by looking at the words alone, for whoever waited long enough to doubt the hints.
  std::optional<Claim> sweep(std::uint32_t op, LaunchNumber launch);
  [[nodiscard]] bool has_hints(std::uint32_t op) const;
  // Whether there is a task of `op` that could be claimed, by the words alone.
  [[nodiscard]] bool has_runnable(std::uint32_t op) const;
  // Commits and lets the consumers know. Headers and payload must have been written. False: the word
  // was no longer ours, which a living holder never sees unless somebody broke the rules.
  bool commit(const Claim& claim, LaunchNumber launch, TaskState outcome);
  // When the claimed task became runnable, as those whose commits or submit made it so have written;
  // 0 if they took no times.
  [[nodiscard]] std::uint64_t runnable_since_ns(const Claim& claim) const;
  // Wakes one sleeping instance of each operator that reads this task's outputs, without work, so
  // that it is awake when the commit comes.
  void ring_ahead(std::uint32_t task);

  // Clients.

  // The lowest free slot, now in `filling`; nullopt if none is free. Advances closings that it meets.
  std::optional<SlotHold> take_slot(LaunchNumber launch);
  // From filling to running. Payload and headers of the graph's inputs must have been written.
  bool submit(SlotHold hold, LaunchNumber launch);
  // Every task that feeds the client is done or failed.
  [[nodiscard]] bool finished(SlotHold hold) const;
  // After finished(): the task that failed first on the way to a failed output; nullopt if all is
  // well. Its TaskRecord::failure says why.
  [[nodiscard]] std::optional<std::uint32_t> failed_task(SlotHold hold) const;
  // After finished(), if nothing failed: from the submit to the last commit that feeds the client.
  [[nodiscard]] std::uint64_t duration_ns(SlotHold hold) const;
  // Starts the close and goes on with it as far as it can. True if the slot is free already.
  bool close(SlotHold hold, LaunchNumber launch);

  // Anyone.

  // Goes on with the close of a slot, if it is closing. True if it is closing no longer.
  bool advance_closing(std::uint32_t slot);

  // The supervisor, about a participant that the kernel confirmed dead; may be repeated.

  struct GivenBack {
    std::uint32_t tasks = 0;     // can run again
    std::uint32_t poisoned = 0;  // failed, since they had a second death
    std::uint32_t slots = 0;     // of a client, closed or closing
  };
  // `last_words` goes to the requests that fail by this death.
  GivenBack give_back(LaunchNumber dead, std::string_view last_words);
  // Sets the hints of everything that can run, and wakes every sleeper.
  void hint_everything();
  // The epoch is in this state from now on, unless it is further already. If no more slots are taken
  // then, free ones are retired, and whoever waits looks.
  void enter(EpochState state);
  [[nodiscard]] EpochState epoch_state() const;
  // Slots in running or filling or closing.
  [[nodiscard]] std::uint32_t slots_in_use() const;
  // Nobody holds a slot, and nobody will.
  [[nodiscard]] bool all_retired() const;
  // Requests that have been sent and neither answered nor closed to the end.
  [[nodiscard]] std::uint32_t requests_under_way() const;

  [[nodiscard]] const Plan& plan() const { return plan_; }
  [[nodiscard]] const Board& board() const { return board_; }
  [[nodiscard]] Futex& futex() const { return futex_; }

  // Writes why a task fails; to be followed by commit(failed).
  void write_failure(const Claim& claim, std::string_view text);
  // Copied out and made printable.
  [[nodiscard]] std::string failure(std::uint32_t slot, std::uint32_t task) const;

 private:
  // What a hop needs to know of a task, in one cache line: operators that share a core find their
  // caches cold at every hop, and the plan's own lists are all over the heap. A validated plan has
  // no more than 16384 of anything.
  using Index = std::uint16_t;
  using Indices = std::span<const Index>;
  struct alignas(64) Route {
    Index op;
    Index in_operator;  // which of the operator's tasks: its hint
    bool by_client;     // reads the client's tensors, or has no producers: submit makes it runnable
    bool feeds_client;
    // Its four lists follow each other; where each ends.
    Index producers_end, consumers_end, read_end, written_end;
    std::uint32_t elsewhere;  // in long_lists_, if `lists` is too short
    std::array<Index, 22> lists;
  };
  static_assert(sizeof(Route) == 64);
  struct Hints {
    std::span<std::atomic<std::uint64_t>> words;  // of all slots
    std::uint32_t words_per_slot;
    std::span<const std::int32_t> tasks;  // of the operator
  };
  [[nodiscard]] Indices list(const Route& route, Index begin, Index end) const {
    const Index* lists = route.written_end <= route.lists.size()
                             ? route.lists.data()
                             : long_lists_.data() + route.elsewhere;
    return {lists + begin, lists + end};
  }
  [[nodiscard]] Indices producers(const Route& route) const {
    return list(route, 0, route.producers_end);
  }
  [[nodiscard]] Indices consumers(const Route& route) const {
    return list(route, route.producers_end, route.consumers_end);
  }
  // Tensors whose headers it reads, and writes.
  [[nodiscard]] Indices read(const Route& route) const {
    return list(route, route.consumers_end, route.read_end);
  }
  [[nodiscard]] Indices written(const Route& route) const {
    return list(route, route.read_end, route.written_end);
  }

  enum class Readiness { no, yes, input_failed };
  [[nodiscard]] Readiness readiness(std::uint32_t slot, std::uint32_t task,
                                    std::uint32_t generation) const;
  void add_route(const PlannedTask& planned, Route& route);
  void prefetch(std::uint32_t slot, std::uint32_t task) const;
  std::optional<Claim> claim(std::uint32_t slot, std::uint32_t task, LaunchNumber launch);
  void hint(std::uint32_t slot, std::uint32_t task);  // and rings
  void announce(std::uint32_t slot, std::uint32_t task, std::uint32_t generation);
  void ring_client(std::uint32_t slot, std::uint32_t generation);

  const Board& board_;
  const Plan& plan_;
  Futex& futex_;
  std::vector<Route> routes_;  // of each task
  std::vector<Index> long_lists_;
  std::vector<Hints> hints_;                                    // of each operator
  std::vector<std::uint32_t> client_fed_tasks_;                 // read the graph's inputs
  std::vector<std::uint32_t> client_feeding_tasks_;             // write the graph's outputs
  std::vector<std::vector<std::uint32_t>> consumer_operators_;  // of each task, each once
};

}  // namespace opsplit::ipc
