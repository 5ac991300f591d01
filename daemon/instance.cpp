#include "daemon/instance.hpp"

#include <algorithm>

namespace opsplit::daemon {

void Instance::told_to_stop() {
  const bool has_process = state_ == State::starting || state_ == State::standby ||
                           state_ == State::ready || state_ == State::hung ||
                           state_ == State::stopping;
  state_ = has_process ? State::stopping : State::gone;
}

void Instance::left() {
  if (state_ == State::stopping || state_ == State::gone) {
    state_ = State::gone;
    return;
  }
  state_ = State::awaited;
  ++restarts_;
}

std::optional<Deadline> Instance::died(Deadline now) {
  if (state_ == State::stopping || state_ == State::gone) {
    state_ = State::gone;
    return std::nullopt;
  }
  deaths_.push_back(now);
  while (deaths_.front() + policy_.window < now) deaths_.pop_front();
  const auto deaths = static_cast<int>(deaths_.size());
  if (deaths >= policy_.max_deaths) {
    state_ = State::failed;
    return std::nullopt;
  }
  state_ = State::backing_off;
  ++restarts_;
  if (deaths == 1) return now;
  // Shift by at most 10, whatever the policy allows.
  return now + policy_.first_pause * (1 << std::min(deaths - 2, 10));
}

std::string_view to_string(Instance::State state) {
  switch (state) {
    case Instance::State::awaited:
      return "awaited";
    case Instance::State::starting:
      return "starting";
    case Instance::State::standby:
      return "standby";
    case Instance::State::ready:
      return "ready";
    case Instance::State::hung:
      return "hung";
    case Instance::State::backing_off:
      return "backing off";
    case Instance::State::failed:
      return "failed";
    case Instance::State::stopping:
      return "stopping";
    case Instance::State::gone:
      return "gone";
  }
  return "unknown";
}

}  // namespace opsplit::daemon
