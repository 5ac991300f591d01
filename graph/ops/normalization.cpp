#include "graph/ops/infer.hpp"

namespace opsplit::graph::ops {

Result<Types> infer_batch_normalization(const Site& site) {
  OPSPLIT_CHECK(check_floating(site.type(0)));
  OPSPLIT_CHECK(check_same_dtype(site));
  if (site.node().integer("training_mode", 0) != 0)
    return fail(ErrorCode::invalid_input, "training_mode is set: export the model for inference");
  if (site.node().integer("spatial", 1) != 1)
    return fail(ErrorCode::unsupported, "spatial = 0 is not supported");
  if (site.rank(0) < 2)
    return fail(ErrorCode::invalid_input, "input 0 is {}, must have channels (rank 2 or more)",
                to_string(site.type(0)));
  for (std::size_t i = 1; i < site.inputs(); ++i)
    if (site.shape(i) != Shape{site.shape(0)[1]})
      return fail(ErrorCode::invalid_input,
                  "input {} is {}, must have one number for each of {} channels", i,
                  to_string(site.shape(i)), site.shape(0)[1]);
  return infer_same(site);
}

Result<Types> infer_lrn(const Site& site) {
  const std::int64_t size = site.node().integer("size", 0);
  if (size < 1) return fail(ErrorCode::invalid_input, "size {}: must be at least 1", size);
  if (site.rank(0) < 2)
    return fail(ErrorCode::invalid_input, "input 0 is {}, must have channels (rank 2 or more)",
                to_string(site.type(0)));
  return infer_unary_float(site);
}

Result<Types> infer_softmax(const Site& site) {
  const std::int64_t axis = site.node().integer("axis", site.opset() < 13 ? 1 : -1);
  OPSPLIT_CHECK(normal_axis(axis, site.rank(0)));
  return infer_unary_float(site);
}

}  // namespace opsplit::graph::ops
