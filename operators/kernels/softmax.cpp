#include "operators/kernels/kernels.hpp"
#include "operators/kernels/normalization.hpp"
#include "operators/kernels/onednn.hpp"
#include "operators/kernels/primitive_kernel.hpp"

namespace opsplit::operators {

Result<std::unique_ptr<Kernel>> make_softmax(const KernelSpec& spec,
                                             const KernelResources& resources) {
  if (spec.inputs[0].type.dtype != float32) return make_reference(spec, resources);
  OPSPLIT_TRY(const Softmax softmax,
              read_softmax(*spec.node, spec.opset, spec.inputs[0].type, spec.outputs[0].type));
  const onednn::Dims dims = softmax.inner == 1
                                ? onednn::Dims{softmax.outer, softmax.size}
                                : onednn::Dims{softmax.outer, softmax.size, softmax.inner};
  auto operation = onednn::softmax(onednn::plain_desc(dims), 1);
  if (!operation) return make_reference(spec, resources);
  return make_primitive_kernel(std::move(*operation), {}, resources);
}

}  // namespace opsplit::operators
