// All kernels on a GPU, by operation.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "operators/cuda/gpu.hpp"
#include "operators/kernels/kernel_spec.hpp"

namespace opsplit::operators::cuda {

// A node that takes post-ops takes any: those that its library does not compute with it are one pass
// over its output.
struct CudaKernelKind {
  std::string_view op_type;
  Result<std::unique_ptr<CudaKernel>> (*make)(const KernelSpec& spec, Gpu& gpu);
  bool takes_post_ops;
};

std::vector<std::string> cuda_kernel_op_types();

// Null if there is no kernel for it.
const CudaKernelKind* find_cuda_kernel(std::string_view op_type);

// The kernel for a node, whatever its operation. `gpu` outlives it. Errors name the node; unsupported:
// types or attributes that only the CPU's kernels have.
Result<std::unique_ptr<CudaKernel>> make_cuda_kernel(const KernelSpec& spec, Gpu& gpu);

// Copies a tensor of any type.
Result<std::unique_ptr<CudaKernel>> make_copy(const TensorType& type, Gpu& gpu);

// One file each.
Result<std::unique_ptr<CudaKernel>> make_convolution(const KernelSpec&, Gpu&);
Result<std::unique_ptr<CudaKernel>> make_gemm(const KernelSpec&, Gpu&);
Result<std::unique_ptr<CudaKernel>> make_matmul(const KernelSpec&, Gpu&);
Result<std::unique_ptr<CudaKernel>> make_pointwise(const KernelSpec&, Gpu&);
Result<std::unique_ptr<CudaKernel>> make_cast(const KernelSpec&, Gpu&);
Result<std::unique_ptr<CudaKernel>> make_batch_normalization(const KernelSpec&, Gpu&);
Result<std::unique_ptr<CudaKernel>> make_pool(const KernelSpec&, Gpu&);
Result<std::unique_ptr<CudaKernel>> make_global_pool(const KernelSpec&, Gpu&);
Result<std::unique_ptr<CudaKernel>> make_softmax(const KernelSpec&, Gpu&);
Result<std::unique_ptr<CudaKernel>> make_concat(const KernelSpec&, Gpu&);
Result<std::unique_ptr<CudaKernel>> make_transpose(const KernelSpec&, Gpu&);
Result<std::unique_ptr<CudaKernel>> make_pad(const KernelSpec&, Gpu&);

// -- What they share ------------------------------------------------------------------------------

// The type that all of `operands` have; an error if they differ, or it is none that we compute with.
Result<Element> element_of(const KernelSpec& spec, std::span<const Operand* const> operands);

// As float32, since what reads attributes and shapes knows no other type; the element is checked apart.
TensorType as_float32(const TensorType& type);

// One piece of work of our own; `bind` puts the pointers of a launch into it.
template <class W, class Bind>
class OneWork final : public CudaKernel {
 public:
  OneWork(Gpu& gpu, const W& work, Bind bind) : gpu_(gpu), work_(work), bind_(std::move(bind)) {}

  Result<> launch(std::span<const DeviceView> inputs, std::span<const MutableDeviceView> outputs,
                  std::byte*, Stream stream) override {
    W bound = work_;
    bind_(bound, inputs, outputs);
    return gpu_.enqueue(bound, stream);
  }

 private:
  Gpu& gpu_;
  const W work_;
  const Bind bind_;
};

template <class W, class Bind>
std::unique_ptr<CudaKernel> one_work(Gpu& gpu, const W& work, Bind bind) {
  return std::make_unique<OneWork<W, Bind>>(gpu, work, std::move(bind));
}

// The usual one: from the first input to the output.
template <class W>
std::unique_ptr<CudaKernel> one_work(Gpu& gpu, const W& work) {
  return one_work(gpu, work, [](W& bound, auto inputs, auto outputs) {
    bound.x = inputs[0].data;
    bound.y = outputs[0].data;
  });
}

}  // namespace opsplit::operators::cuda
