// What an event loop of one thread calls back for: file descriptors and times. A callback may destroy
// the object that it belongs to; after that it is not called again.
#pragma once

#include <fcntl.h>
#include <poll.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <utility>

#include "base/system.hpp"

namespace opsplit::daemon {

// Each time a file descriptor becomes readable or writable. Works on a duplicate: the descriptor
// stays its owner's, and may be watched more than once.
class Watch {
 public:
  using Descriptor = boost::asio::posix::stream_descriptor;
  static constexpr auto readable = Descriptor::wait_read;
  static constexpr auto writable = Descriptor::wait_write;

  Watch() = default;
  Watch(boost::asio::io_context& io, int fd, Descriptor::wait_type type,
        std::function<void()> callback)
      : state_(std::make_shared<State>(
            State{Descriptor(io, fcntl(fd, F_DUPFD_CLOEXEC, 0)), type, std::move(callback)})) {
    arm(state_);
  }
  Watch(Watch&&) noexcept = default;
  Watch& operator=(Watch&& other) noexcept {
    reset();
    state_ = std::move(other.state_);
    return *this;
  }
  ~Watch() { reset(); }

  void reset() {
    if (!state_) return;
    state_->descriptor.close();  // cancels what is pending
    state_->callback = nullptr;
    state_.reset();
  }

 private:
  struct State {
    Descriptor descriptor;
    Descriptor::wait_type type;
    std::function<void()> callback;
  };

  // Also after a callback that threw.
  struct Rearm {
    const std::shared_ptr<State>& state;
    ~Rearm() {
      if (state->callback) arm(state);
    }
  };

  static void arm(const std::shared_ptr<State>& state) {
    state->descriptor.async_wait(state->type, [state](const boost::system::error_code& error) {
      if (error || !state->callback) return;
      // The callback may destroy the watch, and with it itself: run a copy.
      const auto callback = state->callback;
      const Rearm rearm{state};
      if (is_ready(*state)) callback();
    });
  }

  // asio hands on the event of a descriptor that was closed meanwhile to the next that it opens.
  static bool is_ready(State& state) {
    pollfd wait{state.descriptor.native_handle(),
                static_cast<short>(state.type == readable ? POLLIN : POLLOUT), 0};
    return ::poll(&wait, 1, 0) > 0;
  }

  std::shared_ptr<State> state_;
};

// Once, at a time; starting it again forgets the time before.
class Timer {
 public:
  explicit Timer(boost::asio::io_context& io) : timer_(io) {}
  Timer(Timer&&) noexcept = default;
  Timer& operator=(Timer&&) noexcept = default;
  ~Timer() { cancel(); }

  void at(Deadline when, std::function<void()> callback) {
    cancel();
    pending_ = std::make_shared<std::function<void()>>(std::move(callback));
    timer_.expires_at(when);
    timer_.async_wait([pending = pending_](const boost::system::error_code& error) {
      // A handler can be queued already when its timer is cancelled: the callback is gone then.
      if (error || !*pending) return;
      const auto call = std::exchange(*pending, nullptr);
      call();
    });
  }
  void cancel() {
    if (pending_) *pending_ = nullptr;
    pending_.reset();
    timer_.cancel();
  }

 private:
  boost::asio::steady_timer timer_;
  std::shared_ptr<std::function<void()>> pending_;
};

}  // namespace opsplit::daemon
