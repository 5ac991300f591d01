#include <algorithm>

#include "graph/ops/infer.hpp"

namespace opsplit::graph::ops {

Result<Types> infer_reshape(const Site& site) {
  OPSPLIT_TRY(Dims dims, site.integers(1, "shape"));
  const Shape& in = site.shape(0);
  const bool zero_is_zero = site.node().integer("allowzero", 0) != 0;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] != 0 || zero_is_zero) continue;
    if (i >= in.rank())
      return fail(ErrorCode::invalid_input, "shape holds 0 at {}: input {} has no such dimension",
                  i, to_string(in));
    dims[i] = in[i];
  }
  const auto open = std::find(dims.begin(), dims.end(), -1);
  if (open != dims.end()) *open = 1;
  OPSPLIT_TRY(TensorType type, with_dims(site.type(0).dtype, dims));
  OPSPLIT_TRY(const std::int64_t wanted, type.shape.elements());  // refuses a second -1
  OPSPLIT_TRY(const std::int64_t found, in.elements());
  if (open != dims.end() && wanted > 0)
    type.shape[static_cast<std::size_t>(open - dims.begin())] = found / wanted;
  if (open != dims.end() ? wanted == 0 || found % wanted != 0 : found != wanted)
    return fail(ErrorCode::invalid_input, "cannot reshape {} to {}: other number of elements",
                to_string(in), to_string(type.shape));
  return Types{type};
}

Result<Types> infer_flatten(const Site& site) {
  const Shape& in = site.shape(0);
  const std::int64_t axis = site.node().integer("axis", 1);
  // Unlike elsewhere, the axis may lie behind the last one.
  std::size_t split = in.rank();
  if (axis != static_cast<std::int64_t>(in.rank())) {
    OPSPLIT_TRY(split, normal_axis(axis, in.rank()));
  }
  return Types{{site.type(0).dtype,
                Shape{product(in.dims().first(split)), product(in.dims().subspan(split))}}};
}

Result<Types> infer_squeeze(const Site& site) {
  const Shape& in = site.shape(0);
  OPSPLIT_TRY(const Dims axes, site.integers("axes", 1));
  OPSPLIT_TRY(const auto named, axis_mask(axes, in.rank()));
  Dims dims;
  for (std::size_t axis = 0; axis < in.rank(); ++axis) {
    if (named[axis] && in[axis] != 1)
      return fail(ErrorCode::invalid_input, "squeezes axis {} of {}, which is not 1", axis,
                  to_string(in));
    if (!named[axis] && !(axes.empty() && in[axis] == 1)) dims.push_back(in[axis]);
  }
  OPSPLIT_TRY(const TensorType type, with_dims(site.type(0).dtype, dims));
  return Types{type};
}

Result<Types> infer_unsqueeze(const Site& site) {
  const Shape& in = site.shape(0);
  OPSPLIT_TRY(const Dims axes, site.integers("axes", 1));
  OPSPLIT_TRY(const auto added, axis_mask(axes, in.rank() + axes.size()));
  Dims dims;
  std::size_t next = 0;
  for (const bool is_new : added) dims.push_back(is_new ? 1 : in[next++]);
  OPSPLIT_TRY(const TensorType type, with_dims(site.type(0).dtype, dims));
  return Types{type};
}

Result<Types> infer_shape(const Site& site) {
  // start and end (operator set 15) count like Python's: beyond the rank means the rank.
  const auto rank = static_cast<std::int64_t>(site.rank(0));
  const auto clamp = [rank](std::int64_t axis) {
    return std::clamp<std::int64_t>(axis < 0 ? axis + rank : axis, 0, rank);
  };
  const std::int64_t start = clamp(site.node().integer("start", 0));
  const std::int64_t end = clamp(site.node().integer("end", rank));
  return Types{{int64, Shape{std::max<std::int64_t>(0, end - start)}}};
}

Result<Types> infer_size(const Site& /*site*/) { return Types{{int64, {}}}; }

Result<Types> infer_constant(const Site& site) {
  const auto& attributes = site.node().attributes;
  if (attributes.size() != 1) return fail(ErrorCode::invalid_input, "must have one value");
  const auto& [name, value] = *attributes.begin();
  if (const auto* tensor = std::get_if<Constant>(&value)) return Types{tensor->type};
  if (name == "value_int") return Types{{int64, {}}};
  if (name == "value_float") return Types{{float32, {}}};
  if (const auto* list = std::get_if<std::vector<std::int64_t>>(&value))
    return Types{{int64, {static_cast<std::int64_t>(list->size())}}};
  if (const auto* list = std::get_if<std::vector<float>>(&value))
    return Types{{float32, {static_cast<std::int64_t>(list->size())}}};
  return fail(ErrorCode::unsupported, "{} is not supported", name);
}

Result<Types> infer_constant_of_shape(const Site& site) {
  OPSPLIT_TRY(const Dims dims, site.integers(0, "shape"));
  DType dtype = float32;
  if (const auto value = site.node().attributes.find("value");
      value != site.node().attributes.end()) {
    const auto* constant = std::get_if<Constant>(&value->second);
    if (constant == nullptr || constant->bytes.size() != constant->type.dtype.bytes())
      return fail(ErrorCode::invalid_input, "value must be a tensor of one element");
    dtype = constant->type.dtype;
  }
  OPSPLIT_TRY(const TensorType type, with_dims(dtype, dims));
  return Types{type};
}

}  // namespace opsplit::graph::ops
