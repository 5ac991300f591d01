// One epoch of a deployment as a process sees it that takes part in it: the plan, the board, the
// arena, and what may be done with them. opsplitd hands out an Attachment; a Session is what becomes
// of it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "base/cpu_set.hpp"
#include "base/error.hpp"
#include "base/plan.hpp"
#include "ipc/arena.hpp"
#include "ipc/board.hpp"
#include "ipc/device_driver.hpp"
#include "ipc/futex.hpp"
#include "ipc/handover.hpp"
#include "ipc/places.hpp"
#include "ipc/worker.hpp"

namespace opsplit::ipc {

// What an instance of an operator runs on. opsplitd can change it: Participant::cores_version.
struct AssignedCores {
  CpuSet cpus;
  int threads = 1;       // for its thread pool
  WorkerOptions worker;  // how it may wait there
};

// The GPU that an operator runs on.
struct AssignedGpu {
  DeviceUuid uuid;
  StreamPriority priority = StreamPriority::normal;
  std::string broker;  // the socket of the device broker that has its arena
};

// What opsplitd answers to an operator or a client that attaches.
struct Attachment {
  std::string deployment;
  std::uint64_t epoch = 0;
  std::string folder;   // of the weight store: plan.json, the parts
  std::string cache;    // where it keeps packed weights; empty: in the folder
  std::string weights;  // the folder of the parts' weights
  std::uint32_t depth = 0;
  std::uint32_t participants = 0;
  std::uint64_t arena_bytes = 0;
  LaunchNumber launch = 0;
  std::string runtime_name;  // to register with at the broker
  bool outlives = false;     // opsplitd: the next one takes over; else all of it ends with opsplitd

  // Operators only.
  std::int32_t op = -1;  // index in the plan
  std::uint32_t seat = 0;
  AssignedCores cores;
  bool warm_up = false;            // run each task once on made-up inputs before it is ready
  std::optional<AssignedGpu> gpu;  // where the plan says that it runs on one

  // Clients only.
  std::uint32_t slots_per_client = 0;
};

nlohmann::json to_json(const AssignedCores& cores);
Result<AssignedCores> assigned_cores_from_json(const nlohmann::json& json);
nlohmann::json to_json(const Attachment& attachment);
Result<Attachment> attachment_from_json(const nlohmann::json& json);

// What is under way in an epoch that retires is answered within this time, or in the next one.
inline constexpr auto longest_retirement = std::chrono::seconds(30);

std::string board_name(std::string_view deployment, std::uint64_t epoch);
std::string folder_path(std::string_view deployment, std::uint64_t epoch);

// Checked against opsplitd's answer.
Result<Plan> read_plan(const Attachment& attachment);

class MessageSocket;

// Thread safe. Stays where it is: handover and places refer to the plan and the board beside them.
class Session {
 public:
  static Result<std::unique_ptr<Session>> open(const Attachment& attachment,
                                               std::shared_ptr<Futex> futex, Deadline deadline);
  // The same, with the plan read before.
  static Result<std::unique_ptr<Session>> open(const Attachment& attachment, Plan plan,
                                               std::shared_ptr<Futex> futex, Deadline deadline);
  ~Session();

  // Keeps the connection to opsplitd as long as the session, and so tells it that we are here.
  void keep(std::unique_ptr<MessageSocket> control);
  // Whether opsplitd is still at the other end. A system call.
  [[nodiscard]] bool supervised() const;
  // Whether a process that is on the board as supervisor lives: also where the connection was to its
  // predecessor. Some system calls.
  [[nodiscard]] bool supervisor_lives() const;
  // Whether nobody answers any more: the epoch is over; or opsplitd has ended, and what does not outlive
  // it. A successor supervises the newest epoch only.
  [[nodiscard]] bool ended() const {
    return over() || ((!attachment_.outlives || is_followed()) && !supervised());
  }
  // Whether opsplitd has ended, and the deployment does not outlive it.
  [[nodiscard]] bool abandoned() const { return !attachment_.outlives && !supervised(); }

  [[nodiscard]] const Attachment& attachment() const { return attachment_; }
  [[nodiscard]] const Plan& plan() const { return plan_; }
  [[nodiscard]] const Board& board() const { return board_; }
  [[nodiscard]] Handover& handover() { return handover_; }
  [[nodiscard]] const Places& places() const { return places_; }
  [[nodiscard]] std::span<std::byte> arena() const { return arena_.bytes(); }
  [[nodiscard]] Futex& futex() const { return *futex_; }
  // Of those that wait for answers.
  [[nodiscard]] Backoff& staying_awake() { return staying_awake_; }
  // Of a client's requests.
  [[nodiscard]] std::atomic<std::uint32_t>& in_flight() { return in_flight_; }
  // Whether it takes no new requests.
  [[nodiscard]] bool retiring() const { return handover_.epoch_state() >= EpochState::retiring; }
  // Whether there is a next epoch, or will be.
  [[nodiscard]] bool is_followed() const {
    const EpochState state = handover_.epoch_state();
    return state != EpochState::running && state != EpochState::over;
  }
  [[nodiscard]] bool over() const { return handover_.epoch_state() >= EpochState::over; }

 private:
  Session(Attachment attachment, Plan plan, Board board, Arena arena, std::shared_ptr<Futex> futex);

  Attachment attachment_;
  std::shared_ptr<Futex> futex_;
  Plan plan_;
  Board board_;
  Arena arena_;
  Handover handover_;
  Places places_;
  Backoff staying_awake_;
  std::atomic<std::uint32_t> in_flight_ = 0;
  mutable std::mutex mutex_;  // guards what follows
  std::unique_ptr<MessageSocket> control_;
};

}  // namespace opsplit::ipc
