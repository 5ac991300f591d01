#include "graph/ops/element.hpp"
#include "graph/ops/infer.hpp"

namespace opsplit::graph::ops {
namespace {

Result<> check_indices(const Site& site, std::size_t input) {
  const DType dtype = site.type(input).dtype;
  if (dtype == int64 || dtype == int32) return {};
  return fail(ErrorCode::invalid_input, "indices are {}, must be int64 or int32", to_string(dtype));
}

tl::unexpected<Error> do_not_fit(const Site& site) {
  return fail(ErrorCode::invalid_input, "indices {} do not fit {}", to_string(site.shape(1)),
              to_string(site.shape(0)));
}

// Of the rank of the data, and no longer than it but along the axis.
Result<> check_along_axis(const Site& site) {
  OPSPLIT_CHECK(check_indices(site, 1));
  const Shape& data = site.shape(0);
  OPSPLIT_TRY(const std::size_t axis, normal_axis(site.node().integer("axis", 0), data.rank()));
  if (site.rank(1) != data.rank()) return do_not_fit(site);
  for (std::size_t i = 0; i < data.rank(); ++i)
    if (i != axis && site.shape(1)[i] > data[i]) return do_not_fit(site);
  return {};
}

// The shape of what `indices` name: one slice of the data, behind `batch` common axes, for each of them.
Result<Dims> slices(const Site& site, std::size_t batch) {
  OPSPLIT_CHECK(check_indices(site, 1));
  const Shape& data = site.shape(0);
  const Shape& indices = site.shape(1);
  if (indices.rank() == 0 || batch >= indices.rank() || batch > data.rank())
    return do_not_fit(site);
  const std::int64_t depth = indices[indices.rank() - 1];
  if (static_cast<std::size_t>(depth) > data.rank() - batch) return do_not_fit(site);
  for (std::size_t i = 0; i < batch; ++i)
    if (indices[i] != data[i]) return do_not_fit(site);
  Dims dims(indices.begin(), indices.end() - 1);
  dims.insert(dims.end(), data.begin() + static_cast<std::ptrdiff_t>(batch) + depth, data.end());
  return dims;
}

Result<> check_reduction(const Site& site) {
  const std::string how = site.node().text("reduction", "none");
  if (how != "none" && how != "add" && how != "mul" && how != "max" && how != "min")
    return fail(ErrorCode::invalid_input, "unknown reduction '{}'", how);
  if (site.type(2).dtype != site.type(0).dtype)
    return fail(ErrorCode::invalid_input, "puts {} into {}", to_string(site.type(2)),
                to_string(site.type(0)));
  if (site.type(0).dtype == bool8 && how != "none")
    return fail(ErrorCode::unsupported, "reduction {} of bool is not supported", how);
  return {};
}

}  // namespace

Result<Types> infer_gather_elements(const Site& site) {
  OPSPLIT_CHECK(check_along_axis(site));
  return Types{{site.type(0).dtype, site.shape(1)}};
}

Result<Types> infer_gather_nd(const Site& site) {
  const std::int64_t batch = site.node().integer("batch_dims", 0);
  if (batch < 0 || batch > static_cast<std::int64_t>(Shape::max_rank)) return do_not_fit(site);
  OPSPLIT_TRY(const Dims dims, slices(site, static_cast<std::size_t>(batch)));
  OPSPLIT_TRY(const TensorType type, with_dims(site.type(0).dtype, dims));
  return Types{type};
}

Result<Types> infer_scatter_elements(const Site& site) {
  OPSPLIT_CHECK(check_along_axis(site));
  OPSPLIT_CHECK(check_reduction(site));
  if (site.shape(1) != site.shape(2)) return do_not_fit(site);
  return infer_same(site);
}

Result<Types> infer_scatter_nd(const Site& site) {
  OPSPLIT_CHECK(check_reduction(site));
  OPSPLIT_TRY(const Dims dims, slices(site, 0));
  OPSPLIT_TRY(const Shape updates, Shape::from(dims));
  if (updates != site.shape(2))
    return fail(ErrorCode::invalid_input, "updates (input 2) are {}, must be {}",
                to_string(site.shape(2)), to_string(updates));
  return infer_same(site);
}

Result<Types> infer_one_hot(const Site& site) {
  OPSPLIT_CHECK(infer_unary_number(site));
  const Constant* given = site.constant(1);
  std::int64_t depth = -1;
  if (given != nullptr && given->type.dtype == float32 && given->bytes.size() == sizeof(float)) {
    depth = convert<std::int64_t>(given->as<float>()[0]);
  } else {
    OPSPLIT_TRY(const Dims numbers, site.integers(1, "depth"));
    if (numbers.size() == 1) depth = numbers[0];
  }
  if (depth < 0 || site.shape(2) != Shape{2})
    return fail(ErrorCode::invalid_input, "depth must be one number from 0 on, values two");
  OPSPLIT_TRY(const std::size_t axis,
              normal_axis(site.node().integer("axis", -1), site.rank(0) + 1));
  Dims dims(site.shape(0).begin(), site.shape(0).end());
  dims.insert(dims.begin() + static_cast<std::ptrdiff_t>(axis), depth);
  OPSPLIT_TRY(const TensorType type, with_dims(site.type(2).dtype, dims));
  return Types{type};
}

}  // namespace opsplit::graph::ops
