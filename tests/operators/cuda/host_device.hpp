// The driver of HostGpu: device memory that is this machine's, and work that is done when the call returns.
#pragma once

#include <sys/mman.h>

#include <cstring>

#include "ipc/device_driver.hpp"

namespace opsplit::operators::cuda::testing {

// What one process allocates, a fork of it can open. One allocation.
class HostDevice final : public ipc::DeviceDriver {
 public:
  static constexpr std::size_t most_bytes = 1 << 16;

  HostDevice()
      : memory_(static_cast<std::byte*>(::mmap(nullptr, most_bytes, PROT_READ | PROT_WRITE,
                                               MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {}
  ~HostDevice() override { ::munmap(memory_, most_bytes); }

  bool breaks = false;                   // queries of events fail from now on
  std::span<std::byte> registered = {};  // host memory
  int streams = 0, events = 0;           // that there are now
  ipc::StreamPriority priority = {};     // of the last stream

  [[nodiscard]] const ipc::DeviceUuid& uuid() const override { return uuid_; }
  Result<ipc::DeviceAddress> allocate(std::uint64_t bytes) override {
    if (bytes > most_bytes) return fail(ErrorCode::limit_exceeded, "too small");
    return address();
  }
  Result<> free(ipc::DeviceAddress) override { return {}; }
  Result<ipc::DeviceMemory> memory() override { return ipc::DeviceMemory{most_bytes, most_bytes}; }
  Result<ipc::DeviceHandle> export_handle(ipc::DeviceAddress) override {
    return ipc::DeviceHandle{};
  }
  Result<ipc::DeviceAddress> open_handle(const ipc::DeviceHandle&) override { return address(); }
  Result<> close_handle(ipc::DeviceAddress) override { return {}; }
  Result<> register_host(std::span<std::byte> memory) override {
    registered = memory;
    return {};
  }
  Result<> unregister_host(std::span<std::byte> memory) override {
    if (memory.data() != registered.data()) return fail(ErrorCode::system, "not registered");
    registered = {};
    return {};
  }
  Result<ipc::DeviceStream> create_stream(ipc::StreamPriority wanted) override {
    ++streams;
    priority = wanted;
    return ipc::DeviceStream{1};
  }
  Result<> destroy_stream(ipc::DeviceStream) override {
    --streams;
    return {};
  }
  Result<> copy_to_device(ipc::DeviceAddress to, std::span<const std::byte> from,
                          ipc::DeviceStream) override {
    std::memcpy(reinterpret_cast<void*>(to), from.data(), from.size());
    return {};
  }
  Result<> copy_to_host(std::span<std::byte> to, ipc::DeviceAddress from,
                        ipc::DeviceStream) override {
    std::memcpy(to.data(), reinterpret_cast<const void*>(from), to.size());
    return {};
  }
  Result<ipc::DeviceEvent> create_event() override {
    ++events;
    return ipc::DeviceEvent{1};
  }
  Result<> destroy_event(ipc::DeviceEvent) override {
    --events;
    return {};
  }
  Result<> record(ipc::DeviceEvent, ipc::DeviceStream) override { return {}; }
  Result<bool> query(ipc::DeviceEvent) override {
    if (breaks) return fail(ErrorCode::system, "an illegal address");
    return true;
  }
  Result<> last_error() override { return {}; }
  [[nodiscard]] bool lost() const override { return breaks; }

 private:
  [[nodiscard]] ipc::DeviceAddress address() const {
    return reinterpret_cast<ipc::DeviceAddress>(memory_);
  }

  std::byte* memory_;
  ipc::DeviceUuid uuid_;
};

}  // namespace opsplit::operators::cuda::testing
