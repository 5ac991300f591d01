// The GPU that is current for the calling thread (cudaSetDevice): CUDA's runtime, cuDNN and cuBLAS.
#pragma once

#include "operators/cuda/gpu.hpp"

namespace opsplit::operators::cuda {

// Makes the libraries' contexts (some hundred MB of device memory, and about a second) on a GPU that
// ipc::open_cuda_device() has opened, which says what keeps a process from using one. Every call has to come
// from threads whose current device is the same. Errors: what the libraries say.
Result<std::unique_ptr<Gpu>> open_gpu();

}  // namespace opsplit::operators::cuda
