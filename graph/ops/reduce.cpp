#include "graph/ops/infer.hpp"

namespace opsplit::graph::ops {

Result<Types> infer_reduce(const Site& site) {
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

}  // namespace opsplit::graph::ops
