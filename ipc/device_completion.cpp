#include "ipc/device_completion.hpp"

#include <sys/prctl.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <utility>

namespace opsplit::ipc {
namespace {

// Between two looks: a tenth of the time that has been waited, within these. A task is thus found done late
// by a tenth of its duration at the most, or by the time that a core takes to wake.
constexpr std::uint64_t shortest_pause_ns = 20'000;
constexpr std::uint64_t longest_pause_ns = 1'000'000;

// The kernel may wake a thread later than it asked for, by its timer slack: 50 us unless somebody has changed it,
// more than the shortest pauses. As long as this lives it is a tenth of the shortest one at the most; other sleeps
// of the thread are in no such hurry.
class PunctualPauses {
 public:
  PunctualPauses() : before_(::prctl(PR_GET_TIMERSLACK)) {
    if (is_late()) ::prctl(PR_SET_TIMERSLACK, slack_ns);
  }
  PunctualPauses(const PunctualPauses&) = delete;
  PunctualPauses& operator=(const PunctualPauses&) = delete;
  ~PunctualPauses() {
    if (is_late()) ::prctl(PR_SET_TIMERSLACK, static_cast<unsigned long>(before_));
  }

 private:
  static constexpr unsigned long slack_ns = shortest_pause_ns / 10;
  // Threads under real-time scheduling have none, where it is 0 and setting it means another thing.
  [[nodiscard]] bool is_late() const { return before_ > static_cast<int>(slack_ns); }

  const int before_;
};

}  // namespace

Result<DeviceCompletion> DeviceCompletion::create(DeviceDriver& driver, Futex& futex,
                                                  DeviceStream stream) {
  OPSPLIT_TRY(const DeviceEvent event, driver.create_event());
  return DeviceCompletion(driver, futex, stream, event);
}

DeviceCompletion::DeviceCompletion(DeviceCompletion&& other) noexcept
    : driver_(std::exchange(other.driver_, nullptr)),
      futex_(other.futex_),
      stream_(other.stream_),
      event_(other.event_),
      state_(other.state_) {}

DeviceCompletion::~DeviceCompletion() {
  if (driver_ != nullptr) static_cast<void>(driver_->destroy_event(event_));
}

Result<> DeviceCompletion::failed(Error error) {
  state_ = State::failed;
  return tl::unexpected(std::move(error));
}

Result<> DeviceCompletion::launched() {
  if (state_ != State::idle)
    return failed({ErrorCode::system, "launched() before the last task was waited for"});
  if (auto launch = driver_->last_error(); !launch) return failed(std::move(launch).error());
  if (auto recorded = driver_->record(event_, stream_); !recorded)
    return failed(std::move(recorded).error());
  state_ = State::launched;
  return {};
}

Result<> DeviceCompletion::wait(std::uint64_t spin_ns, std::uint64_t deadline_ns) {
  if (state_ != State::launched)
    return failed({ErrorCode::system, "wait() for what was not launched"});
  std::atomic<std::uint32_t> nobody_wakes = 0;
  std::optional<PunctualPauses> punctual;  // once it pauses
  const std::uint64_t begun = futex_.now_ns();
  for (std::uint64_t now = begun;; now = futex_.now_ns()) {
    const auto complete = driver_->query(event_);
    if (!complete) return failed(complete.error());
    if (*complete) {
      state_ = State::idle;
      return {};
    }
    if (now >= deadline_ns)
      return failed({ErrorCode::timed_out,
                     fmt::format("{}: a task is not done after {} ms on the device",
                                 to_string(driver_->uuid()), (now - begun) / 1'000'000)});
    if (now - begun < spin_ns) {
      spin_pause();
      continue;
    }
    if (!punctual) punctual.emplace();
    const std::uint64_t pause = std::clamp((now - begun) / 10, shortest_pause_ns, longest_pause_ns);
    futex_.wait(nobody_wakes, 0, std::min(deadline_ns, now + pause));
  }
}

}  // namespace opsplit::ipc
