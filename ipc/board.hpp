// The board: the shared words that say, for each task and slot, what is waiting, claimed, done.
// This header is the specification of the layout; ipc/handover.hpp is that of the protocol.
//
//   offset 0     BoardHeader                                  written once, before the board has its name
//                CpuRecord     [cpu_records]                  of CPU number n: n % cpu_records
//                SlotRecord    [depth]
//                Doorbell      [operators]
//                hints         [operator][slot][words]        words = tasks of the operator / 64
//                TaskRecord    [slot][task]
//                SharedHeader  [slot][tensor]
//                Participant   [participants]                 record of launch number L: L % participants
//                Durations     [participants]                 likewise
//
// Each array starts on a cache line of its own, and so does each operator's part of the hints.
// Nobody reads the sizes from the board: every party computes them from its own copy of the plan
// and refuses a board whose header says otherwise.
//
// Who may write what:
//   SlotRecord.word, TaskRecord.word   whoever the protocol allows, by compare-and-swap only
//   the rest of a SlotRecord           the client that holds the slot in `filling`
//   the rest of a TaskRecord, and the headers of the task's outputs
//                                      the holder of the claim; once it is dead, the supervisor
//   headers of the graph's inputs      the client that holds the slot in `filling`
//   hints, doorbells, CpuRecord, beds  anyone: they save time, nothing depends on them
//   Participant, Durations             identity, role, mode, cores_version: the supervisor; the
//                                      counters, and which cores it runs on: the participant itself
//
// Counters are by launch number and not by operator and seat, of which there may be 64 x 1000: nobody
// writes where a predecessor may still be read, and the supervisor adds up what each life of an
// instance has counted. They only grow while the launch number is in use.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "base/plan.hpp"
#include "ipc/histogram.hpp"
#include "ipc/tensor_header.hpp"

namespace opsplit::ipc {

static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

// Never used again within an epoch; 0 is nobody. 24 bits.
using LaunchNumber = std::uint32_t;
inline constexpr LaunchNumber max_launch_number = (1u << 24) - 1;

enum class TaskState : std::uint8_t { waiting = 0, claimed = 1, done = 2, failed = 3 };

//  bits   63-32 generation | 31-28 state | 27-24 attempts | 23-0 holder
struct TaskWord {
  std::uint32_t generation = 0;
  TaskState state = TaskState::waiting;
  std::uint8_t attempts = 0;  // deaths of a holder on this request; raised by the supervisor only
  LaunchNumber holder = 0;    // kept in `done`

  [[nodiscard]] constexpr std::uint64_t pack() const {
    return std::uint64_t{generation} << 32 | std::uint64_t{static_cast<std::uint8_t>(state)} << 28 |
           std::uint64_t{attempts} << 24 | holder;
  }
  static constexpr TaskWord unpack(std::uint64_t word) {
    return {static_cast<std::uint32_t>(word >> 32), static_cast<TaskState>(word >> 28 & 15),
            static_cast<std::uint8_t>(word >> 24 & 15),
            static_cast<LaunchNumber>(word & max_launch_number)};
  }
  [[nodiscard]] constexpr bool finished(std::uint32_t in_generation) const {
    return generation == in_generation && (state == TaskState::done || state == TaskState::failed);
  }
};

enum class SlotState : std::uint8_t {
  free = 0,
  filling = 1,
  running = 2,
  closing = 3,
  retired = 4
};

//  bits   63-32 generation | 31-28 state | 27-24 zero | 23-0 holder: the client's launch number
struct SlotWord {
  std::uint32_t generation = 0;
  SlotState state = SlotState::free;
  LaunchNumber holder = 0;

  [[nodiscard]] constexpr std::uint64_t pack() const {
    return std::uint64_t{generation} << 32 | std::uint64_t{static_cast<std::uint8_t>(state)} << 28 |
           holder;
  }
  static constexpr SlotWord unpack(std::uint64_t word) {
    return {static_cast<std::uint32_t>(word >> 32), static_cast<SlotState>(word >> 28 & 15),
            static_cast<LaunchNumber>(word & max_launch_number)};
  }
};

enum class EpochState : std::uint32_t {
  running,
  followed,  // the same; but the next epoch is being made, and takes its place
  retiring,  // the next epoch takes the new requests: no slot is taken here, and what is under way is
             // answered
  over,      // nothing more will be answered, here or elsewhere
  left,      // nothing more will be answered here, but in the next epoch
  drained,  // the same, and nothing was under way any more: nobody will read the arena
};

struct alignas(64) BoardHeader {
  static constexpr std::uint64_t expected_magic = 0x31647261'6f625350;  // "PSboard1"
  static constexpr std::uint32_t expected_version = 7;

  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t depth;
  std::uint64_t total_bytes;
  std::uint64_t plan_digest;
  std::uint64_t epoch;
  std::uint32_t participants;
  std::atomic<std::uint32_t> last_launch;  // number that was given away last; the supervisor's
  alignas(64) std::atomic<std::uint64_t> next_ticket;
  alignas(64) std::atomic<std::uint32_t> slots_freed;  // futex: bumped when a slot becomes free
  std::atomic<std::uint32_t> slot_waiters;             // clients that sleep on slots_freed
  alignas(64) std::atomic<std::uint32_t> epoch_state;  // an EpochState; only ever grows
};
static_assert(sizeof(BoardHeader) == 256);

// Who is awake on a CPU: ipc/awake.hpp.
struct alignas(64) CpuRecord {
  std::atomic<std::uint64_t> awake;  // bit: somebody
};
inline constexpr std::uint32_t cpu_records = 256;

// Where a sleeper lies.
struct Bed {
  std::atomic<std::uint64_t> bit;  // of its CPU's record; 0: nobody sleeps here
  std::atomic<std::uint32_t> cpu;
};

struct alignas(64) SlotRecord {
  std::atomic<std::uint64_t> word;
  std::atomic<std::uint64_t> ticket;        // requests are served in the order of their tickets
  std::atomic<std::uint64_t> submitted_ns;  // CLOCK_MONOTONIC
  Bed bed;                                  // of a client that waits for the answer
};
static_assert(sizeof(SlotRecord) == 64);

struct alignas(128) TaskRecord {
  std::atomic<std::uint64_t> word;
  std::atomic<std::uint64_t> started_ns;  // CLOCK_MONOTONIC, of the claim that finished it
  std::atomic<std::uint64_t> finished_ns;
  std::atomic<std::uint64_t> bytes_copied;
  std::array<char, 224> failure;  // why it failed, in words; cut off at the end, not terminated
};
static_assert(sizeof(TaskRecord) == 256);

inline constexpr std::uint32_t seats_per_operator = 64;

// One per operator. A sleeper announces itself in `sleepers` and waits on the word of its seat.
struct alignas(64) Doorbell {
  std::atomic<std::uint64_t> sleepers;  // bit: seat
  alignas(64) std::array<std::atomic<std::uint32_t>, seats_per_operator> seats;
  std::array<Bed, seats_per_operator> beds;
};
static_assert(sizeof(Doorbell) == 1344);

enum class Mode : std::uint32_t { loading = 0, active = 1, standby = 2, draining = 3 };

// An instance of an operator, a client, or the supervisor. Its identity is on the board before its
// first claim, and all that the next opsplitd has to know of it.
//
// cores_version says which assignment of cores is in force; 0 is the one that the process attached
// with. When it changes, the instance asks opsplitd for the new one, and goes on with its tasks
// meanwhile; cores_followed is the last version that it follows in all: with its affinity, its
// spinning, and as many threads as it says in `threads`.
struct alignas(64) Participant {
  std::atomic<std::uint64_t> launch;  // 0: the record is free
  std::atomic<std::uint64_t> pid;
  std::atomic<std::uint64_t> start_time;  // of the process, as in /proc/PID/stat
  std::atomic<std::uint64_t> boot_id;     // digest of the machine's boot id
  std::atomic<std::uint32_t> mode;        // Mode; set by the supervisor
  std::atomic<std::uint32_t> seat;
  std::atomic<std::uint32_t> bell;          // futex of a client: bumped when an answer may be there
  std::atomic<std::uint32_t> bell_waiters;  // its threads that sleep there
  std::atomic<std::uint32_t> cores_version;
  std::atomic<std::uint32_t> op;                      // of an instance; else one of the two below
  alignas(64) std::atomic<std::uint64_t> tasks_done;  // of a client: requests answered
  std::atomic<std::uint64_t> busy_ns;                 // sum of Durations::run
  std::atomic<std::uint64_t> bytes_copied;
  std::atomic<std::uint64_t> wait_ns;  // sum of Durations::wait
  std::atomic<std::uint32_t> cores_followed;
  std::atomic<std::uint32_t> threads;  // 0: not said yet
};
static_assert(sizeof(Participant) == 128);
inline constexpr std::uint32_t no_operator_client = 0xffff'ffff;
inline constexpr std::uint32_t no_operator_supervisor = 0xffff'fffe;
// Beside `mode`, which every claim reads.
static_assert(offsetof(Participant, mode) == 32 && offsetof(Participant, cores_version) == 48);
static_assert(offsetof(Participant, tasks_done) == 64);
static_assert(offsetof(Participant, cores_followed) == 96);

// Only where WorkerOptions::measure is on. Tasks with a failed input are not run, and not in here.
struct Durations {
  // From claim to commit. Of a client: from the submit of an answered request to the last commit
  // that feeds the answer.
  SharedHistogram run;
  // Until the claim, from the last commit that made the task runnable; where it reads nothing but the
  // client's tensors, from the submit. A task whose holder died waited for that, too.
  SharedHistogram wait;
};
static_assert(sizeof(Durations) == 2048);

// Where things lie, computed from the plan.
struct BoardLayout {
  static Result<BoardLayout> of(const Plan& plan, std::uint32_t depth, std::uint32_t participants);

  std::uint32_t depth = 0;
  std::uint32_t tasks = 0;
  std::uint32_t tensors = 0;
  std::uint32_t operators = 0;
  std::uint32_t participants = 0;
  std::uint64_t plan_digest = 0;
  std::uint64_t cpus = 0, slots = 0, doorbells = 0, task_records = 0, headers = 0,
                participant_records = 0, durations = 0;
  std::vector<std::uint64_t> hints;       // offset, per operator
  std::vector<std::uint32_t> hint_words;  // per operator and slot
  std::uint64_t total_bytes = 0;
};

inline constexpr std::uint32_t max_depth = 64;
inline constexpr std::uint32_t default_participants = 512;

// A mapping of the board. The pages live in /dev/shm until remove(); the mapping as long as this
// object. Not inherited by a forked child. All accessors are thread safe: they only compute.
class Board {
 public:
  // Makes and initialises a board under a temporary name, then gives it its own: nobody ever sees
  // one that is half done. Errors: it exists, or /dev/shm lacks the room (bytes needed and found).
  static Result<Board> create(const std::string& name, const BoardLayout& layout,
                              std::uint64_t epoch);
  // Errors: not there, or made for another version, plan, depth or size.
  static Result<Board> open(const std::string& name, const BoardLayout& layout,
                            std::uint64_t epoch);
  static void remove(const std::string& name);

  Board(Board&&) noexcept;
  Board& operator=(Board&&) noexcept;
  ~Board();

  [[nodiscard]] const BoardLayout& layout() const { return layout_; }
  [[nodiscard]] BoardHeader& header() const { return *at<BoardHeader>(0); }
  [[nodiscard]] CpuRecord& cpu(std::uint32_t number) const {
    return at<CpuRecord>(layout_.cpus)[number % cpu_records];
  }
  [[nodiscard]] SlotRecord& slot(std::uint32_t slot) const {
    return at<SlotRecord>(layout_.slots)[slot];
  }
  [[nodiscard]] Doorbell& doorbell(std::uint32_t op) const {
    return at<Doorbell>(layout_.doorbells)[op];
  }
  // All hints of an operator: depth x hint_words[op] words, slot by slot.
  [[nodiscard]] std::span<std::atomic<std::uint64_t>> hints(std::uint32_t op) const {
    return {at<std::atomic<std::uint64_t>>(layout_.hints[op]),
            std::size_t{layout_.depth} * layout_.hint_words[op]};
  }
  [[nodiscard]] TaskRecord& task(std::uint32_t slot, std::uint32_t task) const {
    return at<TaskRecord>(layout_.task_records)[std::size_t{slot} * layout_.tasks + task];
  }
  [[nodiscard]] SharedHeader& tensor_header(std::uint32_t slot, std::uint32_t tensor) const {
    return at<SharedHeader>(layout_.headers)[std::size_t{slot} * layout_.tensors + tensor];
  }
  [[nodiscard]] Participant& participant(LaunchNumber launch) const {
    return at<Participant>(layout_.participant_records)[launch % layout_.participants];
  }
  [[nodiscard]] Durations& durations(LaunchNumber launch) const {
    return at<Durations>(layout_.durations)[launch % layout_.participants];
  }

 private:
  struct Mapping;
  Board(std::unique_ptr<Mapping> mapping, BoardLayout layout);

  template <class T>
  [[nodiscard]] T* at(std::uint64_t offset) const {
    return reinterpret_cast<T*>(base_ + offset);
  }

  std::unique_ptr<Mapping> mapping_;
  BoardLayout layout_;
  std::byte* base_ = nullptr;
};

}  // namespace opsplit::ipc
