// main() of the programs in C++ that run an operator on a GPU, but for the GPU: opsplit-operator-cuda, and those made
// with the SDK. They run any operator of any split with our kernels, or the user's, on the GPU that opsplitd says.
#pragma once

#include "operators/cuda/cuda_program.hpp"
#include "operators/cuda/gpu_site.hpp"

namespace opsplit::operators::cuda {

// The process's exit code; errors are one line on stderr.
int gpu_operator_program(int argc, char** argv, const OpenGpu& open,
                         const CustomCudaKernels& custom = {});

}  // namespace opsplit::operators::cuda
