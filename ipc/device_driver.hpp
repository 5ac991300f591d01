// What opsplit asks of a GPU's driver: one GPU, as one process uses it. Behind an interface, so that what
// is built on it is tested without a GPU, with deaths of processes and work that is never done;
// ipc/cuda_driver.hpp has CUDA's.
//
// Terms, and what CUDA promises of them:
//   allocation  device memory, of the process that allocated it: gone when that ends.
//   handle      64 bytes that name an allocation to other processes of this host. They open it, once each,
//               and close it. To free it while somebody has it open is undefined, and so is what those
//               read whose exporter has ended.
//   stream      work that is done in order, after the call that asked for it has returned.
//   event       a place in a stream: complete once all is done that was put into it before.
//
// Thread safe, unless it says otherwise. Not to be used in a forked child. Errors name the call and the
// device. Addresses are the device's: nothing on the host may follow them.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace opsplit::ipc {

// A GPU, whatever number it has in a process.
struct DeviceUuid {
  std::array<std::uint8_t, 16> bytes{};

  friend auto operator<=>(const DeviceUuid&, const DeviceUuid&) = default;
};
// As nvidia-smi writes it: GPU-01234567-89ab-cdef-0123-456789abcdef.
std::string to_string(const DeviceUuid& uuid);
Result<DeviceUuid> parse_device_uuid(std::string_view text);
// The one that people call `name`: its number among `devices`, or its UUID. Error not_found: it is none of them;
// the message says which there are.
Result<DeviceUuid> choose_device(std::span<const DeviceUuid> devices, std::string_view name);

// To be treated as a secret of this user: who has it can read and write the memory.
using DeviceHandle = std::array<std::uint8_t, 64>;
// As 128 hexadecimal digits, for messages.
std::string to_string(const DeviceHandle& handle);
Result<DeviceHandle> parse_device_handle(std::string_view text);

using DeviceAddress = std::uint64_t;
enum class DeviceStream : std::uintptr_t {};
enum class DeviceEvent : std::uintptr_t {};

// A hint for the kernels (not the copies) of one process: what is ready of a higher priority starts first. Between
// processes a GPU takes turns by time, whatever their priorities. A GPU may know fewer.
enum class StreamPriority { low, normal, high };
std::string_view to_string(StreamPriority priority);
std::optional<StreamPriority> stream_priority_from_string(std::string_view name);

struct DeviceMemory {
  std::uint64_t free_bytes = 0;
  std::uint64_t total_bytes = 0;
};

class DeviceDriver {
 public:
  virtual ~DeviceDriver() = default;

  [[nodiscard]] virtual const DeviceUuid& uuid() const = 0;
  // Its number in this process, for libraries that count: CUDA_VISIBLE_DEVICES changes it.
  [[nodiscard]] virtual int ordinal() const = 0;

  // At least 256-byte aligned; not zeroed. An allocation shares no page of the device with another, since
  // a handle opens whole pages. Error limit_exceeded: that much is not free; the message has both numbers.
  virtual Result<DeviceAddress> allocate(std::uint64_t bytes) = 0;
  virtual Result<> free(DeviceAddress allocation) = 0;
  virtual Result<DeviceMemory> memory() = 0;

  virtual Result<DeviceHandle> export_handle(DeviceAddress allocation) = 0;
  // In another process than the exporter's. Takes about a millisecond. Error refused: the driver doesn't
  // let this process open it.
  virtual Result<DeviceAddress> open_handle(const DeviceHandle& handle) = 0;
  // Nothing of this process may be pending that uses it.
  virtual Result<> close_handle(DeviceAddress opened) = 0;

  // Pins host memory: copies to and from it run beside the CPU, and without a copy in between. It must stay
  // mapped until it is unregistered.
  virtual Result<> register_host(std::span<std::byte> memory) = 0;
  virtual Result<> unregister_host(std::span<std::byte> memory) = 0;

  virtual Result<DeviceStream> create_stream(StreamPriority priority) = 0;
  virtual Result<> destroy_stream(DeviceStream stream) = 0;
  // The host memory must live until the copy is complete.
  virtual Result<> copy_to_device(DeviceAddress to, std::span<const std::byte> from,
                                  DeviceStream stream) = 0;
  virtual Result<> copy_to_host(std::span<std::byte> to, DeviceAddress from,
                                DeviceStream stream) = 0;

  virtual Result<DeviceEvent> create_event() = 0;
  virtual Result<> destroy_event(DeviceEvent event) = 0;
  // Behind all that the stream holds now.
  virtual Result<> record(DeviceEvent event, DeviceStream stream) = 0;
  // Whether all before it is done. Never waits. An error is that of the work, or of any work before.
  virtual Result<bool> query(DeviceEvent event) = 0;
  // What the stream, of whoever in this process, is given from now on runs after what the event was recorded behind.
  virtual Result<> wait(DeviceStream stream, DeviceEvent event) = 0;

  // What a launch that returns nothing left behind (cudaGetLastError()), once; of the calling thread.
  virtual Result<> last_error() = 0;
  // An error took the process's context with it (a kernel wrote where it may not, say): every call fails
  // from now on, and only another process can use the device.
  [[nodiscard]] virtual bool lost() const = 0;
};

// Opens the device that people call so (choose_device()).
using OpenDevice = std::function<Result<std::unique_ptr<DeviceDriver>>(std::string_view name)>;

}  // namespace opsplit::ipc
