#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "graph/ops/infer.hpp"
#include "graph/ops/slice.hpp"

namespace opsplit::graph::ops {

Result<std::vector<SliceAxis>> slice_axes(const Site& site) {
  const Shape& in = site.shape(0);
  OPSPLIT_TRY(const Dims starts, site.integers("starts", 1));
  OPSPLIT_TRY(const Dims ends, site.integers("ends", 2));
  OPSPLIT_TRY(Dims axes, site.integers("axes", 3));
  OPSPLIT_TRY(Dims steps, site.integers("steps", 4));
  if (axes.empty()) {
    axes.resize(starts.size());
    std::iota(axes.begin(), axes.end(), 0);
  }
  if (steps.empty()) steps.assign(starts.size(), 1);
  if (ends.size() != starts.size() || axes.size() != starts.size() || steps.size() != starts.size())
    return fail(ErrorCode::invalid_input, "starts, ends, axes and steps differ in length");
  OPSPLIT_CHECK(axis_mask(axes, in.rank()));

  std::vector<SliceAxis> result;
  for (const std::int64_t dim : in) result.push_back({0, 1, dim});
  for (std::size_t i = 0; i < starts.size(); ++i) {
    OPSPLIT_TRY(const std::size_t axis, normal_axis(axes[i], in.rank()));
    const std::int64_t dim = in[axis];
    const std::int64_t step = steps[i];
    if (step == 0 || step == INT64_MIN) return fail(ErrorCode::invalid_input, "step {}", step);
    // Backwards, an end of -1 after clamping means: down to and including the first element.
    const std::int64_t low = step > 0 ? 0 : -1;
    const std::int64_t high = step > 0 ? dim : dim - 1;
    const auto clamp = [dim](std::int64_t index, std::int64_t least, std::int64_t most) {
      return std::clamp(index < 0 ? index + dim : index, least, most);
    };
    const std::int64_t start = dim == 0 ? 0 : clamp(starts[i], 0, high);
    const std::int64_t end = dim == 0 ? 0 : clamp(ends[i], low, high);
    const std::int64_t distance = step > 0 ? end - start : start - end;
    const std::int64_t stride = std::abs(step);
    result[axis] = {start, step, distance <= 0 ? 0 : (distance - 1) / stride + 1};
  }
  return result;
}

Result<Types> infer_slice(const Site& site) {
  OPSPLIT_TRY(const auto axes, slice_axes(site));
  Types types{site.type(0)};
  for (std::size_t axis = 0; axis < axes.size(); ++axis) types[0].shape[axis] = axes[axis].size;
  return types;
}

Result<Types> infer_transpose(const Site& site) {
  const Shape& in = site.shape(0);
  Dims perm = site.node().integers("perm");
  if (!site.node().has("perm")) {
    perm.resize(in.rank());
    std::iota(perm.rbegin(), perm.rend(), 0);
  }
  if (perm.size() != in.rank() ||
      std::any_of(perm.begin(), perm.end(), [](auto p) { return p < 0; }) ||
      !axis_mask(perm, in.rank()))
    return fail(ErrorCode::invalid_input, "perm is not a permutation of the axes of {}",
                to_string(in));
  Types types{site.type(0)};
  for (std::size_t i = 0; i < perm.size(); ++i)
    types[0].shape[i] = in[static_cast<std::size_t>(perm[i])];
  return types;
}

Result<Types> infer_concat(const Site& site) {
  OPSPLIT_CHECK(check_same_dtype(site));
  if (!site.node().has("axis")) return fail(ErrorCode::invalid_input, "has no axis");
  OPSPLIT_TRY(const std::size_t axis, normal_axis(site.node().integer("axis", 0), site.rank(0)));
  Types types{site.type(0)};
  std::int64_t& sum = types[0].shape[axis];
  for (std::size_t i = 1; i < site.inputs(); ++i) {
    Shape expected = site.shape(i);
    if (expected.rank() == site.rank(0)) expected[axis] = site.shape(0)[axis];
    if (expected != site.shape(0))
      return fail(ErrorCode::invalid_input, "input {} is {}, which does not fit {} along axis {}",
                  i, to_string(site.shape(i)), to_string(site.shape(0)), axis);
    if (__builtin_add_overflow(sum, site.shape(i)[axis], &sum))
      return fail(ErrorCode::limit_exceeded, "the output's axis {} overflows", axis);
  }
  return types;
}

Result<Types> infer_split(const Site& site) {
  const Shape& in = site.shape(0);
  OPSPLIT_TRY(const std::size_t axis, normal_axis(site.node().integer("axis", 0), in.rank()));
  OPSPLIT_TRY(Dims sizes, site.integers("split", 1));
  const auto count = static_cast<std::int64_t>(site.node().outputs.size());
  if (sizes.empty()) {
    // Equal parts; from operator set 18 on the last may be smaller.
    const std::int64_t part = in[axis] / count + (in[axis] % count != 0 ? 1 : 0);
    if (in[axis] % count != 0 && !site.node().has("num_outputs"))
      return fail(ErrorCode::invalid_input, "cannot split {} into {} equal parts", in[axis], count);
    sizes.assign(static_cast<std::size_t>(count), part);
    sizes.back() = in[axis] - part * (count - 1);
  }
  std::int64_t left = in[axis];
  for (const std::int64_t size : sizes) {
    if (size < 0 || size > left)
      return fail(ErrorCode::invalid_input, "the parts do not make up {}", in[axis]);
    left -= size;
  }
  if (left != 0 || sizes.size() != static_cast<std::size_t>(count))
    return fail(ErrorCode::invalid_input, "{} parts for {} outputs, or they do not make up {}",
                sizes.size(), count, in[axis]);
  Types types(sizes.size(), site.type(0));
  for (std::size_t i = 0; i < sizes.size(); ++i) types[i].shape[axis] = sizes[i];
  return types;
}

Result<Types> infer_gather(const Site& site) {
  const Shape& data = site.shape(0);
  const TensorType& indices = site.type(1);
  if (indices.dtype != int64 && indices.dtype != int32)
    return fail(ErrorCode::invalid_input, "indices are {}, must be int64 or int32",
                to_string(indices.dtype));
  OPSPLIT_TRY(const std::size_t axis, normal_axis(site.node().integer("axis", 0), data.rank()));
  Dims dims(data.begin(), data.begin() + static_cast<std::ptrdiff_t>(axis));
  dims.insert(dims.end(), indices.shape.begin(), indices.shape.end());
  dims.insert(dims.end(), data.begin() + static_cast<std::ptrdiff_t>(axis) + 1, data.end());
  OPSPLIT_TRY(const TensorType type, with_dims(site.type(0).dtype, dims));
  return Types{type};
}

Result<Types> infer_pad(const Site& site) {
  const Shape& in = site.shape(0);
  const std::string mode = site.node().text("mode", "constant");
  if (mode != "constant" && mode != "edge" && mode != "reflect" && mode != "wrap")
    return fail(ErrorCode::invalid_input, "unknown mode '{}'", mode);
  OPSPLIT_TRY(const Dims pads, site.integers("pads", 1));
  OPSPLIT_TRY(Dims axes, site.integers("axes", 3));
  if (axes.empty()) {
    axes.resize(in.rank());
    std::iota(axes.begin(), axes.end(), 0);
  }
  OPSPLIT_CHECK(axis_mask(axes, in.rank()));
  if (pads.size() != 2 * axes.size())
    return fail(ErrorCode::invalid_input, "pads has {} numbers, needs {}", pads.size(),
                2 * axes.size());
  Types types{site.type(0)};
  for (std::size_t i = 0; i < axes.size(); ++i) {
    OPSPLIT_TRY(const std::size_t axis, normal_axis(axes[i], in.rank()));
    std::int64_t& dim = types[0].shape[axis];
    if (__builtin_add_overflow(dim, pads[i], &dim) ||
        __builtin_add_overflow(dim, pads[axes.size() + i], &dim) || dim < 0)
      return fail(ErrorCode::invalid_input, "pads {} and {} do not fit {} of axis {}", pads[i],
                  pads[axes.size() + i], in[axis], axis);
    if (in[axis] == 0 && dim > 0 && mode != "constant")
      return fail(ErrorCode::invalid_input, "mode {} has nothing to repeat along axis {}", mode,
                  axis);
  }
  return types;
}

namespace {

// The numbers of `input`, or of the attribute of older operator sets; empty: neither.
Result<std::vector<float>> reals(const Site& site, std::string_view attribute, std::size_t input) {
  const auto found = site.node().attributes.find(attribute);
  if (found != site.node().attributes.end() && !site.has(input))
    if (const auto* values = std::get_if<std::vector<float>>(&found->second)) return *values;
  if (!site.has(input)) return std::vector<float>{};
  const Constant* constant = site.constant(input);
  if (constant == nullptr || constant->type.dtype != float32)
    return fail(ErrorCode::invalid_input, "{} must be constant, and float32", attribute);
  return std::vector<float>(constant->as<float>().begin(), constant->as<float>().end());
}

Result<> check_resize(const Site& site) {
  const std::string mode = site.node().text("mode", "nearest");
  if (mode != "nearest" && mode != "linear" && mode != "bilinear")
    return fail(ErrorCode::unsupported, "mode {} is not supported, nearest and linear are", mode);
  if (mode != "nearest" && site.type(0).dtype != float32)
    return fail(ErrorCode::unsupported, "mode {} of {} is not supported, of float32 it is", mode,
                to_string(site.type(0).dtype));
  if (site.node().integer("antialias", 0) != 0)
    return fail(ErrorCode::unsupported, "antialias is not supported");
  return {};
}

}  // namespace

// Resize, and Upsample before it: the output's size comes from `sizes`, or from `scales` as an
// attribute (operator set 7), input 1 (9, 10) or input 2 (after the region of interest).
Result<Types> infer_resize(const Site& site) {
  OPSPLIT_CHECK(check_resize(site));
  const Shape& in = site.shape(0);
  const bool has_region = site.node().op_type == "Resize" && site.opset() >= 11;
  OPSPLIT_TRY(const auto scales, reals(site, "scales", has_region ? 2 : 1));
  Dims sizes;
  if (scales.empty()) {
    OPSPLIT_TRY(sizes, site.integers("sizes", 3));
  }
  Dims axes = site.node().integers("axes");
  if (axes.empty()) {
    axes.resize(in.rank());
    std::iota(axes.begin(), axes.end(), 0);
  }
  OPSPLIT_CHECK(axis_mask(axes, in.rank()));
  if (scales.empty() && sizes.empty())
    return fail(ErrorCode::invalid_input, "scales or sizes must be constant");
  if (scales.size() + sizes.size() != axes.size())
    return fail(ErrorCode::invalid_input, "{} {} for {} axes", scales.size() + sizes.size(),
                scales.empty() ? "sizes" : "scales", axes.size());

  // One scale for all axes, that of the one which asks for the least or the most.
  const std::string policy = site.node().text("keep_aspect_ratio_policy", "stretch");
  float common = 0;
  for (std::size_t i = 0; i < sizes.size() && policy != "stretch"; ++i) {
    OPSPLIT_TRY(const std::size_t axis, normal_axis(axes[i], in.rank()));
    const float scale = static_cast<float>(sizes[i]) / static_cast<float>(in[axis]);
    common = i == 0                   ? scale
             : policy == "not_larger" ? std::min(common, scale)
                                      : std::max(common, scale);
  }
  Types types{site.type(0)};
  for (std::size_t i = 0; i < axes.size(); ++i) {
    OPSPLIT_TRY(const std::size_t axis, normal_axis(axes[i], in.rank()));
    // In float, as ONNX Runtime does: 3 x 1.3333334 must be 4 there and here.
    const auto length = static_cast<float>(in[axis]);
    const float size = common > 0       ? std::round(length * common)
                       : scales.empty() ? static_cast<float>(sizes[i])
                                        : std::floor(length * scales[i]);
    if (!(size >= 0) || !(size < 0x1p62f) || (!scales.empty() && !(scales[i] > 0)))
      return fail(ErrorCode::invalid_input, "axis {} of {} would have {} elements", axis,
                  to_string(in), size);
    types[0].shape[axis] =
        scales.empty() && common == 0 ? sizes[i] : static_cast<std::int64_t>(size);
  }
  return types;
}

// N x C x D1 ... Dk, read at the places N x E1 ... Ek x k of a grid.
Result<Types> infer_grid_sample(const Site& site) {
  static constexpr std::array<std::string_view, 5> modes{"linear", "bilinear", "nearest", "cubic",
                                                         "bicubic"};
  static constexpr std::array<std::string_view, 3> paddings{"zeros", "border", "reflection"};
  const std::string mode = site.node().text("mode", "linear");
  const std::string padding = site.node().text("padding_mode", "zeros");
  if (std::find(modes.begin(), modes.end(), mode) == modes.end() ||
      std::find(paddings.begin(), paddings.end(), padding) == paddings.end())
    return fail(ErrorCode::invalid_input, "unknown mode '{}' or padding_mode '{}'", mode, padding);
  const Shape& in = site.shape(0);
  const Shape& grid = site.shape(1);
  const std::size_t rank = in.rank();
  if (site.type(1).dtype != float32)
    return fail(ErrorCode::unsupported, "a grid of {} is not supported",
                to_string(site.type(1).dtype));
  if (rank < 3 || grid.rank() != rank || grid[0] != in[0] ||
      grid[rank - 1] != static_cast<std::int64_t>(rank - 2))
    return fail(ErrorCode::invalid_input, "the grid {} does not fit {}", to_string(site.type(1)),
                to_string(site.type(0)));
  Types types{site.type(0)};
  for (std::size_t axis = 2; axis < rank; ++axis) {
    if (in[axis] == 0) return fail(ErrorCode::invalid_input, "axis {} is empty", axis);
    types[0].shape[axis] = grid[axis - 1];
  }
  return types;
}

}  // namespace opsplit::graph::ops
