#include "operators/sdk/opsplit/cuda_harness.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "ipc/cuda_driver.hpp"
#include "ipc/device_completion.hpp"
#include "ipc/futex.hpp"
#include "operators/sdk/cuda_adapter.hpp"

namespace opsplit::sdk {
namespace {

constexpr std::uint64_t longest_launch_ns = 60'000'000'000;
constexpr std::size_t alignment = 256;
constexpr std::size_t guard_bytes = 256;  // behind everything
constexpr std::byte untouched{0xA5};      // whoever takes it for zeros is found out

void check(const Result<>& done) {
  if (!done) throw std::runtime_error(done.error().message);
}
template <class T>
T value_of(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  return std::move(*result);
}

// Whoever frees memory waits for what the GPU is at. Nothing but the process's end stops that.
[[noreturn]] void end_this_process(const Error& error) {
  std::fprintf(stderr, "CudaHarness: the kernel does not end (%s), so this process does\n",
               error.message.c_str());
  std::_Exit(1);
}

template <class Undo>
struct Finally {
  ~Finally() { undo(); }
  Undo undo;
};

// What lies in the device's memory, one behind the other, each with a guard.
struct Region {
  std::string name;
  std::size_t offset, bytes;
  bool is_written;
};

class Layout {
 public:
  std::size_t add(std::string name, std::size_t bytes, bool is_written) {
    const std::size_t offset = end_;
    regions_.push_back({std::move(name), offset, bytes, is_written});
    end_ += (bytes + guard_bytes + alignment - 1) / alignment * alignment;
    return offset;
  }
  [[nodiscard]] std::size_t bytes() const { return end_; }

  // Throws std::logic_error if anything differs but what may be written.
  void compare(std::span<const std::byte> before, std::span<const std::byte> after) const {
    for (std::size_t i = 0; i < regions_.size(); ++i) {
      const auto& [name, offset, bytes, is_written] = regions_[i];
      const auto differs = [&](std::size_t first, std::size_t last) {
        return !std::equal(before.begin() + static_cast<std::ptrdiff_t>(first),
                           before.begin() + static_cast<std::ptrdiff_t>(last),
                           after.begin() + static_cast<std::ptrdiff_t>(first));
      };
      if (!is_written && differs(offset, offset + bytes))
        throw std::logic_error("the kernel has changed " + name);
      if (differs(offset + bytes, i + 1 < regions_.size() ? regions_[i + 1].offset : end_))
        throw std::logic_error("the kernel has written behind " + name);
    }
  }

 private:
  std::vector<Region> regions_;
  std::size_t end_ = 0;
};

}  // namespace

void run_on_device(ipc::DeviceDriver& driver, CudaKernel& kernel, const Node& node,
                   std::span<GuardedMemory* const> inputs, std::span<GuardedMemory* const> outputs,
                   LastCudaError last_error) {
  Layout layout;
  std::vector<std::size_t> input_at, output_at;
  const auto name = [](const char* what, std::size_t i) { return what + std::to_string(i); };
  for (std::size_t i = 0; i < inputs.size(); ++i)
    input_at.push_back(inputs[i] ? layout.add(name("input ", i), inputs[i]->bytes().size(), false)
                                 : 0);
  for (std::size_t i = 0; i < outputs.size(); ++i)
    output_at.push_back(layout.add(name("output ", i), outputs[i]->bytes().size(), true));
  const std::size_t workspace_at = layout.add("its workspace", kernel.workspace_bytes(), true);
  std::vector<std::byte> before(layout.bytes(), untouched), after(layout.bytes());
  for (std::size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i])
      std::ranges::copy(inputs[i]->bytes(),
                        before.begin() + static_cast<std::ptrdiff_t>(input_at[i]));

  const ipc::DeviceAddress memory = value_of(driver.allocate(layout.bytes()));
  const Finally free{[&] { static_cast<void>(driver.free(memory)); }};
  const ipc::DeviceStream stream = value_of(driver.create_stream(ipc::StreamPriority::normal));
  const Finally destroy{[&] { static_cast<void>(driver.destroy_stream(stream)); }};
  ipc::SystemFutex futex;
  auto completion = value_of(ipc::DeviceCompletion::create(driver, futex, stream));
  const auto wait = [&] {
    check(completion.launched());
    const auto done = completion.wait(0, futex.now_ns() + longest_launch_ns);
    if (!done && done.error().code == ErrorCode::timed_out) end_this_process(done.error());
    check(done);
  };

  check(driver.copy_to_device(memory, before, stream));
  wait();
  auto* const base = reinterpret_cast<std::byte*>(memory);
  std::vector<DeviceTensor> from;
  std::vector<MutableDeviceTensor> to;
  for (std::size_t i = 0; i < inputs.size(); ++i)
    from.push_back(
        {node.inputs[i].dtype, node.inputs[i].shape, inputs[i] ? base + input_at[i] : nullptr});
  for (std::size_t i = 0; i < outputs.size(); ++i)
    to.push_back({node.outputs[i].dtype, node.outputs[i].shape, base + output_at[i]});
  std::string refused;
  try {
    kernel.launch(from, to, {reinterpret_cast<cudaStream_t>(stream), base + workspace_at});
    if (const char* error = last_error()) refused = error;
  } catch (...) {
    static_cast<void>(last_error());  // so that it is not the next launch's
    wait();                           // for what it had enqueued, before its memory is gone
    throw;
  }
  wait();
  if (!refused.empty()) throw std::runtime_error("CUDA: " + refused);
  check(driver.copy_to_host(after, memory, stream));
  wait();
  layout.compare(before, after);
  for (std::size_t i = 0; i < outputs.size(); ++i)
    std::ranges::copy(std::span(after).subspan(output_at[i], outputs[i]->bytes().size()),
                      outputs[i]->bytes().begin());
}

// The kernel may own device memory: it goes first.
struct CudaHarness::Device {
  std::unique_ptr<ipc::DeviceDriver> driver;
  std::unique_ptr<CudaKernel> kernel;
};

CudaHarness::CudaHarness(Node node) : Harness(std::move(node)) {}
CudaHarness::~CudaHarness() = default;

std::string CudaHarness::why_not() {
  const auto machine = ipc::cuda_machine();
  return machine ? "" : machine.error().message;
}

void CudaHarness::run(const MakeCudaKernel& make, LastCudaError last_error) {
  const Node& node = state().complete_node();
  if (!device_) {
    const auto machine = value_of(ipc::cuda_machine());
    auto device = std::make_unique<Device>();
    device->driver = value_of(ipc::open_cuda_device(to_string(machine.devices[0].uuid)));
    try {
      device->kernel = make(node);
    } catch (...) {
      static_cast<void>(last_error());
      throw;
    }
    if (!device->kernel) throw std::invalid_argument("no kernel was made");
    device_ = std::move(device);
  }
  run_on_device(*device_->driver, *device_->kernel, node, state().inputs, state().outputs,
                last_error);
}

}  // namespace opsplit::sdk
