#include "operators/cuda/cuda_gpu.hpp"

#include "operators/cuda/cuda_status.hpp"
#include "operators/cuda/launch.hpp"

namespace opsplit::operators::cuda {

Result<std::shared_ptr<std::byte>> CudaGpu::allocate(std::uint64_t bytes) {
  if (bytes == 0) return std::shared_ptr<std::byte>();
  void* memory = nullptr;
  OPSPLIT_CHECK(seen(cudaMalloc(&memory, bytes), "cudaMalloc"));
  return std::shared_ptr<std::byte>(static_cast<std::byte*>(memory), cudaFree);
}

Result<> CudaGpu::upload(std::byte* to, std::span<const std::byte> from) {
  OPSPLIT_CHECK(
      seen(cudaMemcpy(to, from.data(), from.size(), cudaMemcpyHostToDevice), "cudaMemcpy"));
  // From memory that is not pinned it returns before the last bytes are there, and no stream of ours waits.
  return seen(cudaStreamSynchronize(nullptr), "cudaStreamSynchronize");
}

Result<> CudaGpu::enqueue(const Work& work, Stream stream) {
  const LaunchStatus status =
      std::visit([&](const auto& each) { return launch(each, stream); }, work);
  return seen(static_cast<cudaError_t>(status), "a kernel's launch");
}

Result<std::unique_ptr<Convolver>> CudaGpu::convolver(const ConvolutionCall&) {
  return fail(ErrorCode::unsupported, "convolutions on a GPU take cuDNN, which this program lacks");
}

Result<> CudaGpu::multiply(const MatrixProduct&, const void*, const void*, void*, std::byte*,
                           Stream) {
  return fail(ErrorCode::unsupported, "products on a GPU take cuBLAS, which this program lacks");
}

bool CudaGpu::lost() const {
  const cudaError_t status = cudaStreamQuery(nullptr);
  if (status == cudaErrorNotReady) static_cast<void>(cudaGetLastError());  // no error, but kept
  return lost_ || is_sticky(status);
}

Result<> CudaGpu::seen(cudaError_t status, std::string_view what) {
  lost_ = lost_ || is_sticky(status);
  // An error stays until it is taken away, and would be the next call's.
  if (status != cudaSuccess) static_cast<void>(cudaGetLastError());
  return checked(status, what);
}

}  // namespace opsplit::operators::cuda
