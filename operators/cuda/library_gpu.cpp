#include "operators/cuda/library_gpu.hpp"

#include <tuple>

#include "operators/cuda/cuda_gpu.hpp"
#include "operators/cuda/cudnn_convolver.hpp"
#include "operators/cuda/library_status.hpp"

namespace opsplit::operators::cuda {
namespace {

// What NVIDIA recommends for the GPUs with the most to gain from it.
constexpr std::uint64_t product_workspace = std::uint64_t{32} << 20;

class LibraryGpu final : public CudaGpu {
 public:
  LibraryGpu() = default;
  ~LibraryGpu() override {
    if (cudnn_ != nullptr) cudnnDestroy(cudnn_);
    if (cublas_ != nullptr) cublasDestroy(cublas_);
  }

  Result<> open() {
    OPSPLIT_CHECK(checked(cudnnCreate(&cudnn_), "cudnnCreate"));
    OPSPLIT_CHECK(checked(cublasCreate(&cublas_), "cublasCreate"));
    // Sums of float16 products stay float32 until the last.
    constexpr auto math = static_cast<cublasMath_t>(
        CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION);
    return checked(cublasSetMathMode(cublas_, math), "cublasSetMathMode");
  }

  Result<std::unique_ptr<Convolver>> convolver(const ConvolutionCall& call) override {
    return make_cudnn_convolver(call, cudnn_, *this);
  }

  [[nodiscard]] std::uint64_t product_workspace_bytes() const override { return product_workspace; }

  // cuBLAS has columns where we have rows: a row-major matrix is, as it lies, the transposed one of
  // cuBLAS's, and so y' = b' a'.
  Result<> multiply(const MatrixProduct& product, const void* a, const void* b, void* y,
                    std::byte* workspace, Stream stream) override {
    OPSPLIT_CHECK(checked(cublasSetStream(cublas_, stream), "cublasSetStream"));
    OPSPLIT_CHECK(
        checked(cublasSetWorkspace(cublas_, workspace, product_workspace), "cublasSetWorkspace"));
    const auto operation = [](bool transposed) { return transposed ? CUBLAS_OP_T : CUBLAS_OP_N; };
    const cudaDataType type = product.element == Element::float16 ? CUDA_R_16F : CUDA_R_32F;
    const auto& [rows, inner, columns] = std::tie(product.rows, product.inner, product.columns);
    constexpr float zero = 0;
    return checked(
        cublasGemmStridedBatchedEx_64(
            cublas_, operation(product.transpose_b), operation(product.transpose_a), columns, rows,
            inner, &product.alpha, b, type, product.transpose_b ? inner : columns, product.b_stride,
            a, type, product.transpose_a ? rows : inner, product.a_stride, &zero, y, type, columns,
            product.y_stride, product.batch, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
        "cublasGemmStridedBatchedEx");
  }

 private:
  cudnnHandle_t cudnn_ = nullptr;
  cublasHandle_t cublas_ = nullptr;
};

}  // namespace

Result<std::unique_ptr<Gpu>> open_gpu() {
  auto gpu = std::make_unique<LibraryGpu>();
  OPSPLIT_CHECK(gpu->open());
  return gpu;
}

}  // namespace opsplit::operators::cuda
