// An operator whose tasks run on a GPU.
//
// What tasks on that GPU hand to each other lies in its arena (ipc/device_memory.hpp) and is used there. What
// comes from elsewhere, or goes there, lies in the host's arena, and is copied: pinned memory, on the
// operator's stream. Everything of a task is put on that one stream, and the task is done when its own
// event is complete; nobody waits for the whole device.
#pragma once

#include <memory>

#include "operators/cuda/cuda_program.hpp"
#include "operators/cuda/gpu_site.hpp"
#include "operators/operator.hpp"

namespace opsplit::operators::cuda {

// Compiles every task, by our own kernels but where there are custom ones. Error: a node that has no kernel on a
// GPU.
Result<std::unique_ptr<Operator>> make_gpu_operator(const OperatorSpec& spec, const GpuSite& site,
                                                    const CustomCudaKernels& custom = {});

// Called for each task, as MakeTaskKernel on the CPU.
using MakeTaskCudaKernel = std::function<Result<std::unique_ptr<CudaKernel>>(const TaskSpec&)>;

// Every task run by one kernel of somebody else's. Error: an output varies, which none on a GPU may so far.
Result<std::unique_ptr<Operator>> make_gpu_backend_operator(const OperatorSpec& spec,
                                                            const GpuSite& site,
                                                            const MakeTaskCudaKernel& make);

}  // namespace opsplit::operators::cuda
