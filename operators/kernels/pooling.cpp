#include "operators/kernels/pooling.hpp"

#include "operators/kernels/kernels.hpp"
#include "operators/kernels/onednn.hpp"
#include "operators/kernels/primitive_kernel.hpp"

namespace opsplit::operators {

Result<std::unique_ptr<Kernel>> make_pooling(const KernelSpec& spec,
                                             const KernelResources& resources) {
  const graph::Node& node = *spec.node;
  const Operand& x = spec.inputs[0];
  const Operand& y = spec.outputs[0];
  if (spec.outputs.size() > 1 && spec.outputs[1].present)
    return fail(ErrorCode::invalid_input, "{}'s indices are not supported", node.op_type);
  if (x.type.dtype != float32) return make_reference(spec, resources);
  const bool global = node.op_type.starts_with("Global");
  OPSPLIT_TRY(const Window window,
              global ? global_window(x.type, y.type) : read_pool(node, x.type, y.type));
  const bool count_padding = node.integer("count_include_pad", 0) != 0;
  // oneDNN counts what ceil_mode adds as padding, ONNX does not.
  if (node.op_type == "AveragePool" && count_padding && window.overhangs)
    return make_reference(spec, resources);
  const auto algorithm = node.op_type.ends_with("MaxPool") ? onednn::PoolingAlgorithm::maximum
                         : count_padding ? onednn::PoolingAlgorithm::average_with_padding
                                         : onednn::PoolingAlgorithm::average_without_padding;
  auto operation = onednn::pooling(algorithm, onednn::desc_of(x.type.shape, x.layout),
                                   onednn::desc_of(y.type.shape, y.layout), window);
  if (!operation) return make_reference(spec, resources);
  return make_primitive_kernel(std::move(*operation), {}, resources);
}

}  // namespace opsplit::operators
