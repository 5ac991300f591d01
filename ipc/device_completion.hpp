// When a task that was put on a stream is done. Launching returns long before that, and a commit must not.
//
//   idle --launched()--> launched --wait(): the event is complete--> idle
//   launched --an error of the device, or the deadline--> failed
//
// Between launched() and the end of wait() the claim is held, and the places that the task writes belong to
// the device. `failed` is for good, since nothing takes work back that a GPU has begun: the process must not
// commit, and must end, by _exit(); exit() may wait for the GPU. Its death stops the work
// (ipc/device_memory.hpp), its claim is given back, and its successor has a new context.
//
// One claim at a time, one thread.
#pragma once

#include <cstdint>

#include "base/error.hpp"
#include "ipc/device_driver.hpp"
#include "ipc/futex.hpp"

namespace opsplit::ipc {

class DeviceCompletion {
 public:
  enum class State { idle, launched, failed };

  // Of what is put on this stream. All three must outlive it.
  static Result<DeviceCompletion> create(DeviceDriver& driver, Futex& futex, DeviceStream stream);
  DeviceCompletion(DeviceCompletion&& other) noexcept;
  DeviceCompletion& operator=(DeviceCompletion&&) = delete;
  ~DeviceCompletion();

  // The last of a task is on the stream. Error: a launch before it failed, or the stream does not take the
  // event; it has failed then. Precondition: idle.
  Result<> launched();
  // Returns once the device has done all of it. Looks without a pause for `spin_ns` (WorkerOptions::spin_ns:
  // 0 where others need the core), then with pauses in which the core sleeps: CUDA's own sleeping wait
  // has no end where the GPU hangs. Errors: timed_out (CLOCK_MONOTONIC has passed `deadline_ns`), system
  // (the device's); it has failed then. Precondition: launched.
  Result<> wait(std::uint64_t spin_ns, std::uint64_t deadline_ns);

  [[nodiscard]] State state() const { return state_; }

 private:
  DeviceCompletion(DeviceDriver& driver, Futex& futex, DeviceStream stream, DeviceEvent event)
      : driver_(&driver), futex_(futex), stream_(stream), event_(event) {}
  Result<> failed(Error error);

  DeviceDriver* driver_;  // null: moved from
  Futex& futex_;
  DeviceStream stream_;
  DeviceEvent event_;
  State state_ = State::idle;
};

}  // namespace opsplit::ipc
