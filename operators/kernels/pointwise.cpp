// Activations, and Add, Sub, Mul, Div, Sum, Max, Min of any number of tensors.
#include <algorithm>
#include <utility>

#include "operators/kernels/index_space.hpp"
#include "operators/kernels/kernels.hpp"
#include "operators/kernels/onednn.hpp"
#include "operators/kernels/primitive_kernel.hpp"
#include "operators/kernels/sequence.hpp"

namespace opsplit::operators {
namespace {

// One long row, where no padding lies between the elements: the shape oneDNN is fastest with.
onednn::Desc flat_desc(const Operand& operand) {
  const auto elements = operand.type.shape.elements();
  const auto bytes = byte_size(operand.type, operand.layout);
  if (elements && bytes && static_cast<std::uint64_t>(*elements) * sizeof(float) == *bytes)
    return onednn::plain_desc({*elements});
  return onednn::desc_of(operand.type.shape, operand.layout);
}

Result<std::unique_ptr<Kernel>> slowly(const KernelSpec& spec, const KernelResources& resources) {
  OPSPLIT_TRY(auto reference, make_reference(without_post_ops(spec), resources));
  return with_separate_post_ops(std::move(reference), spec, resources);
}

}  // namespace

Result<std::unique_ptr<Kernel>> make_activation(const KernelSpec& spec,
                                                const KernelResources& resources) {
  const Operand& x = spec.inputs[0];
  std::vector<const graph::Constant*> constants;
  for (const Operand& input : spec.inputs) constants.push_back(input.constant);
  const auto activation = activation_of(*spec.node, spec.opset, constants);
  if (!activation || x.type.dtype != float32 || x.type != spec.outputs[0].type)
    return slowly(spec, resources);
  // The first function from x to y, the others, if it is made of several, on y.
  KernelSpec rest = spec;
  const auto functions = onednn::eltwise_of(*activation);
  if (functions.empty()) return slowly(spec, resources);
  OPSPLIT_TRY(auto operation, onednn::eltwise(functions[0], flat_desc(x)));
  OPSPLIT_TRY(std::unique_ptr<Kernel> kernel,
              make_primitive_kernel(std::move(operation), {}, resources));
  if (activation->function == ActivationFunction::hard_sigmoid)
    rest.post_ops.insert(rest.post_ops.begin(),
                         post_op(Activation{ActivationFunction::clip, 0.0F, 1.0F}));
  return with_separate_post_ops(std::move(kernel), rest, resources);
}

Result<std::unique_ptr<Kernel>> make_binary(const KernelSpec& spec,
                                            const KernelResources& resources) {
  const Operand& y = spec.outputs[0];
  const auto function = binary_function_of(spec.node->op_type);
  const std::size_t count = spec.node->inputs.size();
  for (std::size_t i = 0; i < count; ++i)
    if (!spec.inputs[i].present || spec.inputs[i].type.dtype != y.type.dtype ||
        !is_broadcastable(spec.inputs[i].type.shape, y.type.shape))
      return fail(ErrorCode::invalid_input, "{} of {} giving {}", spec.node->op_type,
                  to_string(spec.inputs[i].type), to_string(y.type));
  if (!function || y.type.dtype != float32) return slowly(spec, resources);

  // oneDNN broadcasts the second operand only: one of the output's shape has to come first.
  std::vector<std::size_t> order(count);
  for (std::size_t i = 0; i < count; ++i) order[i] = i;
  if (is_commutative(*function))
    std::stable_partition(order.begin(), order.end(),
                          [&](std::size_t i) { return spec.inputs[i].type.shape == y.type.shape; });
  if (spec.inputs[order[0]].type.shape != y.type.shape) return slowly(spec, resources);
  if (count == 1) {
    OPSPLIT_TRY(auto copy, make_copy(spec.inputs[0], y, resources));
    return with_separate_post_ops(std::move(copy), spec, resources);
  }

  KernelSpec chain = spec;  // the third operand and those after it are post-ops
  std::vector<PostOp> more;
  for (std::size_t i = 2; i < count; ++i) more.push_back(post_op(*function, order[i]));
  chain.post_ops.insert(chain.post_ops.begin(), more.begin(), more.end());
  const std::size_t rank = y.type.shape.rank();
  OPSPLIT_TRY(const auto post_ops, onednn::post_ops_of(chain, rank));
  const onednn::Desc a = onednn::operand_desc(spec.inputs[order[0]], rank);
  const onednn::Desc b = onednn::operand_desc(spec.inputs[order[1]], rank);
  auto operation =
      onednn::binary(*function, a, b, onednn::desc_of(y.type.shape, y.layout), post_ops);
  if (!operation) return slowly(spec, resources);
  OPSPLIT_TRY(auto kernel, PrimitiveKernel::make(std::move(*operation), resources));
  OPSPLIT_CHECK(kernel->bind_input(DNNL_ARG_SRC_0, a, order[0]));
  OPSPLIT_CHECK(kernel->bind_input(DNNL_ARG_SRC_1, b, order[1]));
  OPSPLIT_CHECK(kernel->bind_output(DNNL_ARG_DST, kernel->operation().dst, 0));
  OPSPLIT_CHECK(kernel->bind_post_ops(post_ops));
  return kernel;
}

}  // namespace opsplit::operators
