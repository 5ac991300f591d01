#include "daemon/pings.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

namespace opsplit::daemon {
namespace {

using namespace std::chrono_literals;

constexpr auto poll_period = 2ms;  // until it listens
constexpr auto pause_after_refusal = 20ms;
constexpr auto time_between_questions = 250ms;  // whether it is alive
constexpr auto time_to_answer = 1s;

std::optional<ipc::MessageSocket> ask(const std::filesystem::path& path) {
  auto socket = ipc::MessageSocket::connect(path, Clock::now());
  if (!socket || !socket->queue({{"op", "ping"}}) || !socket->flush()) return std::nullopt;
  return std::move(*socket);
}

}  // namespace

TimeToAnswer::TimeToAnswer(pid_t pid, std::chrono::nanoseconds time)
    : pid_(pid), left_(time), since_(Clock::now()), before_(cpu_time_of(pid).value_or(CpuTime{})) {}

bool TimeToAnswer::is_over() {
  const Deadline now = Clock::now();
  const CpuTime cpu_time = cpu_time_of(pid_).value_or(before_);
  const auto passed = std::min(std::chrono::nanoseconds(now - since_), left_);
  left_ -= std::chrono::nanoseconds(
      usable_ns(static_cast<std::uint64_t>(passed.count()), before_, cpu_time));
  since_ = now;
  before_ = cpu_time;
  return left_.count() <= 0;
}

void Pings::until_answered(Deadline deadline, Accept accept, std::function<void()> too_late) {
  deadline_ = deadline;
  accept_ = std::move(accept);
  too_late_ = std::move(too_late);
  ask_whether_ready();
}

void Pings::keep_asking(pid_t pid, Accept accept, std::function<void()> lost) {
  pid_ = pid;
  accept_ = std::move(accept);
  lost_ = std::move(lost);
  is_alive();
}

void Pings::stop() {
  hang_up();
  timer_.cancel();
}

void Pings::hang_up() {
  answers_.reset();
  asked_.reset();
}

void Pings::is_lost() {
  stop();
  const auto lost = lost_;
  lost();
}

void Pings::is_too_late() {
  stop();
  const auto too_late = too_late_;
  too_late();
}

// It answers as soon as it is ready; nobody waits for that but the event loop.
void Pings::ask_whether_ready() {
  hang_up();
  if (Clock::now() > deadline_) return is_too_late();
  asked_ = ask(socket_);
  if (!asked_) return timer_.at(Clock::now() + poll_period, [this] { ask_whether_ready(); });
  answers_ = Watch(io_, asked_->fd(), Watch::readable, [this] { hear_whether_ready(); });
  timer_.at(deadline_, [this] { is_too_late(); });
}

void Pings::hear_whether_ready() {
  const auto answer = asked_->try_receive();
  if (answer && !*answer) return;  // not all of it is here
  const ipc::PeerCredentials peer = asked_->peer();
  stop();
  const auto accept = accept_;  // which may ask for something else
  if (answer && accept(peer, **answer)) return;
  timer_.at(Clock::now() + pause_after_refusal, [this] { ask_whether_ready(); });
}

void Pings::is_alive() {
  hang_up();
  timer_.at(Clock::now() + time_between_questions, [this] { ask_whether_alive(); });
}

void Pings::ask_whether_alive() {
  asked_ = ask(socket_);
  if (asked_)
    answers_ = Watch(io_, asked_->fd(), Watch::readable, [this] { hear_whether_alive(); });
  time_.emplace(pid_, time_to_answer);
  wait_for_sign_of_life();
}

// Whether there was something to hear.
bool Pings::hear_whether_alive() {
  const auto answer = asked_->try_receive();
  if (answer && !*answer) return false;  // not all of it is here
  if (answer && !accept_(asked_->peer(), **answer)) {
    is_lost();
  } else {
    is_alive();  // who hung up may have ended, which is seen elsewhere
  }
  return true;
}

void Pings::wait_for_sign_of_life() {
  timer_.at(time_->end(), [this] {
    // We may have been stopped as well, and its answer be there.
    if (asked_ && hear_whether_alive()) return;
    if (!time_->is_over()) return wait_for_sign_of_life();
    is_lost();
  });
}

}  // namespace opsplit::daemon
