// main() of every program that runs an operator on a GPU, but for the GPU: opsplit-operator-cuda, and those made with
// the SDK. They run any operator of any split with our kernels, or the user's, on the GPU that opsplitd says.
#pragma once

#include <functional>
#include <memory>

#include "ipc/device_driver.hpp"
#include "operators/cuda/cuda_program.hpp"
#include "operators/cuda/gpu.hpp"

namespace opsplit::operators::cuda {

// One device, as its driver and as what computes.
struct OpenGpu {
  ipc::OpenDevice driver;
  std::function<Result<std::unique_ptr<Gpu>>()> gpu;  // after that, in the same process
};

// The process's exit code; errors are one line on stderr.
int gpu_operator_program(int argc, char** argv, const OpenGpu& open,
                         const CustomCudaKernels& custom = {});

}  // namespace opsplit::operators::cuda
