// opsplit._cuda of a machine whose GPUs are host memory and the CPU. It says which streams were tied to each other.
#include "operators/python/gpu.hpp"
#include "tests/ipc/host_device.hpp"
#include "tests/operators/cuda/host_gpu.hpp"

namespace {

opsplit::test::HostDevice* last = nullptr;  // that was opened; for as long as its kernel

}  // namespace

PYBIND11_MODULE(_cuda, module) {
  using namespace opsplit;
  static const operators::cuda::OpenGpu open{
      [](std::string_view name) -> Result<std::unique_ptr<ipc::DeviceDriver>> {
        OPSPLIT_TRY(auto device, test::open_host_device(name));
        last = static_cast<test::HostDevice*>(device.get());
        return device;
      },
      []() -> Result<std::unique_ptr<operators::cuda::Gpu>> {
        return std::make_unique<operators::cuda::testing::HostGpu>();
      }};
  module.attr("gpu") = pybind11::capsule(&open, python::gpu_capsule);
  // (the one that waits, the one it waits for), in their order; since the last time.
  module.def("take_ties", [] {
    pybind11::list ties;
    for (const test::StreamTie& tie : std::exchange(last->ties, {}))
      ties.append(pybind11::make_tuple(tie.waits, tie.behind));
    return ties;
  });
}
