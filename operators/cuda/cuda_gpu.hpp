// The GPU that is current for the calling thread (cudaSetDevice), by CUDA's runtime alone: memory and our own kernels.
// What takes cuDNN and cuBLAS is unsupported; library_gpu.hpp adds it.
//
// ipc::open_cuda_device() has opened the GPU, and says what keeps a process from using one. Every call has to come from
// threads whose current device is the same.
#pragma once

#include <cuda_runtime_api.h>

#include "operators/cuda/gpu.hpp"

namespace opsplit::operators::cuda {

class CudaGpu : public Gpu {
 public:
  Result<std::shared_ptr<std::byte>> allocate(std::uint64_t bytes) override;
  Result<> upload(std::byte* to, std::span<const std::byte> from) override;
  Result<> enqueue(const Work& work, Stream stream) override;
  Result<std::unique_ptr<Convolver>> convolver(const ConvolutionCall& call) override;
  [[nodiscard]] std::uint64_t product_workspace_bytes() const override { return 0; }
  Result<> multiply(const MatrixProduct& product, const void* a, const void* b, void* y,
                    std::byte* workspace, Stream stream) override;
  // Asks, since the libraries hide what has happened behind errors of their own.
  [[nodiscard]] bool lost() const override;

 private:
  Result<> seen(cudaError_t status, std::string_view what);

  bool lost_ = false;
};

}  // namespace opsplit::operators::cuda
