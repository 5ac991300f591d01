#include "graph/ops/infer.hpp"

namespace opsplit::graph::ops {

Result<Types> infer_reduce(const Site& site) {
  // A maximum or minimum of bool is there since operator set 20.
  if (site.node().op_type != "ReduceMax" && site.node().op_type != "ReduceMin")
    OPSPLIT_CHECK(infer_unary_number(site));
  const Shape& in = site.shape(0);
  OPSPLIT_TRY(const Dims axes, site.integers("axes", 1));
  OPSPLIT_TRY(auto reduced, axis_mask(axes, in.rank()));
  const bool keep = site.node().integer("keepdims", 1) != 0;
  if (axes.empty()) reduced.assign(in.rank(), site.node().integer("noop_with_empty_axes", 0) == 0);
  Dims dims;
  for (std::size_t axis = 0; axis < in.rank(); ++axis) {
    if (!reduced[axis])
      dims.push_back(in[axis]);
    else if (keep)
      dims.push_back(1);
  }
  OPSPLIT_TRY(const TensorType type, with_dims(site.type(0).dtype, dims));
  return Types{type};
}

Result<Types> infer_arg_extreme(const Site& site) {
  OPSPLIT_CHECK(infer_unary_number(site));
  const Shape& in = site.shape(0);
  OPSPLIT_TRY(const std::size_t axis, normal_axis(site.node().integer("axis", 0), in.rank()));
  const bool keep = site.node().integer("keepdims", 1) != 0;
  Dims dims(in.begin(), in.end());
  if (keep)
    dims[axis] = 1;
  else
    dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(axis));
  OPSPLIT_TRY(const TensorType type, with_dims(int64, dims));
  return Types{type};
}

// k is an attribute until operator set 9, an input since.
Result<Types> infer_top_k(const Site& site) {
  OPSPLIT_CHECK(infer_unary_number(site));
  OPSPLIT_TRY(const std::size_t axis, normal_axis(site.node().integer("axis", -1), site.rank(0)));
  Dims k{site.node().integer("k", -1)};
  if (site.has(1)) {
    OPSPLIT_TRY(k, site.integers(1, "k"));
  }
  if (k.size() != 1 || k[0] < 0 || k[0] > site.shape(0)[axis])
    return fail(ErrorCode::invalid_input, "k does not fit axis {} of {}", axis,
                to_string(site.shape(0)));
  TensorType values = site.type(0);
  values.shape[axis] = k[0];
  return Types{values, {int64, values.shape}};
}

Result<Types> infer_cumulative_sum(const Site& site) {
  if (site.type(1).dtype != int32 && site.type(1).dtype != int64)
    return fail(ErrorCode::invalid_input, "axis (input 1) is {}, must be int32 or int64",
                to_string(site.type(1)));
  if (site.constant(1) != nullptr) {
    OPSPLIT_TRY(const Dims axis, site.integers(1, "axis"));
    if (axis.size() != 1) return fail(ErrorCode::invalid_input, "has {} axes", axis.size());
    OPSPLIT_CHECK(normal_axis(axis[0], site.rank(0)));
  }
  return infer_unary_number(site);
}

}  // namespace opsplit::graph::ops
