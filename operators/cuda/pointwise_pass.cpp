#include "operators/cuda/pointwise_pass.hpp"

#include <algorithm>

#include "operators/kernels/index_space.hpp"

namespace opsplit::operators::cuda {

Result<PointwisePass> PointwisePass::over(const Shape& y, Element element, std::size_t first,
                                          const Shape& shape) {
  PointwisePass pass;
  pass.y_ = y;
  pass.work_.element = element;
  pass.work_.rank = static_cast<std::int32_t>(y.rank());
  OPSPLIT_TRY(pass.work_.elements, y.elements());
  std::copy(y.begin(), y.end(), pass.work_.dims);
  OPSPLIT_CHECK(pass.add_operand(first, shape));
  return pass;
}

Result<std::int32_t> PointwisePass::add_operand(std::size_t input, const Shape& shape) {
  if (work_.operands == Pointwise::max_operands)
    return fail(ErrorCode::unsupported, "more than {} operands at once", Pointwise::max_operands);
  if (!is_broadcastable(shape, y_))
    return fail(ErrorCode::invalid_input, "an operand {} of {}", to_string(shape), to_string(y_));
  const Coordinates strides = broadcast_strides(shape, y_);
  std::copy(strides.begin(), strides.end(), work_.strides[work_.operands]);
  inputs_.push_back(input);
  return work_.operands++;
}

Result<> PointwisePass::add(const Pointwise::Step& step) {
  if (work_.steps == Pointwise::max_steps)
    return fail(ErrorCode::unsupported, "more than {} functions at once", Pointwise::max_steps);
  work_.step[work_.steps++] = step;
  return {};
}

Result<> PointwisePass::then(const Activation& activation) {
  return add(
      {.activation = activation.function, .alpha = activation.alpha, .beta = activation.beta});
}

Result<> PointwisePass::then(BinaryFunction function, std::size_t input, const Shape& shape,
                             float factor, bool operand_first) {
  OPSPLIT_TRY(const std::int32_t operand, add_operand(input, shape));
  return add({.is_binary = true,
              .operand_first = operand_first,
              .binary = function,
              .operand = operand,
              .alpha = factor});
}

Result<> PointwisePass::then(const PostOp& op, const KernelSpec& spec) {
  if (op.kind == PostOp::Kind::activation) return then(op.activation);
  return then(op.binary, op.operand, spec.inputs[op.operand].type.shape);
}

Result<> PointwisePass::add_by_channel(std::size_t input) {
  Shape shape = y_;
  for (std::size_t axis = 0; axis < shape.rank(); ++axis)
    if (axis != 1) shape[axis] = 1;
  return then(BinaryFunction::add, input, shape);
}

void PointwisePass::collapse() {
  // An axis of one element is never moved along.
  int rank = 0;
  for (int axis = 0; axis < work_.rank; ++axis) {
    if (work_.dims[axis] == 1) continue;
    const bool joins =
        rank > 0 && std::all_of(work_.strides, work_.strides + work_.operands,
                                [&](const std::int64_t* strides) {
                                  return strides[rank - 1] == strides[axis] * work_.dims[axis];
                                });
    const int to = joins ? rank - 1 : rank++;
    work_.dims[to] = (joins ? work_.dims[to] : 1) * work_.dims[axis];
    for (int i = 0; i < work_.operands; ++i) work_.strides[i][to] = work_.strides[i][axis];
  }
  work_.rank = rank;
}

Result<> PointwisePass::launch(Gpu& gpu, std::span<const DeviceView> inputs, void* y,
                               Stream stream) const {
  Pointwise bound = work_;
  bound.y = y;
  for (std::size_t i = 0; i < inputs_.size(); ++i)
    bound.data[i] = inputs_[i] == in_place ? y : inputs[inputs_[i]].data;
  return gpu.enqueue(bound, stream);
}

}  // namespace opsplit::operators::cuda
