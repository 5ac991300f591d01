// The GPU that is current for the calling thread (cudaSetDevice): CUDA's runtime, cuDNN and cuBLAS.
#pragma once

#include "operators/cuda/gpu.hpp"

namespace opsplit::operators::cuda {

// Makes the process's context and the libraries' (together some hundred MB of device memory, and about
// a second). Every call has to come from threads whose current device is the same. Errors: unavailable
// (no driver, too old a driver, no GPU that this process may use), or what the libraries say.
Result<std::unique_ptr<Gpu>> open_gpu();

}  // namespace opsplit::operators::cuda
