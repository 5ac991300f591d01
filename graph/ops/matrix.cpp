#include "graph/ops/infer.hpp"

namespace opsplit::graph::ops {

Result<Types> infer_gemm(const Site& site) {
  OPSPLIT_CHECK(check_same_dtype(site));
  if (site.rank(0) != 2 || site.rank(1) != 2)
    return fail(ErrorCode::invalid_input, "multiplies {} by {}: both must be matrices",
                to_string(site.shape(0)), to_string(site.shape(1)));
  const bool transpose_a = site.node().integer("transA", 0) != 0;
  const bool transpose_b = site.node().integer("transB", 0) != 0;
  const Shape& a = site.shape(0);
  const Shape& b = site.shape(1);
  if (a[transpose_a ? 0 : 1] != b[transpose_b ? 1 : 0])
    return fail(ErrorCode::invalid_input, "multiplies {}{} by {}{}: inner sizes differ",
                to_string(a), transpose_a ? " transposed" : "", to_string(b),
                transpose_b ? " transposed" : "");
  const Shape result{a[transpose_a ? 1 : 0], b[transpose_b ? 0 : 1]};
  if (site.has(2)) {
    const auto sum = broadcast(result, site.shape(2));
    if (!sum || *sum != result)
      return fail(ErrorCode::invalid_input, "input 2 ({}) does not broadcast to the product's {}",
                  to_string(site.shape(2)), to_string(result));
  }
  return Types{{site.type(0).dtype, result}};
}

Result<Types> infer_matmul(const Site& site) {
  OPSPLIT_CHECK(check_same_dtype(site));
  const Shape& a = site.shape(0);
  const Shape& b = site.shape(1);
  const auto mismatch = [&] {
    return fail(ErrorCode::invalid_input, "multiplies {} by {}: sizes do not match", to_string(a),
                to_string(b));
  };
  if (a.rank() == 0 || b.rank() == 0) return mismatch();
  const std::int64_t inner = b.rank() == 1 ? b[0] : b[b.rank() - 2];
  if (a[a.rank() - 1] != inner) return mismatch();

  // A vector is a matrix with one row (left) or column (right) that the result does not have.
  const auto batch = [](const Shape& shape) {
    return Shape::from(shape.dims().first(shape.rank() < 2 ? 0 : shape.rank() - 2));
  };
  OPSPLIT_TRY(const Shape batch_a, batch(a));
  OPSPLIT_TRY(const Shape batch_b, batch(b));
  const auto common = broadcast(batch_a, batch_b);
  if (!common) return mismatch();
  Dims dims(common->begin(), common->end());
  if (a.rank() > 1) dims.push_back(a[a.rank() - 2]);
  if (b.rank() > 1) dims.push_back(b[b.rank() - 1]);
  OPSPLIT_TRY(const TensorType type, with_dims(site.type(0).dtype, dims));
  return Types{type};
}

}  // namespace opsplit::graph::ops
