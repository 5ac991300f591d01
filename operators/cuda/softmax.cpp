#include <array>

#include "operators/cuda/cuda_kernels.hpp"
#include "operators/kernels/normalization.hpp"

namespace opsplit::operators::cuda {

Result<std::unique_ptr<CudaKernel>> make_softmax(const KernelSpec& spec, Gpu& gpu) {
  const Operand& x = spec.inputs[0];
  const Operand& y = spec.outputs[0];
  OPSPLIT_TRY(const Element element, element_of(spec, std::array{&x, &y}));
  OPSPLIT_TRY(const Softmax softmax,
              read_softmax(*spec.node, spec.opset, as_float32(x.type), as_float32(y.type)));
  return one_work(gpu, SoftmaxRows{.element = element,
                                   .outer = softmax.outer,
                                   .size = softmax.size,
                                   .inner = softmax.inner});
}

}  // namespace opsplit::operators::cuda
