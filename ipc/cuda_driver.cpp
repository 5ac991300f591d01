// CUDA's runtime API, linked statically: it shares the device's primary context with kernels that are
// compiled into the same process, and with PyTorch.
#include "ipc/cuda_driver.hpp"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <tuple>
#include <utility>

namespace opsplit::ipc {
namespace {

static_assert(sizeof(cudaIpcMemHandle_t) == sizeof(DeviceHandle));
static_assert(sizeof(cudaUUID_t) == sizeof(DeviceUuid));

// The device's largest page. The driver cuts small allocations from one page, and a handle to one of them
// opens the whole page.
constexpr std::uint64_t page_bytes = std::uint64_t{2} << 20;

std::string version_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

// What keeps this process from using any device, in words.
Result<int> device_count() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count > 0) return count;
  static_cast<void>(cudaGetLastError());
  int driver = 0, runtime = 0;
  static_cast<void>(cudaDriverGetVersion(&driver));
  static_cast<void>(cudaRuntimeGetVersion(&runtime));
  if (driver == 0)
    return fail(ErrorCode::unavailable, "no NVIDIA driver on this machine (libcuda.so.1)");
  if (status == cudaErrorInsufficientDriver)
    return fail(ErrorCode::unavailable,
                "the NVIDIA driver knows CUDA {}, this opsplit is built with {}: update the driver",
                version_text(driver), version_text(runtime));
  if (status == cudaErrorNoDevice || status == cudaSuccess)
    return fail(ErrorCode::unavailable, "an NVIDIA driver, but no GPU that this process may use");
  return fail(ErrorCode::unavailable, "no GPU: {}", cudaGetErrorString(status));
}

struct Device {
  int ordinal = 0;  // CUDA's, which begins with the fastest
  cudaDeviceProp properties{};

  [[nodiscard]] DeviceUuid uuid() const {
    DeviceUuid uuid;
    std::memcpy(uuid.bytes.data(), &properties.uuid, sizeof(uuid));
    return uuid;
  }
  [[nodiscard]] auto place() const {
    return std::tuple(properties.pciDomainID, properties.pciBusID, properties.pciDeviceID);
  }
};

// By their places on the bus, as nvidia-smi and NVIDIA's runtime for containers number them.
Result<std::vector<Device>> devices_by_place() {
  OPSPLIT_TRY(const int count, device_count());
  std::vector<Device> devices(static_cast<std::size_t>(count));
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    Device& device = devices[static_cast<std::size_t>(ordinal)];
    device.ordinal = ordinal;
    if (const auto status = cudaGetDeviceProperties(&device.properties, ordinal);
        status != cudaSuccess)
      return fail(ErrorCode::system, "cudaGetDeviceProperties: {}", cudaGetErrorString(status));
  }
  std::ranges::stable_sort(devices, {}, &Device::place);
  return devices;
}

// Under MPS (the Multi-Process Service) the work of a process is its server's, and may go on after the process
// has died (ipc/device_memory.hpp, 3).
Result<> refuse_mps(int ordinal) {
  int enabled = 0;
  if (const auto status = cudaDeviceGetAttribute(&enabled, cudaDevAttrMpsEnabled, ordinal);
      status != cudaSuccess)
    return fail(ErrorCode::system, "cudaDevAttrMpsEnabled: {}", cudaGetErrorString(status));
  if (enabled != 0)
    return fail(
        ErrorCode::unsupported,
        "CUDA's MPS serves this GPU, under which what a dead operator had begun may still write: "
        "end it (echo quit | nvidia-cuda-mps-control)");
  return {};
}

cudaStream_t stream_of(DeviceStream stream) { return reinterpret_cast<cudaStream_t>(stream); }
bool is_default(DeviceStream stream) {
  return stream_of(stream) == cudaStreamLegacy || stream_of(stream) == cudaStreamPerThread;
}
cudaEvent_t event_of(DeviceEvent event) { return reinterpret_cast<cudaEvent_t>(event); }
void* pointer_of(DeviceAddress address) { return reinterpret_cast<void*>(address); }

class CudaDriver final : public DeviceDriver {
 public:
  CudaDriver(const DeviceUuid& uuid, int ordinal) : uuid_(uuid), ordinal_(ordinal) {}

  [[nodiscard]] const DeviceUuid& uuid() const override { return uuid_; }
  [[nodiscard]] int ordinal() const override { return ordinal_; }

  Result<DeviceAddress> allocate(std::uint64_t bytes) override {
    OPSPLIT_CHECK(select());
    std::uint64_t rounded = 0;
    if (bytes == 0 || __builtin_add_overflow(bytes, page_bytes - 1, &rounded))
      return fail(ErrorCode::invalid_input, "{}: cannot allocate {} bytes", to_string(uuid_),
                  bytes);
    void* memory = nullptr;
    const cudaError_t status = cudaMalloc(&memory, rounded & ~(page_bytes - 1));
    if (status == cudaErrorMemoryAllocation) {
      static_cast<void>(cudaGetLastError());
      OPSPLIT_TRY(const DeviceMemory now, this->memory());
      return fail(ErrorCode::limit_exceeded, "{}: {} bytes of device memory needed, {} are free",
                  to_string(uuid_), bytes, now.free_bytes);
    }
    OPSPLIT_CHECK(checked(status, "cudaMalloc"));
    return reinterpret_cast<DeviceAddress>(memory);
  }

  Result<> free(DeviceAddress allocation) override {
    OPSPLIT_CHECK(select());
    return checked(cudaFree(pointer_of(allocation)), "cudaFree");
  }

  Result<DeviceMemory> memory() override {
    OPSPLIT_CHECK(select());
    std::size_t free_bytes = 0, total_bytes = 0;
    OPSPLIT_CHECK(checked(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo"));
    return DeviceMemory{free_bytes, total_bytes};
  }

  Result<DeviceHandle> export_handle(DeviceAddress allocation) override {
    OPSPLIT_CHECK(select());
    cudaIpcMemHandle_t exported{};
    OPSPLIT_CHECK(
        checked(cudaIpcGetMemHandle(&exported, pointer_of(allocation)), "cudaIpcGetMemHandle"));
    DeviceHandle handle;
    std::memcpy(handle.data(), &exported, sizeof(handle));
    return handle;
  }

  Result<DeviceAddress> open_handle(const DeviceHandle& handle) override {
    OPSPLIT_CHECK(select());
    cudaIpcMemHandle_t exported{};
    std::memcpy(&exported, handle.data(), sizeof(handle));
    void* memory = nullptr;
    const auto opened =
        checked(cudaIpcOpenMemHandle(&memory, exported, cudaIpcMemLazyEnablePeerAccess),
                "cudaIpcOpenMemHandle");
    if (!opened)
      return fail(ErrorCode::refused,
                  "{} (in containers: all need one PID namespace and one IPC namespace)",
                  opened.error().message);
    return reinterpret_cast<DeviceAddress>(memory);
  }

  Result<> close_handle(DeviceAddress opened) override {
    OPSPLIT_CHECK(select());
    return checked(cudaIpcCloseMemHandle(pointer_of(opened)), "cudaIpcCloseMemHandle");
  }

  Result<> register_host(std::span<std::byte> memory) override {
    OPSPLIT_CHECK(select());
    return checked(cudaHostRegister(memory.data(), memory.size(), cudaHostRegisterPortable),
                   "cudaHostRegister");
  }

  Result<> unregister_host(std::span<std::byte> memory) override {
    OPSPLIT_CHECK(select());
    return checked(cudaHostUnregister(memory.data()), "cudaHostUnregister");
  }

  Result<DeviceStream> create_stream(StreamPriority priority) override {
    OPSPLIT_CHECK(select());
    // Lower numbers come first: from `least` (0) down to `greatest` (-5, say).
    int least = 0, greatest = 0;
    OPSPLIT_CHECK(checked(cudaDeviceGetStreamPriorityRange(&least, &greatest),
                          "cudaDeviceGetStreamPriorityRange"));
    const int number = priority == StreamPriority::low    ? least
                       : priority == StreamPriority::high ? greatest
                                                          : (least + greatest) / 2;
    cudaStream_t stream = nullptr;
    OPSPLIT_CHECK(checked(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, number),
                          "cudaStreamCreateWithPriority"));
    return static_cast<DeviceStream>(reinterpret_cast<std::uintptr_t>(stream));
  }

  Result<> destroy_stream(DeviceStream stream) override {
    OPSPLIT_CHECK(select());
    return checked(cudaStreamDestroy(stream_of(stream)), "cudaStreamDestroy");
  }

  Result<> copy_to_device(DeviceAddress to, std::span<const std::byte> from,
                          DeviceStream stream) override {
    OPSPLIT_CHECK(select());
    return checked(cudaMemcpyAsync(pointer_of(to), from.data(), from.size(), cudaMemcpyHostToDevice,
                                   stream_of(stream)),
                   "cudaMemcpyAsync to the device");
  }

  Result<> copy_to_host(std::span<std::byte> to, DeviceAddress from, DeviceStream stream) override {
    OPSPLIT_CHECK(select());
    return checked(cudaMemcpyAsync(to.data(), pointer_of(from), to.size(), cudaMemcpyDeviceToHost,
                                   stream_of(stream)),
                   "cudaMemcpyAsync from the device");
  }

  Result<DeviceEvent> create_event() override {
    OPSPLIT_CHECK(select());
    cudaEvent_t event = nullptr;
    OPSPLIT_CHECK(
        checked(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate"));
    return static_cast<DeviceEvent>(reinterpret_cast<std::uintptr_t>(event));
  }

  Result<> destroy_event(DeviceEvent event) override {
    OPSPLIT_CHECK(select());
    return checked(cudaEventDestroy(event_of(event)), "cudaEventDestroy");
  }

  // The next three are on the way of tasks: an event and a stream know their device themselves, but for the default
  // streams, which are those of the current one.
  Result<> record(DeviceEvent event, DeviceStream stream) override {
    if (is_default(stream)) OPSPLIT_CHECK(select());
    return checked(cudaEventRecord(event_of(event), stream_of(stream)), "cudaEventRecord");
  }

  Result<> wait(DeviceStream stream, DeviceEvent event) override {
    if (is_default(stream)) OPSPLIT_CHECK(select());
    return checked(cudaStreamWaitEvent(stream_of(stream), event_of(event), 0),
                   "cudaStreamWaitEvent");
  }

  Result<bool> query(DeviceEvent event) override {
    const cudaError_t status = cudaEventQuery(event_of(event));
    if (status == cudaErrorNotReady) {
      static_cast<void>(
          cudaGetLastError());  // not kept, says CUDA; a launch must never be blamed for it
      return false;
    }
    OPSPLIT_CHECK(checked(status, "cudaEventQuery"));
    return true;
  }

  Result<> last_error() override { return checked(cudaGetLastError(), "a launch"); }

  [[nodiscard]] bool lost() const override { return lost_; }

 private:
  // Which device is current is the thread's, and other libraries change it.
  Result<> select() { return checked(cudaSetDevice(ordinal_), "cudaSetDevice"); }

  Result<> checked(cudaError_t status, const char* call) {
    if (status == cudaSuccess) return {};
    // What is still there after it has been cleared stays.
    static_cast<void>(cudaGetLastError());
    const cudaError_t now = cudaStreamQuery(nullptr);
    if (now != cudaSuccess && now != cudaErrorNotReady) lost_ = true;
    static_cast<void>(cudaGetLastError());
    return fail(ErrorCode::system, "{}: {}: {} ({}){}", to_string(uuid_), call,
                cudaGetErrorString(status), cudaGetErrorName(status),
                lost_ ? "; this process can use the GPU no more" : "");
  }

  DeviceUuid uuid_;
  int ordinal_;
  std::atomic<bool> lost_ = false;
};

}  // namespace

Result<CudaMachine> cuda_machine() {
  OPSPLIT_TRY(const std::vector<Device> devices, devices_by_place());
  CudaMachine machine;
  int driver = 0, runtime = 0;
  static_cast<void>(cudaDriverGetVersion(&driver));
  static_cast<void>(cudaRuntimeGetVersion(&runtime));
  machine.driver_version = version_text(driver);
  machine.runtime_version = version_text(runtime);
  for (const Device& found : devices) {
    const cudaDeviceProp& properties = found.properties;
    CudaDevice device;
    device.uuid = found.uuid();
    device.name = properties.name;
    device.total_bytes = properties.totalGlobalMem;
    device.compute_major = properties.major;
    device.compute_minor = properties.minor;
    device.unified_addressing = properties.unifiedAddressing != 0;
    machine.devices.push_back(std::move(device));
    std::vector<bool> reaches;
    for (const Device& other : devices) {
      int can = found.ordinal == other.ordinal;
      if (!can && cudaDeviceCanAccessPeer(&can, found.ordinal, other.ordinal) != cudaSuccess) {
        static_cast<void>(cudaGetLastError());
        can = 0;
      }
      reaches.push_back(can != 0);
    }
    machine.peers.push_back(std::move(reaches));
  }
  return machine;
}

Result<std::unique_ptr<DeviceDriver>> open_cuda_device(std::string_view name) {
  OPSPLIT_TRY(const std::vector<Device> devices, devices_by_place());
  std::vector<DeviceUuid> uuids;
  for (const Device& device : devices) uuids.push_back(device.uuid());
  OPSPLIT_TRY(const DeviceUuid uuid, choose_device(uuids, name));
  const int ordinal = std::ranges::find(devices, uuid, &Device::uuid)->ordinal;
  if (auto refused = refuse_mps(ordinal); !refused) return within(to_string(uuid), refused.error());
  auto driver = std::make_unique<CudaDriver>(uuid, ordinal);
  OPSPLIT_CHECK(driver->memory());  // makes the context, or says why there is none
  return driver;
}

}  // namespace opsplit::ipc
