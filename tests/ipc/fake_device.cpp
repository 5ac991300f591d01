#include "tests/ipc/fake_device.hpp"

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <type_traits>
#include <utility>

namespace opsplit::test {
namespace {

using ipc::DeviceAddress;
using ipc::DeviceEvent;
using ipc::DeviceHandle;
using ipc::DeviceStream;

constexpr std::uint64_t alignment = 256;
constexpr auto garbage = std::byte{0xdb};  // as a float, a large number

// An address means something in one process only.
DeviceAddress address_of(std::size_t process, std::size_t allocation) {
  return (process + 1) << 40 | (allocation + 1) << 24;
}

template <std::size_t N>
void copy_text(std::array<char, N>& to, const std::string& text) {
  const std::size_t length = std::min(text.size(), N - 1);
  std::memcpy(to.data(), text.data(), length);
  to[length] = '\0';
}

class Locked {
 public:
  explicit Locked(FakeGpu::Shared& gpu) : gpu_(gpu) {
    while (gpu_.lock.exchange(1) != 0) ::sched_yield();
  }
  ~Locked() { gpu_.lock.store(0); }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;

 private:
  FakeGpu::Shared& gpu_;
};

}  // namespace

// --- The device ---

FakeGpu::FakeGpu() {
  void* memory =
      ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  shared_ = new (memory) Shared{};
  reset();
}

FakeGpu::~FakeGpu() { ::munmap(shared_, sizeof(Shared)); }

void FakeGpu::reset() {
  const auto misuses = shared_->misuses;
  const auto first = shared_->first_misuse;
  const auto queries = shared_->queries_until_done;
  std::destroy_at(shared_);
  new (shared_) Shared{};
  shared_->memory.fill(garbage);
  shared_->next_handle = 1;
  shared_->misuses = misuses;
  shared_->first_misuse = first;
  shared_->queries_until_done = std::max(queries, 1u);
}

void FakeGpu::kill(std::size_t process, std::uint32_t call, bool after) {
  shared_->processes[process].dies_at = call;
  shared_->processes[process].dies_after = after;
}

std::string FakeGpu::died_at(std::size_t process) const {
  return shared_->processes[process].died_at.data();
}

std::size_t FakeGpu::allocations() const {
  return static_cast<std::size_t>(std::ranges::count_if(shared_->allocations, [](const auto& one) {
    return one.state != Allocation::State::unused;
  }));
}

std::size_t FakeGpu::opened_by(std::size_t process) const {
  return static_cast<std::size_t>(std::ranges::count_if(
      shared_->allocations, [process](const auto& one) { return one.open[process]; }));
}

std::string FakeGpu::misuse() const { return shared_->first_misuse.data(); }

// --- Calls, and deaths in them ---

FakeDevice::FakeDevice(FakeGpu& gpu, std::size_t process)
    : gpu_(gpu.shared_), process_(process), next_id_((process + 1) << 32) {
  uuid_.bytes.fill(0x5e);
}

FakeDevice::~FakeDevice() {
  const Locked locked(*gpu_);
  let_go();
}

template <class F>
auto FakeDevice::call(const char* name, F effect) -> decltype(effect()) {
  auto& self = gpu_->processes[process_];
  const bool dies = ++self.calls == self.dies_at;
  if (dies && !self.dies_after) come_to_death(name);
  auto result = [&]() -> decltype(effect()) {
    if (lost_) return fail(ErrorCode::system, "{}: an earlier error", name);
    const Locked locked(*gpu_);
    return effect();
  }();
  if (dies) come_to_death(name);
  return result;
}

void FakeDevice::come_to_death(const char* where) {
  auto& self = gpu_->processes[process_];
  copy_text(self.died_at, fmt::format("{} {}", self.dies_after ? "after" : "before", where));
  if (instead_of_death) return instead_of_death(*this);
  die();
}

void FakeDevice::die() {
  if (on_death) on_death();
  {
    const Locked locked(*gpu_);
    let_go();
  }
  ::kill(::getpid(), SIGKILL);
  while (true) ::pause();
}

void FakeDevice::step(const char* name) {
  static_cast<void>(call(name, [] { return Result<>(); }));
}

void FakeDevice::let_go() {
  using State = FakeGpu::Allocation::State;
  for (auto& one : gpu_->allocations) {
    one.open[process_] = false;
    const bool used = std::ranges::find(one.open, true) != one.open.end();
    if (one.state == State::live && one.owner == process_) {
      std::fill_n(gpu_->memory.begin() + static_cast<std::ptrdiff_t>(one.offset), one.bytes,
                  garbage);
      one.state = State::gone;
    }
    if (one.state == State::gone && !used) one = {};
  }
}

tl::unexpected<Error> FakeDevice::misuse(const std::string& what) {
  if (gpu_->misuses++ == 0)
    copy_text(gpu_->first_misuse, fmt::format("process {}: {}", process_, what));
  return fail(ErrorCode::invalid_input, "{}", what);
}

// --- Memory ---

Result<std::size_t> FakeDevice::find(DeviceAddress address, std::uint64_t bytes) {
  for (std::size_t i = 0; i < gpu_->allocations.size(); ++i) {
    const auto& one = gpu_->allocations[i];
    const DeviceAddress base = address_of(process_, i);
    const bool reachable = one.open[process_] ||
                           (one.owner == process_ && one.state == FakeGpu::Allocation::State::live);
    if (reachable && address >= base && address - base < one.bytes) {
      if (bytes > one.bytes - (address - base)) return misuse("an access beyond an allocation");
      return i;
    }
  }
  return misuse("an address that is not open in this process");
}

Result<std::span<std::byte>> FakeDevice::bytes_at(DeviceAddress address, std::uint64_t bytes) {
  OPSPLIT_TRY(const std::size_t index, find(address, bytes));
  const std::uint64_t offset =
      gpu_->allocations[index].offset + (address - address_of(process_, index));
  return std::span(gpu_->memory).subspan(offset, bytes);
}

Result<DeviceAddress> FakeDevice::allocate(std::uint64_t bytes) {
  return call("allocate", [&]() -> Result<DeviceAddress> {
    const auto unused = std::ranges::find(gpu_->allocations, FakeGpu::Allocation::State::unused,
                                          &FakeGpu::Allocation::state);
    const std::uint64_t rounded = (bytes + alignment - 1) / alignment * alignment;
    if (unused == gpu_->allocations.end() || rounded > gpu_->memory.size() - gpu_->next_offset)
      return fail(ErrorCode::limit_exceeded, "{} bytes of device memory needed", bytes);
    *unused = {FakeGpu::Allocation::State::live, bytes, gpu_->next_offset, process_, 0, {}};
    gpu_->next_offset += rounded;
    return address_of(process_, static_cast<std::size_t>(unused - gpu_->allocations.begin()));
  });
}

Result<> FakeDevice::free(DeviceAddress allocation) {
  return call("free", [&]() -> Result<> {
    OPSPLIT_TRY(const std::size_t index, find(allocation, 0));
    auto& one = gpu_->allocations[index];
    if (one.owner != process_) return misuse("free() of another process's memory");
    for (std::size_t other = 0; other < max_fake_processes; ++other)
      if (one.open[other]) return misuse(fmt::format("free() while process {} has it open", other));
    one = {};
    return {};
  });
}

Result<ipc::DeviceMemory> FakeDevice::memory() {
  return call("memory", [&]() -> Result<ipc::DeviceMemory> {
    return ipc::DeviceMemory{gpu_->memory.size() - gpu_->next_offset, gpu_->memory.size()};
  });
}

Result<DeviceHandle> FakeDevice::export_handle(DeviceAddress allocation) {
  return call("export_handle", [&]() -> Result<DeviceHandle> {
    OPSPLIT_TRY(const std::size_t index, find(allocation, 0));
    auto& one = gpu_->allocations[index];
    if (one.owner != process_) return misuse("export_handle() of another process's memory");
    if (one.handle == 0) one.handle = gpu_->next_handle++;
    DeviceHandle handle{};
    std::memcpy(handle.data(), &one.handle, sizeof(one.handle));
    return handle;
  });
}

Result<DeviceAddress> FakeDevice::open_handle(const DeviceHandle& handle) {
  return call("open_handle", [&]() -> Result<DeviceAddress> {
    std::uint64_t number = 0;
    std::memcpy(&number, handle.data(), sizeof(number));
    for (std::size_t i = 0; i < gpu_->allocations.size(); ++i) {
      auto& one = gpu_->allocations[i];
      if (one.handle != number || number == 0) continue;
      if (one.owner == process_) return misuse("open_handle() by the exporter");
      if (one.open[process_]) return misuse("open_handle() twice");
      if (one.state != FakeGpu::Allocation::State::live) break;
      one.open[process_] = true;
      return address_of(process_, i);
    }
    return fail(ErrorCode::refused, "a handle to nothing");
  });
}

Result<> FakeDevice::close_handle(DeviceAddress opened) {
  return call("close_handle", [&]() -> Result<> {
    OPSPLIT_TRY(const std::size_t index, find(opened, 0));
    auto& one = gpu_->allocations[index];
    if (!one.open[process_] || opened != address_of(process_, index))
      return misuse("close_handle() of what it has not opened");
    for (const auto& [id, stream] : streams_)
      for (std::uint64_t i = stream.done; i < stream.work.size(); ++i)
        if (std::ranges::find(stream.work[i].allocations, index) !=
            stream.work[i].allocations.end())
          return misuse("close_handle() while work is pending that uses it");
    one.open[process_] = false;
    if (one.state == FakeGpu::Allocation::State::gone &&
        std::ranges::find(one.open, true) == one.open.end())
      one = {};
    return {};
  });
}

Result<> FakeDevice::register_host(std::span<std::byte> memory) {
  return call("register_host", [&]() -> Result<> {
    if (!pinned_.emplace(memory.data(), memory.size()).second)
      return misuse("register_host() twice");
    return {};
  });
}

Result<> FakeDevice::unregister_host(std::span<std::byte> memory) {
  return call("unregister_host", [&]() -> Result<> {
    if (pinned_.erase(memory.data()) == 0) return misuse("unregister_host() of what is not");
    return {};
  });
}

// --- Work ---

Result<DeviceStream> FakeDevice::create_stream(ipc::StreamPriority) {
  return call("create_stream", [&]() -> Result<DeviceStream> {
    streams_[++next_id_];
    return static_cast<DeviceStream>(next_id_);
  });
}

Result<> FakeDevice::destroy_stream(DeviceStream stream) {
  return call("destroy_stream", [&]() -> Result<> {
    const auto found = streams_.find(static_cast<std::uintptr_t>(stream));
    if (found == streams_.end()) return misuse("a foreign stream");
    const auto& [id, gone] = *found;
    // In CUDA it would still be done, some time.
    if (gone.done != gone.work.size()) return misuse("destroy_stream() with work pending");
    streams_.erase(found);
    return {};
  });
}

Result<> FakeDevice::put(DeviceStream stream, Work work) {
  const auto found = streams_.find(static_cast<std::uintptr_t>(stream));
  if (found == streams_.end()) return misuse("a foreign stream");
  found->second.work.push_back(std::move(work));
  return {};
}

Result<> FakeDevice::launch(const Kernel& kernel, DeviceStream stream) {
  return call("launch", [&]() -> Result<> {
    if (launch_error_) return {};  // nothing has started; last_error() says so
    const std::uint64_t bytes = kernel.count * sizeof(float);
    Work work;
    OPSPLIT_TRY(const std::size_t output, find(kernel.output, bytes));
    work.allocations.push_back(output);
    for (const DeviceAddress input : kernel.inputs) {
      OPSPLIT_TRY(const std::size_t index, find(input, bytes));
      work.allocations.push_back(index);
    }
    // It has begun: what lay there is no more.
    OPSPLIT_TRY(const auto begun, bytes_at(kernel.output, bytes));
    std::ranges::fill(begun.first(bytes / 2), garbage);
    const bool faults = std::exchange(fault_next_, false);
    work.finish = [this, kernel, bytes, faults]() -> Result<> {
      if (faults) {
        lost_ = true;
        return fail(ErrorCode::system, "an illegal memory access was encountered");
      }
      std::vector<float> sums(kernel.count, kernel.constant);
      for (const DeviceAddress input : kernel.inputs) {
        OPSPLIT_TRY(const auto from, bytes_at(input, bytes));
        for (std::size_t i = 0; i < kernel.count; ++i) {
          float value = 0;
          std::memcpy(&value, from.data() + i * sizeof(float), sizeof(float));
          sums[i] += value;
        }
      }
      OPSPLIT_TRY(const auto to, bytes_at(kernel.output, bytes));
      std::memcpy(to.data(), sums.data(), bytes);
      return {};
    };
    return put(stream, std::move(work));
  });
}

Result<> FakeDevice::copy_to_device(DeviceAddress to, std::span<const std::byte> from,
                                    DeviceStream stream) {
  return call("copy_to_device", [&]() -> Result<> {
    OPSPLIT_TRY(const std::size_t index, find(to, from.size()));
    OPSPLIT_TRY(const auto begun, bytes_at(to, from.size()));
    std::ranges::fill(begun.first(from.size() / 2), garbage);
    return put(stream, {{index}, [this, to, from]() -> Result<> {
                          OPSPLIT_TRY(const auto target, bytes_at(to, from.size()));
                          std::ranges::copy(from, target.begin());
                          return {};
                        }});
  });
}

Result<> FakeDevice::copy_to_host(std::span<std::byte> to, DeviceAddress from,
                                  DeviceStream stream) {
  return call("copy_to_host", [&]() -> Result<> {
    OPSPLIT_TRY(const std::size_t index, find(from, to.size()));
    std::ranges::fill(to, garbage);
    return put(stream, {{index}, [this, to, from]() -> Result<> {
                          OPSPLIT_TRY(const auto source, bytes_at(from, to.size()));
                          std::ranges::copy(source, to.begin());
                          return {};
                        }});
  });
}

Result<> FakeDevice::finish_until(std::uintptr_t id, std::uint64_t position) {
  Stream& stream = streams_.at(id);
  while (stream.done < position) OPSPLIT_CHECK(stream.work[stream.done++].finish());
  return {};
}

void FakeDevice::finish() {
  const Locked locked(*gpu_);
  for (auto& [id, stream] : streams_)
    if (!finish_until(id, stream.work.size())) return;
  for (auto& [id, event] : events_) event.queries_left = 0;
}

Result<DeviceEvent> FakeDevice::create_event() {
  return call("create_event", [&]() -> Result<DeviceEvent> {
    events_[++next_id_];
    return static_cast<DeviceEvent>(next_id_);
  });
}

Result<> FakeDevice::destroy_event(DeviceEvent event) {
  return call("destroy_event", [&]() -> Result<> {
    if (events_.erase(static_cast<std::uintptr_t>(event)) == 0) return misuse("a foreign event");
    return {};
  });
}

Result<> FakeDevice::record(DeviceEvent event, DeviceStream stream) {
  return call("record", [&]() -> Result<> {
    const auto found = events_.find(static_cast<std::uintptr_t>(event));
    const auto on = streams_.find(static_cast<std::uintptr_t>(stream));
    if (found == events_.end()) return misuse("a foreign event");
    if (on == streams_.end()) return misuse("a foreign stream");
    found->second = {on->first, on->second.work.size(), gpu_->queries_until_done};
    return {};
  });
}

Result<bool> FakeDevice::query(DeviceEvent event) {
  return call("query", [&]() -> Result<bool> {
    const auto found = events_.find(static_cast<std::uintptr_t>(event));
    if (found == events_.end()) return misuse("a foreign event");
    Event& asked = found->second;
    if (asked.stream == 0) return true;  // so does CUDA
    if (!streams_.contains(asked.stream)) return misuse("query() behind its stream's end");
    if (asked.queries_left != never && asked.queries_left > 0) --asked.queries_left;
    if (asked.queries_left > 0) return false;
    OPSPLIT_CHECK(finish_until(asked.stream, asked.position));
    return true;
  });
}

// What is waited for is done at once: a device may be as fast as that.
Result<> FakeDevice::wait(DeviceStream stream, DeviceEvent event) {
  return call("wait", [&]() -> Result<> {
    const auto found = events_.find(static_cast<std::uintptr_t>(event));
    if (found == events_.end()) return misuse("a foreign event");
    if (!streams_.contains(static_cast<std::uintptr_t>(stream))) return misuse("a foreign stream");
    if (found->second.stream == 0) return {};
    return finish_until(found->second.stream, found->second.position);
  });
}

Result<> FakeDevice::last_error() {
  return call("last_error", [&]() -> Result<> {
    if (std::exchange(launch_error_, false))
      return fail(ErrorCode::system, "a launch: invalid configuration argument");
    return {};
  });
}

}  // namespace opsplit::test
