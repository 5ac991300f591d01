// A GPU in memory that forked processes share, and its driver in each of them.
//
// Processes are numbered by the test. A process dies where the test says: before or after its nth call of
// the driver (or step(), for what the test does between calls), by SIGKILL. As the kernel does it, first
// `on_death` (a lock that it holds is dropped), then the driver lets go: what it has launched stops
// half-way, what it has open is closed, what it has allocated is gone; then its end is reported.
//
// Work is not done when it is launched: the half of it is. The rest happens when the test says so, or with
// the nth query of an event behind it. Misuse that CUDA leaves undefined is noted, and is an error.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "ipc/device_driver.hpp"

namespace opsplit::test {

inline constexpr std::size_t max_fake_processes = 8;
inline constexpr std::uint32_t never = std::numeric_limits<std::uint32_t>::max();

class FakeGpu {
 public:
  struct Allocation {
    enum class State { unused, live, gone };  // gone: its owner has ended while others had it open
    State state;
    std::uint64_t bytes;
    std::uint64_t offset;  // in `memory`
    std::size_t owner;
    std::uint64_t handle;  // 0: not exported
    std::array<bool, max_fake_processes> open;
  };
  struct Process {
    std::uint32_t calls;
    std::uint32_t dies_at;  // the call, from 1; 0: lives
    bool dies_after;        // the call, rather than before it
    std::array<char, 64> died_at;
  };
  struct Shared {
    std::atomic<std::uint32_t> lock;
    std::array<Process, max_fake_processes> processes;
    std::array<Allocation, 16> allocations;
    std::array<std::byte, 1 << 16> memory;
    std::uint64_t next_offset, next_handle;
    std::uint32_t queries_until_done;
    std::uint32_t misuses;
    std::array<char, 256> first_misuse;
  };

  FakeGpu();
  ~FakeGpu();
  FakeGpu(const FakeGpu&) = delete;
  FakeGpu& operator=(const FakeGpu&) = delete;

  // As new, but for what is noted of misuse. For the time when no process uses it.
  void reset();
  // Before the process is forked: where it dies.
  void kill(std::size_t process, std::uint32_t call, bool after);
  // The name of the call at which it died; empty: it did not.
  [[nodiscard]] std::string died_at(std::size_t process) const;
  // An event is complete at this query; from 1. `never`: when the test says so.
  void set_queries_until_done(std::uint32_t queries) { shared_->queries_until_done = queries; }

  [[nodiscard]] std::size_t allocations() const;  // that are live, or gone and open
  [[nodiscard]] std::size_t opened_by(std::size_t process) const;
  [[nodiscard]] std::string misuse() const;  // empty: none

 private:
  friend class FakeDevice;
  Shared* shared_;
};

class FakeDevice final : public ipc::DeviceDriver {
 public:
  // out[i] = constant + the sum of all in[i], floats.
  struct Kernel {
    std::vector<ipc::DeviceAddress> inputs;
    ipc::DeviceAddress output = 0;
    std::size_t count = 0;
    float constant = 0;
  };

  FakeDevice(FakeGpu& gpu, std::size_t process);
  ~FakeDevice() override;  // what the end of a process does

  std::function<void()> on_death;
  // Where it would die, this happens instead, and it goes on.
  std::function<void(FakeDevice&)> instead_of_death;
  [[noreturn]] void die();
  // A place between calls at which it can die as well.
  void step(const char* name);
  Result<> launch(const Kernel& kernel, ipc::DeviceStream stream);
  // The next kernel writes where it may not.
  void fault_next_launch() { fault_next_ = true; }
  // Like a kernel that cannot start: found by last_error().
  void fail_next_launch() { launch_error_ = true; }
  // All that has been launched is done.
  void finish();

  [[nodiscard]] const ipc::DeviceUuid& uuid() const override { return uuid_; }
  [[nodiscard]] int ordinal() const override { return 0; }
  Result<ipc::DeviceAddress> allocate(std::uint64_t bytes) override;
  Result<> free(ipc::DeviceAddress allocation) override;
  Result<ipc::DeviceMemory> memory() override;
  Result<ipc::DeviceHandle> export_handle(ipc::DeviceAddress allocation) override;
  Result<ipc::DeviceAddress> open_handle(const ipc::DeviceHandle& handle) override;
  Result<> close_handle(ipc::DeviceAddress opened) override;
  Result<> register_host(std::span<std::byte> memory) override;
  Result<> unregister_host(std::span<std::byte> memory) override;
  Result<ipc::DeviceStream> create_stream(ipc::StreamPriority priority) override;
  Result<> destroy_stream(ipc::DeviceStream stream) override;
  Result<> copy_to_device(ipc::DeviceAddress to, std::span<const std::byte> from,
                          ipc::DeviceStream stream) override;
  Result<> copy_to_host(std::span<std::byte> to, ipc::DeviceAddress from,
                        ipc::DeviceStream stream) override;
  Result<ipc::DeviceEvent> create_event() override;
  Result<> destroy_event(ipc::DeviceEvent event) override;
  Result<> record(ipc::DeviceEvent event, ipc::DeviceStream stream) override;
  Result<bool> query(ipc::DeviceEvent event) override;
  Result<> wait(ipc::DeviceStream stream, ipc::DeviceEvent event) override;
  Result<> last_error() override;
  [[nodiscard]] bool lost() const override { return lost_; }

 private:
  struct Work {
    std::vector<std::size_t> allocations;  // that it uses
    std::function<Result<>()> finish;
  };
  struct Event {
    std::uintptr_t stream = 0;  // 0: not recorded
    std::uint64_t position = 0;
    std::uint32_t queries_left = 0;
  };
  struct Stream {
    std::vector<Work> work;
    std::uint64_t done = 0;
  };

  void come_to_death(const char* where);
  template <class F>
  auto call(const char* name, F effect) -> decltype(effect());
  tl::unexpected<Error> misuse(const std::string& what);
  void let_go();
  // An allocation that this process owns or has open, from an address in it.
  Result<std::size_t> find(ipc::DeviceAddress address, std::uint64_t bytes);
  Result<std::span<std::byte>> bytes_at(ipc::DeviceAddress address, std::uint64_t bytes);
  Result<> put(ipc::DeviceStream stream, Work work);
  Result<> finish_until(std::uintptr_t stream, std::uint64_t position);

  FakeGpu::Shared* gpu_;
  std::size_t process_;
  ipc::DeviceUuid uuid_;
  std::map<std::uintptr_t, Stream> streams_;
  std::map<std::uintptr_t, Event> events_;
  std::map<std::byte*, std::size_t> pinned_;
  std::uintptr_t next_id_;
  bool fault_next_ = false;
  bool launch_error_ = false;
  bool lost_ = false;
};

}  // namespace opsplit::test
