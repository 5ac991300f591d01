#include "graph/ops/op.hpp"

#include <algorithm>
#include <functional>
#include <numeric>

namespace opsplit::graph::ops {

Result<Dims> Site::integers(std::size_t input, std::string_view what) const {
  const Constant* found = constant(input);
  if (found == nullptr)
    return fail(ErrorCode::unsupported,
                "{} (input {}) must be constant: shapes that depend on data are not supported",
                what, input);
  if (found->type.shape.rank() > 1)
    return fail(ErrorCode::invalid_input, "{} (input {}) is {}, must be a list", what, input,
                to_string(found->type));
  if (found->type.dtype == int64) {
    const auto elements = found->as<std::int64_t>();
    return Dims(elements.begin(), elements.end());
  }
  if (found->type.dtype == int32) {
    const auto elements = found->as<std::int32_t>();
    return Dims(elements.begin(), elements.end());
  }
  return fail(ErrorCode::invalid_input, "{} (input {}) is {}, must be int64", what, input,
              to_string(found->type.dtype));
}

Result<Dims> Site::integers(std::string_view attribute, std::size_t input) const {
  if (has(input)) return integers(input, attribute);
  return node_.integers(attribute);
}

Result<> check_arity(const Op& op, const Node& node) {
  if (node.inputs.size() < op.min_inputs || node.inputs.size() > op.max_inputs)
    return fail(ErrorCode::invalid_input, "has {} inputs, must have {}", node.inputs.size(),
                op.max_inputs == op.min_inputs ? fmt::format("{}", op.min_inputs)
                : op.max_inputs == any_number
                    ? fmt::format("at least {}", op.min_inputs)
                    : fmt::format("{} to {}", op.min_inputs, op.max_inputs));
  for (std::size_t i = 0; i < node.inputs.size(); ++i)
    if (node.inputs[i] == no_value && (i < op.min_inputs || op.max_inputs == any_number))
      return fail(ErrorCode::invalid_input, "input {} is missing", i);
  if (node.outputs.empty() || node.outputs.size() > op.max_outputs)
    return fail(
        ErrorCode::unsupported, "has {} outputs, {} supported", node.outputs.size(),
        op.max_outputs == 1 ? "only the first is" : fmt::format("1 to {} are", op.max_outputs));
  return {};
}

Result<std::size_t> normal_axis(std::int64_t axis, std::size_t rank) {
  const auto signed_rank = static_cast<std::int64_t>(rank);
  if (axis < -signed_rank || axis >= signed_rank)
    return fail(ErrorCode::invalid_input, "axis {} does not exist in rank {}", axis, rank);
  return static_cast<std::size_t>(axis < 0 ? axis + signed_rank : axis);
}

Result<std::vector<bool>> axis_mask(const Dims& axes, std::size_t rank) {
  std::vector<bool> mask(rank);
  for (const std::int64_t axis : axes) {
    OPSPLIT_TRY(const std::size_t index, normal_axis(axis, rank));
    if (mask[index]) return fail(ErrorCode::invalid_input, "axis {} is named twice", axis);
    mask[index] = true;
  }
  return mask;
}

Result<Shape> broadcast(const Shape& a, const Shape& b) {
  const Shape& longer = a.rank() >= b.rank() ? a : b;
  const Shape& shorter = a.rank() >= b.rank() ? b : a;
  Shape result = longer;
  const std::size_t lead = longer.rank() - shorter.rank();
  for (std::size_t i = 0; i < shorter.rank(); ++i) {
    std::int64_t& dim = result[lead + i];
    if (dim == 1)
      dim = shorter[i];
    else if (shorter[i] != 1 && shorter[i] != dim)
      return fail(ErrorCode::invalid_input, "shapes {} and {} do not broadcast", to_string(a),
                  to_string(b));
  }
  return result;
}

Result<> check_same_dtype(const Site& site) {
  for (std::size_t i = 1; i < site.inputs(); ++i)
    if (site.has(i) && site.type(i).dtype != site.type(0).dtype)
      return fail(ErrorCode::invalid_input, "input {} is {}, input 0 is {}: must be the same", i,
                  to_string(site.type(i).dtype), to_string(site.type(0).dtype));
  return {};
}

Result<> check_floating(const TensorType& type) {
  if (type.dtype.code == TypeCode::float_ || type.dtype.code == TypeCode::bfloat) return {};
  return fail(ErrorCode::invalid_input, "input 0 is {}, must be of a floating type",
              to_string(type));
}

std::int64_t product(std::span<const std::int64_t> dims) {
  return std::accumulate(dims.begin(), dims.end(), std::int64_t{1}, std::multiplies<>());
}

Result<TensorType> with_dims(DType dtype, const Dims& dims) {
  OPSPLIT_TRY(const Shape shape, Shape::from(dims));
  return TensorType{dtype, shape};
}

}  // namespace opsplit::graph::ops
