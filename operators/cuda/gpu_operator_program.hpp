// opsplit-operator-cuda but for the GPU: runs any operator of any split with our kernels on the one that opsplitd
// says.
#pragma once

#include <functional>
#include <memory>

#include "ipc/device_driver.hpp"
#include "operators/cuda/gpu.hpp"

namespace opsplit::operators::cuda {

// One device, as its driver and as what computes.
struct OpenGpu {
  std::function<Result<std::unique_ptr<ipc::DeviceDriver>>(const ipc::DeviceUuid&)> driver;
  std::function<Result<std::unique_ptr<Gpu>>()> gpu;  // after that, in the same process
};

// The process's exit code; errors are one line on stderr.
int gpu_operator_program(int argc, char** argv, const OpenGpu& open);

}  // namespace opsplit::operators::cuda
