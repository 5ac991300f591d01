// The life of an instance, as its supervisor sees it.
//
//   awaited --attaches--> starting           (one that somebody else starts; its death leads back)
//
//   starting --ready--> ready --death--> backing off --time--> starting
//      | |  \           /  |  \               ^
//      | |   standby --+   |   hung ----------+
//      | |     |           |                  |
//      | +-----+-----------+------death-------+
//      |
//      +--death or too slow, too often--> failed          (so do standby, ready and hung)
//
//   awaited     Nobody has attached as this instance, or who had is dead.
//   starting    Launched, or attached; loads its part. It has a launch number but claims nothing. A process that is
//               not ready in time is killed, which ends in a death like any other.
//   standby     Has loaded its part, and claims nothing until another instance of its operator has died: then it
//               takes that one's place, and whoever is ready next is the standby.
//   ready       Claims tasks.
//   hung        Has made no progress for too long (daemon/progress.hpp), and was killed; its claims are given back once
//               the kernel confirms its death, never before.
//   backing off Dead, and its claims given back; launched again, under a new launch number: the first
//               time at once, then after a pause that doubles with each death in the window.
//   failed      Died `max_deaths` times within the window. Its operator's requests are refused by
//               name until the deployment is stopped.
//   stopping    Told to end (SIGTERM, then SIGKILL after a grace period); its death is expected.
//   gone        Dead after stopping.
//
// Any state but failed and gone goes to stopping; every death is confirmed by the kernel (pidfd).
#pragma once

#include <chrono>
#include <deque>
#include <optional>
#include <string>
#include <string_view>

#include "base/system.hpp"

namespace opsplit::daemon {

struct RestartPolicy {
  int max_deaths = 5;
  std::chrono::milliseconds window{10'000};
  std::chrono::milliseconds first_pause{
      20};  // after the second death in the window; doubles with each
};

// Pure: it is told what happened and when, and says what is to be done. Not thread safe.
class Instance {
 public:
  enum class State { awaited, starting, standby, ready, hung, backing_off, failed, stopping, gone };

  explicit Instance(RestartPolicy policy) : policy_(policy) {}

  void awaited() { state_ = State::awaited; }
  void launched() { state_ = State::starting; }
  void became_ready() { state_ = State::ready; }  // from starting, or standby
  void stands_by() { state_ = State::standby; }
  void hangs() { state_ = State::hung; }
  void told_to_stop();
  // Dead, and somebody else's to start again.
  void left();
  // What follows: a time to launch it again, or nothing (failed, gone).
  std::optional<Deadline> died(Deadline now);

  [[nodiscard]] State state() const { return state_; }
  [[nodiscard]] int restarts() const { return restarts_; }

 private:
  RestartPolicy policy_;
  State state_ = State::starting;
  std::deque<Deadline> deaths_;  // within the window
  int restarts_ = 0;
};

std::string_view to_string(Instance::State state);

}  // namespace opsplit::daemon
