#include "operators/kernels/normalization.hpp"

#include <algorithm>
#include <cstring>

#include "operators/aligned_memory.hpp"
#include "operators/kernels/kernels.hpp"
#include "operators/kernels/onednn.hpp"
#include "operators/kernels/primitive_kernel.hpp"
#include "operators/kernels/sequence.hpp"

namespace opsplit::operators {
namespace {

// One value per channel, zero-padded to whole blocks. Blocked or not, channels come in order.
std::shared_ptr<AlignedMemory> per_channel(const std::vector<double>& values, std::size_t bytes) {
  auto memory = std::make_shared<AlignedMemory>(bytes);
  std::memset(memory->data(), 0, bytes);
  std::transform(values.begin(), values.end(), reinterpret_cast<float*>(memory->data()),
                 [](double value) { return static_cast<float>(value); });
  return memory;
}

}  // namespace

Result<std::unique_ptr<Kernel>> make_lrn(const KernelSpec& spec, const KernelResources& resources) {
  const Operand& x = spec.inputs[0];
  if (x.type.dtype != float32) return make_reference(spec, resources);
  OPSPLIT_TRY(const Lrn lrn, read_lrn(*spec.node, x.type, spec.outputs[0].type));
  // oneDNN's window is symmetric.
  if (lrn.size % 2 == 0) return make_reference(spec, resources);
  auto operation = onednn::local_response_normalization(onednn::desc_of(x.type.shape, x.layout),
                                                        lrn.size, lrn.alpha, lrn.beta, lrn.bias);
  if (!operation) return make_reference(spec, resources);
  return make_primitive_kernel(std::move(*operation), {}, resources);
}

// A multiplication by a factor per channel, and the addition of another as its first post-op:
// oneDNN's own normalisation would read mean and variance once more for each image.
Result<std::unique_ptr<Kernel>> make_batch_normalization(const KernelSpec& spec,
                                                         const KernelResources& resources) {
  const Operand& x = spec.inputs[0];
  std::vector<TensorView> parameters;
  for (std::size_t input = 1; input < 5 && input < spec.node->inputs.size(); ++input)
    if (const graph::Constant* constant = spec.inputs[input].constant)
      parameters.push_back({constant->type, Layout::row_major, constant->bytes.data()});
  for (std::size_t output = 1; output < spec.outputs.size(); ++output)
    if (spec.outputs[output].present)
      return fail(ErrorCode::invalid_input,
                  "BatchNormalization has one output, except in training");
  // Other types, or parameters that the model computes itself.
  if (x.type.dtype != float32 || parameters.size() < 4) {
    OPSPLIT_TRY(auto reference, make_reference(without_post_ops(spec), resources));
    return with_separate_post_ops(std::move(reference), spec, resources);
  }
  OPSPLIT_TRY(const BatchNormalization normalization,
              read_batch_normalization(*spec.node, x.type, parameters, spec.outputs[0].type));

  Operand operand{.type = {float32, x.type.shape}, .layout = x.layout};
  for (std::size_t axis = 0; axis < x.type.shape.rank(); ++axis)
    if (axis != 1) operand.type.shape[axis] = 1;
  KernelSpec shifted = spec;
  const std::size_t addend_input = shifted.inputs.size();
  shifted.inputs.push_back(operand);
  shifted.post_ops.insert(shifted.post_ops.begin(), post_op(BinaryFunction::add, addend_input));
  OPSPLIT_TRY(auto post_ops, onednn::post_ops_of(shifted, x.type.shape.rank()));
  const onednn::Desc desc = onednn::desc_of(x.type.shape, x.layout);
  const onednn::Desc channels = onednn::operand_desc(operand, x.type.shape.rank());
  OPSPLIT_TRY(auto operation,
              onednn::binary(BinaryFunction::multiply, desc, channels, desc, post_ops));
  // The addend is no input of the kernel: it is bound as a constant.
  const onednn::PostOps::Operand addend = post_ops.operands.front();
  post_ops.operands.erase(post_ops.operands.begin());
  OPSPLIT_TRY(auto kernel, make_primitive_kernel(std::move(operation), post_ops, resources));
  const auto factors = per_channel(normalization.factor, channels.get_size());
  const auto addends = per_channel(normalization.addend, channels.get_size());
  OPSPLIT_CHECK(kernel->bind_constant(DNNL_ARG_SRC_1, channels, factors->data(), factors));
  OPSPLIT_CHECK(kernel->bind_constant(addend.argument, channels, addends->data(), addends));
  return kernel;
}

}  // namespace opsplit::operators
