// Python functions as kernels on a GPU: PythonKernel, on tensors that are taken by DLPack.
#pragma once

#include <memory>
#include <vector>

#include "operators/cuda/cuda_kernel.hpp"
#include "operators/python/python_kernel.hpp"

namespace opsplit::python {

class PythonCudaKernel final : public operators::cuda::CudaKernel {
 public:
  // As PythonKernel; no output varies.
  PythonCudaKernel(py::object function, PythonKernel::Style style, const py::dict& keywords,
                   std::vector<PythonKernel::Operand> inputs,
                   std::vector<PythonKernel::Operand> outputs,
                   std::shared_ptr<OperatorStream> stream);

  // On the stream that it was made for.
  Result<> launch(std::span<const operators::cuda::DeviceView> inputs,
                  std::span<const operators::cuda::MutableDeviceView> outputs, std::byte* workspace,
                  operators::cuda::Stream stream) override;
  [[nodiscard]] std::uint64_t bytes_copied() const override { return kernel_.bytes_copied(); }

 private:
  std::shared_ptr<OperatorStream> stream_;
  PythonKernel kernel_;
  std::vector<operators::TensorView> reads_;  // kept from launch to launch
  std::vector<operators::MutableTensorView> writes_;
};

}  // namespace opsplit::python
