// A GPU's driver whose device memory is this machine's, shared by processes that need not know each other; work is done
// when the call returns. What fake_device is for deaths at every call, this is for whole programs:
// tests/ipc/fake_device_broker.cpp, tests/operators/cuda/fake_operator.cpp.
//
// As in CUDA, memory is its owner's: after his end nobody can open it, and those who have it open read anything. That is
// made as bad as it may be: work that is complete after the owner's end has left garbage.
#pragma once

#include <list>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/system.hpp"
#include "ipc/device_driver.hpp"

namespace opsplit::test {

// That one stream was made to wait for another one.
struct StreamTie {
  std::uintptr_t waits = 0, behind = 0;
};

class HostDevice final : public ipc::DeviceDriver {
 public:
  static constexpr std::uint64_t most_bytes = 1 << 20;  // of an allocation

  explicit HostDevice(const ipc::DeviceUuid& uuid = {}) : uuid_(uuid) {}
  ~HostDevice() override;

  bool breaks = false;                   // queries of events fail from now on
  std::span<std::byte> registered = {};  // host memory
  int streams = 0, events = 0;           // that there are now
  ipc::StreamPriority priority = {};     // of the last stream
  std::vector<StreamTie> ties = {};      // in their order

  [[nodiscard]] const ipc::DeviceUuid& uuid() const override { return uuid_; }
  [[nodiscard]] int ordinal() const override { return uuid_.bytes[0] & 0x0f; }
  Result<ipc::DeviceAddress> allocate(std::uint64_t bytes) override;
  Result<> free(ipc::DeviceAddress allocation) override;
  Result<ipc::DeviceMemory> memory() override { return ipc::DeviceMemory{most_bytes, most_bytes}; }
  Result<ipc::DeviceHandle> export_handle(ipc::DeviceAddress allocation) override;
  Result<ipc::DeviceAddress> open_handle(const ipc::DeviceHandle& handle) override;
  Result<> close_handle(ipc::DeviceAddress opened) override;
  Result<> register_host(std::span<std::byte> memory) override;
  Result<> unregister_host(std::span<std::byte> memory) override;
  Result<ipc::DeviceStream> create_stream(ipc::StreamPriority wanted) override;
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
  Result<> last_error() override { return {}; }
  [[nodiscard]] bool lost() const override { return breaks; }

 private:
  struct Memory {
    FileDescriptor file;   // of its own allocation
    FileDescriptor owner;  // a pidfd, of one that it has opened
    std::span<std::byte> bytes;
  };
  Result<ipc::DeviceAddress> map(Memory memory, std::uint64_t bytes);
  Result<std::list<Memory>::iterator> find(ipc::DeviceAddress address);
  Result<> unmap(ipc::DeviceAddress address);

  std::list<Memory> memories_;
  ipc::DeviceStream recorded_on_ = {};         // of the last event
  std::vector<std::span<std::byte>> written_;  // in the host's memory, since an event was complete
  ipc::DeviceUuid uuid_;
};

// One of the two GPUs that a machine of this kind has, by number or UUID.
Result<std::unique_ptr<ipc::DeviceDriver>> open_host_device(std::string_view name);

}  // namespace opsplit::test
