// Between the SDK's CUDA kernels and ours.
#pragma once

#include "ipc/device_driver.hpp"
#include "operators/cuda/cuda_program.hpp"
#include "operators/sdk/harness_state.hpp"
#include "operators/sdk/opsplit/cuda_operator.hpp"

namespace opsplit::sdk {

// `kernels` outlive them.
operators::cuda::CustomCudaKernels custom_cuda_kernels(const CudaKernels& kernels,
                                                       LastCudaError last_error);

// One launch of a kernel made for `node`, on copies of the tensors in device memory, as CudaHarness::run(). Null:
// absent.
void run_on_device(ipc::DeviceDriver& driver, CudaKernel& kernel, const Node& node,
                   std::span<GuardedMemory* const> inputs, std::span<GuardedMemory* const> outputs,
                   LastCudaError last_error);

}  // namespace opsplit::sdk
