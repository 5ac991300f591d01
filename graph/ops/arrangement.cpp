#include <algorithm>
#include <cmath>

#include "graph/onnx_types.hpp"
#include "graph/ops/element.hpp"
#include "graph/ops/infer.hpp"

namespace opsplit::graph::ops {
namespace {

Result<std::int64_t> block_size(const Site& site) {
  const std::int64_t block = site.node().integer("blocksize", 0);
  if (block < 1 || block > INT32_MAX || site.rank(0) != 4)
    return fail(ErrorCode::invalid_input, "blocksize {} of input {}", block,
                to_string(site.type(0)));
  return block;
}

Result<> check_divides(std::int64_t block, std::int64_t size) {
  if (size % block == 0) return {};
  return fail(ErrorCode::invalid_input, "{} does not divide {}", block, size);
}

// How many numbers there are from `start` up (or down) to `limit`.
template <class T>
Result<std::int64_t> steps(const Site& site) {
  const T start = site.constant(0)->template as<T>()[0];
  const T limit = site.constant(1)->template as<T>()[0];
  const T step = site.constant(2)->template as<T>()[0];
  if (step == 0) return fail(ErrorCode::invalid_input, "delta is 0");
  const double count = std::ceil((static_cast<double>(limit) - static_cast<double>(start)) /
                                 static_cast<double>(step));
  if (!(count < 0x1p62)) return fail(ErrorCode::limit_exceeded, "would have {} elements", count);
  return std::max<std::int64_t>(0, static_cast<std::int64_t>(std::max(count, 0.0)));
}

}  // namespace

Result<Types> infer_expand(const Site& site) {
  OPSPLIT_TRY(const Dims dims, site.integers(1, "shape"));
  OPSPLIT_TRY(const Shape wanted, Shape::from(dims));
  OPSPLIT_TRY(const Shape shape, broadcast(site.shape(0), wanted));
  return Types{{site.type(0).dtype, shape}};
}

Result<Types> infer_tile(const Site& site) {
  OPSPLIT_TRY(const Dims repeats, site.integers(1, "repeats"));
  if (repeats.size() != site.rank(0))
    return fail(ErrorCode::invalid_input, "repeats has {} numbers for {}", repeats.size(),
                to_string(site.shape(0)));
  Types types{site.type(0)};
  for (std::size_t axis = 0; axis < repeats.size(); ++axis)
    if (repeats[axis] < 0 ||
        __builtin_mul_overflow(types[0].shape[axis], repeats[axis], &types[0].shape[axis]))
      return fail(ErrorCode::invalid_input, "{} repeats of axis {}", repeats[axis], axis);
  return types;
}

Result<Types> infer_matrices(const Site& site) {
  if (site.rank(0) < 2)
    return fail(ErrorCode::invalid_input, "input 0 is {}, must be of matrices (rank 2 or more)",
                to_string(site.type(0)));
  return infer_same(site);
}

Result<Types> infer_depth_to_space(const Site& site) {
  OPSPLIT_TRY(const std::int64_t block, block_size(site));
  const Shape& in = site.shape(0);
  OPSPLIT_CHECK(check_divides(block * block, in[1]));
  Dims dims{in[0], in[1] / (block * block), 0, 0};
  for (const std::size_t axis : {2u, 3u})
    if (__builtin_mul_overflow(in[axis], block, &dims[axis]))
      return fail(ErrorCode::limit_exceeded, "the output's axis {} overflows", axis);
  OPSPLIT_TRY(const TensorType type, with_dims(site.type(0).dtype, dims));
  return Types{type};
}

Result<Types> infer_space_to_depth(const Site& site) {
  OPSPLIT_TRY(const std::int64_t block, block_size(site));
  const Shape& in = site.shape(0);
  OPSPLIT_CHECK(check_divides(block, in[2]));
  OPSPLIT_CHECK(check_divides(block, in[3]));
  std::int64_t channels = 0;
  if (__builtin_mul_overflow(in[1], block * block, &channels))
    return fail(ErrorCode::limit_exceeded, "the output's channels overflow");
  OPSPLIT_TRY(const TensorType type,
              with_dims(site.type(0).dtype, {in[0], channels, in[2] / block, in[3] / block}));
  return Types{type};
}

Result<Types> infer_reverse_sequence(const Site& site) {
  const std::int64_t batch = site.node().integer("batch_axis", 1);
  const std::int64_t time = site.node().integer("time_axis", 0);
  if (site.rank(0) < 2 || batch < 0 || batch > 1 || time != 1 - batch)
    return fail(ErrorCode::invalid_input, "batch_axis {} and time_axis {} of {}", batch, time,
                to_string(site.type(0)));
  const TensorType wanted{int64, Shape{site.shape(0)[static_cast<std::size_t>(batch)]}};
  if (site.type(1) != wanted)
    return fail(ErrorCode::invalid_input, "sequence_lens (input 1) is {}, must be {}",
                to_string(site.type(1)), to_string(wanted));
  return infer_same(site);
}

Result<Types> infer_eye_like(const Site& site) {
  if (site.rank(0) != 2)
    return fail(ErrorCode::invalid_input, "input 0 is {}, must be a matrix",
                to_string(site.type(0)));
  if (!site.node().has("dtype")) return infer_same(site);
  const auto dtype = dtype_from_onnx(site.node().integer("dtype", 0));
  if (!dtype)
    return fail(ErrorCode::unsupported, "element type {} is not supported",
                site.node().integer("dtype", 0));
  return Types{{*dtype, site.shape(0)}};
}

Result<Types> infer_range(const Site& site) {
  OPSPLIT_CHECK(check_same_dtype(site));
  for (const std::size_t i : {0u, 1u, 2u}) {
    OPSPLIT_TRY(const std::int64_t elements, site.shape(i).elements());
    if (site.constant(i) == nullptr || elements != 1)
      return fail(ErrorCode::unsupported,
                  "input {} must be constant, and one number: shapes that depend on data are not "
                  "supported",
                  i);
  }
  OPSPLIT_TRY(const std::int64_t count,
              dispatch(site.type(0).dtype, [&](auto* type) -> Result<std::int64_t> {
                using T = std::remove_pointer_t<decltype(type)>;
                if constexpr (std::is_void_v<T> || std::is_same_v<T, bool>)
                  return fail(ErrorCode::invalid_input, "input 0 is {}, must be a number",
                              to_string(site.type(0)));
                else
                  return steps<T>(site);
              }));
  return Types{{site.type(0).dtype, {count}}};
}

}  // namespace opsplit::graph::ops
