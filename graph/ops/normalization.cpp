#include "graph/ops/infer.hpp"

namespace opsplit::graph::ops {

Result<Types> infer_batch_normalization(const Site& site) {
  OPSPLIT_CHECK(check_floating(site.type(0)));
  if (!check_same_dtype(site))
    return fail(ErrorCode::unsupported, "parameters of another type than {} are not supported",
                to_string(site.type(0).dtype));
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

// Scale and bias broadcast to the axes that are normalised. Mean and inverse deviation follow, of size 1 there.
Result<Types> infer_layer_normalization(const Site& site) {
  OPSPLIT_CHECK(check_floating(site.type(0)));
  OPSPLIT_CHECK(check_same_dtype(site));
  const Shape& in = site.shape(0);
  OPSPLIT_TRY(const std::size_t axis, normal_axis(site.node().integer("axis", -1), in.rank()));
  OPSPLIT_TRY(const Shape normalised, Shape::from(in.dims().subspan(axis)));
  for (std::size_t i = 1; i < site.inputs(); ++i) {
    if (!site.has(i)) continue;
    const auto fits = broadcast(normalised, site.shape(i));
    if (!fits || *fits != normalised)
      return fail(ErrorCode::invalid_input, "input {} is {}, must broadcast to {}", i,
                  to_string(site.shape(i)), to_string(normalised));
  }
  TensorType statistics{float32, in};
  for (std::size_t i = axis; i < in.rank(); ++i) statistics.shape[i] = 1;
  return Types{site.type(0), statistics, statistics};
}

Result<Types> infer_group_normalization(const Site& site) {
  OPSPLIT_CHECK(check_floating(site.type(0)));
  OPSPLIT_CHECK(check_same_dtype(site));
  if (site.rank(0) < 3)
    return fail(ErrorCode::invalid_input, "input 0 is {}, must be an image (rank 3 or more)",
                to_string(site.type(0)));
  const std::int64_t channels = site.shape(0)[1];
  const bool in_groups = site.node().op_type == "GroupNormalization";
  const std::int64_t groups = in_groups ? site.node().integer("num_groups", 0) : channels;
  if (in_groups && (groups < 1 || channels % groups != 0))
    return fail(ErrorCode::invalid_input, "num_groups {} does not divide {} channels", groups,
                channels);
  // One number per group until operator set 20, per channel since.
  const std::int64_t numbers = in_groups && site.opset() < 21 ? groups : channels;
  for (const std::size_t i : {1u, 2u})
    if (site.shape(i) != Shape{numbers})
      return fail(ErrorCode::invalid_input, "input {} is {}, must have {} numbers", i,
                  to_string(site.shape(i)), numbers);
  return infer_same(site);
}

}  // namespace opsplit::graph::ops
