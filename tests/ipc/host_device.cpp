#include "tests/ipc/host_device.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace opsplit::test {
namespace {

using ipc::DeviceAddress;
using ipc::DeviceHandle;

constexpr auto garbage = std::byte{0xff};  // NaN, of any float

// Where another process finds the memory: an open file of the owner's, which nobody finds after his end.
struct Place {
  ProcessIdentity owner;
  int file = -1;
  std::uint64_t bytes = 0;
};
static_assert(sizeof(Place) <= sizeof(DeviceHandle));

}  // namespace

HostDevice::~HostDevice() {
  for (const Memory& memory : memories_) ::munmap(memory.bytes.data(), memory.bytes.size());
}

Result<DeviceAddress> HostDevice::map(Memory memory, std::uint64_t bytes) {
  void* const at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory.file.get(), 0);
  if (at == MAP_FAILED) return fail_errno(errno, "mmap");
  memory.bytes = {static_cast<std::byte*>(at), bytes};
  if (memory.owner) memory.file.reset();
  memories_.push_back(std::move(memory));
  return reinterpret_cast<DeviceAddress>(at);
}

Result<std::list<HostDevice::Memory>::iterator> HostDevice::find(DeviceAddress address) {
  const auto found = std::ranges::find_if(memories_, [address](const Memory& memory) {
    return reinterpret_cast<DeviceAddress>(memory.bytes.data()) == address;
  });
  if (found == memories_.end())
    return fail(ErrorCode::invalid_input, "no memory of this device begins at {:#x}", address);
  return found;
}

Result<> HostDevice::unmap(DeviceAddress address) {
  OPSPLIT_TRY(const auto memory, find(address));
  ::munmap(memory->bytes.data(), memory->bytes.size());
  memories_.erase(memory);
  return {};
}

Result<DeviceAddress> HostDevice::allocate(std::uint64_t bytes) {
  if (bytes > most_bytes)
    return fail(ErrorCode::limit_exceeded, "{}: {} bytes of device memory needed, {} are free",
                to_string(uuid_), bytes, most_bytes);
  FileDescriptor file(::memfd_create("host-device", MFD_CLOEXEC));
  if (!file || ::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0)
    return fail_errno(errno, "memfd_create");
  OPSPLIT_TRY(const DeviceAddress address, map({std::move(file), {}, {}}, bytes));
  std::ranges::fill(memories_.back().bytes, garbage);
  return address;
}

Result<> HostDevice::free(DeviceAddress allocation) { return unmap(allocation); }

Result<DeviceHandle> HostDevice::export_handle(DeviceAddress allocation) {
  OPSPLIT_TRY(const auto memory, find(allocation));
  const Place place{own_identity(), memory->file.get(), memory->bytes.size()};
  DeviceHandle handle{};
  std::memcpy(handle.data(), &place, sizeof(place));
  return handle;
}

Result<DeviceAddress> HostDevice::open_handle(const DeviceHandle& handle) {
  Place place;
  std::memcpy(&place, handle.data(), sizeof(place));
  OPSPLIT_TRY(FileDescriptor owner, open_pidfd(place.owner));
  const std::string path = fmt::format("/proc/{}/fd/{}", place.owner.pid, place.file);
  FileDescriptor file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  struct stat info {};
  if (!file || ::fstat(file.get(), &info) != 0 ||
      static_cast<std::uint64_t>(info.st_size) != place.bytes)
    return fail(ErrorCode::refused, "a handle to nothing: {}", path);
  return map({std::move(file), std::move(owner), {}}, place.bytes);
}

Result<> HostDevice::close_handle(DeviceAddress opened) { return unmap(opened); }

Result<> HostDevice::register_host(std::span<std::byte> memory) {
  registered = memory;
  return {};
}

Result<> HostDevice::unregister_host(std::span<std::byte> memory) {
  if (memory.data() != registered.data()) return fail(ErrorCode::system, "not registered");
  registered = {};
  return {};
}

Result<ipc::DeviceStream> HostDevice::create_stream(ipc::StreamPriority wanted) {
  ++streams;
  priority = wanted;
  return ipc::DeviceStream{0x1000};  // none of CUDA's default streams
}

Result<> HostDevice::destroy_stream(ipc::DeviceStream) {
  --streams;
  return {};
}

Result<> HostDevice::copy_to_device(DeviceAddress to, std::span<const std::byte> from,
                                    ipc::DeviceStream) {
  std::memcpy(reinterpret_cast<void*>(to), from.data(), from.size());
  return {};
}

Result<> HostDevice::copy_to_host(std::span<std::byte> to, DeviceAddress from, ipc::DeviceStream) {
  std::memcpy(to.data(), reinterpret_cast<const void*>(from), to.size());
  written_.push_back(to);
  return {};
}

Result<ipc::DeviceEvent> HostDevice::create_event() {
  ++events;
  return ipc::DeviceEvent{1};
}

Result<> HostDevice::destroy_event(ipc::DeviceEvent) {
  --events;
  return {};
}

Result<> HostDevice::record(ipc::DeviceEvent, ipc::DeviceStream stream) {
  recorded_on_ = stream;
  return {};
}

Result<> HostDevice::wait(ipc::DeviceStream stream, ipc::DeviceEvent) {
  ties.push_back({static_cast<std::uintptr_t>(stream), static_cast<std::uintptr_t>(recorded_on_)});
  return {};
}

Result<bool> HostDevice::query(ipc::DeviceEvent) {
  if (breaks) return fail(ErrorCode::system, "an illegal address");
  const auto written = std::exchange(written_, {});
  const bool orphaned = std::ranges::any_of(
      memories_, [](const Memory& memory) { return memory.owner && has_ended(memory.owner); });
  if (orphaned)
    for (const std::span<std::byte> bytes : written) std::ranges::fill(bytes, garbage);
  return true;
}

Result<std::unique_ptr<ipc::DeviceDriver>> open_host_device(std::string_view name) {
  std::array<ipc::DeviceUuid, 2> devices;
  devices[0].bytes.fill(0xf0);
  devices[1].bytes.fill(0xf1);
  OPSPLIT_TRY(const ipc::DeviceUuid uuid, choose_device(devices, name));
  return std::make_unique<HostDevice>(uuid);
}

}  // namespace opsplit::test
