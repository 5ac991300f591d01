// A GPU with all that our kernels need: CUDA's runtime, cuDNN and cuBLAS.
#pragma once

#include "operators/cuda/gpu.hpp"

namespace opsplit::operators::cuda {

// Makes the libraries' contexts (some hundred MB of device memory, and about a second) on the current GPU, as
// cuda_gpu.hpp has it. Errors: what the libraries say.
Result<std::unique_ptr<Gpu>> open_gpu();

}  // namespace opsplit::operators::cuda
