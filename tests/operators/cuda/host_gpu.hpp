// A GPU that is this machine's memory and CPU: our kernels' bodies in loops, cuDNN's and cuBLAS's part
// written down plainly. What is enqueued is done when the call returns.
#pragma once

#include "operators/cuda/gpu.hpp"

namespace opsplit::operators::cuda::testing {

class HostGpu final : public Gpu {
 public:
  // As a library that fuses nothing.
  bool fuses = true;
  std::uint64_t allocated = 0;  // bytes, so far
  std::size_t enqueued = 0;     // pieces of our own work, so far

  Result<std::shared_ptr<std::byte>> allocate(std::uint64_t bytes) override;
  Result<> upload(std::byte* to, std::span<const std::byte> from) override;
  Result<> enqueue(const Work& work, Stream stream) override;
  Result<std::unique_ptr<Convolver>> convolver(const ConvolutionCall& call) override;
  [[nodiscard]] std::uint64_t product_workspace_bytes() const override { return 4096; }
  Result<> multiply(const MatrixProduct& product, const void* a, const void* b, void* y,
                    std::byte* workspace, Stream stream) override;
  [[nodiscard]] bool lost() const override { return false; }
};

}  // namespace opsplit::operators::cuda::testing
