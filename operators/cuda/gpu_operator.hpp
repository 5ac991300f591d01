// An operator whose tasks run on a GPU.
//
// What tasks on that GPU hand to each other lies in its arena (ipc/device_memory.hpp) and is used there. What
// comes from elsewhere, or goes there, lies in the host's arena, and is copied: pinned memory, on the
// operator's stream. Everything of a task is put on that one stream, and the task is done when its own
// event is complete; nobody waits for the whole device.
#pragma once

#include <memory>

#include "ipc/device_completion.hpp"
#include "ipc/device_memory.hpp"
#include "ipc/futex.hpp"
#include "operators/cuda/cuda_program.hpp"
#include "operators/cuda/gpu.hpp"
#include "operators/operator.hpp"

namespace opsplit::operators::cuda {

// One GPU as this process has it. All of it outlives the operators.
struct GpuSite {
  ipc::DeviceDriver& driver;
  Gpu& gpu;  // the same device
  const ipc::DeviceArena& arena;
  ipc::Futex& futex;
  DeviceConstants& constants;
  ipc::StreamPriority priority = ipc::StreamPriority::normal;
};

// Compiles every task, by our own kernels but where there are custom ones. Error: a node that has no kernel on a
// GPU.
Result<std::unique_ptr<Operator>> make_gpu_operator(const OperatorSpec& spec, const GpuSite& site,
                                                    const CustomCudaKernels& custom = {});

}  // namespace opsplit::operators::cuda
