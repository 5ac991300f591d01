// opsplit._cuda: a GPU by CUDA's runtime, which is linked statically. Without cuDNN and cuBLAS: convolutions and
// products are for the functions of users, or for opsplit-operator-cuda.
#include "ipc/cuda_driver.hpp"
#include "operators/cuda/cuda_gpu.hpp"
#include "operators/python/gpu.hpp"

PYBIND11_MODULE(_cuda, module) {
  using namespace opsplit;
  static const operators::cuda::OpenGpu open{ipc::open_cuda_device,
                                             []() -> Result<std::unique_ptr<operators::cuda::Gpu>> {
                                               return std::make_unique<operators::cuda::CudaGpu>();
                                             }};
  module.attr("gpu") = pybind11::capsule(&open, python::gpu_capsule);
}
