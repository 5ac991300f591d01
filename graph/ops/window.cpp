#include "graph/ops/window.hpp"

#include <algorithm>

#include "graph/ops/infer.hpp"

namespace opsplit::graph::ops {
namespace {

// Sums and products of a dimension (63 bits) and attributes (31 bits) fit into this one.
using Wide = __int128;
constexpr std::int64_t max_attribute = INT32_MAX;

Result<std::int64_t> narrow(Wide value, std::string_view what) {
  if (value > INT64_MAX)
    return fail(ErrorCode::limit_exceeded, "{}: more than 63 bits can count", what);
  return static_cast<std::int64_t>(value);
}

// The attribute with `count` numbers from `least` on; absent: the default, `count` times.
Result<Dims> bounded(const Site& site, std::string_view attribute, std::size_t count,
                     std::int64_t least, std::int64_t otherwise) {
  if (!site.node().has(attribute)) return Dims(count, otherwise);
  Dims values = site.node().integers(attribute);
  if (values.size() != count)
    return fail(ErrorCode::invalid_input, "{} has {} numbers, input {} needs {}", attribute,
                values.size(), to_string(site.shape(0)), count);
  for (const std::int64_t value : values)
    if (value < least || value > max_attribute)
      return fail(ErrorCode::invalid_input, "{} holds {}, must be from {} to {}", attribute, value,
                  least, max_attribute);
  return values;
}

Result<std::size_t> spatial_rank(const Site& site) {
  if (site.rank(0) < 3)
    return fail(ErrorCode::invalid_input,
                "input 0 is {}, must have a batch, channels and at least one more dimension",
                to_string(site.type(0)));
  return site.rank(0) - 2;
}

// A convolution takes its kernel from the weights; kernel_shape may only repeat it.
Result<Dims> kernel_shape(const Site& site, std::size_t rank) {
  if (site.inputs() < 2) {
    if (!site.node().has("kernel_shape"))
      return fail(ErrorCode::invalid_input, "has no kernel_shape");
    return bounded(site, "kernel_shape", rank, 1, 1);
  }
  const Shape& weights = site.shape(1);
  if (weights.rank() != rank + 2)
    return fail(ErrorCode::invalid_input, "weights are {}, input {} needs rank {}",
                to_string(weights), to_string(site.shape(0)), rank + 2);
  Dims kernel(weights.begin() + 2, weights.end());
  if (std::any_of(kernel.begin(), kernel.end(),
                  [](std::int64_t size) { return size < 1 || size > max_attribute; }))
    return fail(ErrorCode::invalid_input, "weights are {}: an unusable kernel", to_string(weights));
  if (site.node().has("kernel_shape") && site.node().integers("kernel_shape") != kernel)
    return fail(ErrorCode::invalid_input, "kernel_shape does not match the weights' {}",
                to_string(weights));
  return kernel;
}

Wide effective_kernel(const WindowAxis& axis) { return Wide{axis.kernel - 1} * axis.dilation + 1; }

// SAME_UPPER and SAME_LOWER: as many outputs as strides fit into the input, an odd pixel of padding
// at the end or at the beginning.
Result<> pad_same(WindowAxis& axis, bool upper) {
  const Wide out = (Wide{axis.in} + axis.stride - 1) / axis.stride;
  const Wide total = std::max<Wide>(0, (out - 1) * axis.stride + effective_kernel(axis) - axis.in);
  OPSPLIT_TRY(const std::int64_t pads, narrow(total, "padding"));
  axis.pad_begin = upper ? pads / 2 : pads - pads / 2;
  axis.pad_end = pads - axis.pad_begin;
  return {};
}

Result<> find_output(WindowAxis& axis, bool round_up) {
  const Wide padded = Wide{axis.in} + axis.pad_begin + axis.pad_end;
  const Wide steps = padded - effective_kernel(axis);
  // ceil_mode counts a last window that only fits in part, unless it would begin in the padding.
  const bool partial = round_up && steps < 0 && steps > -axis.stride;  // the only one
  if (steps < 0 && !partial)
    return fail(ErrorCode::invalid_input,
                "a kernel of {} (dilation {}) does not fit into {} + {} + {} of padding",
                axis.kernel, axis.dilation, axis.in, axis.pad_begin, axis.pad_end);
  Wide out = steps / axis.stride + 1;
  if (round_up && steps > 0 && steps % axis.stride != 0 &&
      out * axis.stride < Wide{axis.in} + axis.pad_begin)
    ++out;
  OPSPLIT_TRY(axis.out, narrow(out, "the output"));
  return {};
}

Result<Types> with_spatial(const Site& site, std::int64_t channels,
                           const std::vector<WindowAxis>& axes) {
  Dims dims{site.shape(0)[0], channels};
  for (const WindowAxis& axis : axes) dims.push_back(axis.out);
  OPSPLIT_TRY(const TensorType type, with_dims(site.type(0).dtype, dims));
  return Types{type};
}

// What Conv and ConvTranspose have in common; `in` and `out` are the weights' axes of channels.
Result<> check_weights(const Site& site, std::int64_t in, std::int64_t out) {
  const Shape& weights = site.shape(1);
  if (in != site.shape(0)[1])
    return fail(ErrorCode::invalid_input, "weights {} are for {} input channels, there are {}",
                to_string(weights), in, site.shape(0)[1]);
  if (site.has(2) && site.shape(2) != Shape{out})
    return fail(ErrorCode::invalid_input,
                "bias is {}, must have one number for each of {} channels",
                to_string(site.shape(2)), out);
  return {};
}

Result<std::int64_t> group_of(const Site& site, std::int64_t channels) {
  const std::int64_t group = site.node().integer("group", 1);
  if (group < 1 || channels % group != 0)
    return fail(ErrorCode::invalid_input, "group {} does not divide {} channels", group, channels);
  return group;
}

}  // namespace

Result<std::vector<WindowAxis>> window(const Site& site) {
  OPSPLIT_TRY(const std::size_t rank, spatial_rank(site));
  OPSPLIT_TRY(const Dims kernel, kernel_shape(site, rank));
  OPSPLIT_TRY(const Dims strides, bounded(site, "strides", rank, 1, 1));
  OPSPLIT_TRY(const Dims dilations, bounded(site, "dilations", rank, 1, 1));
  OPSPLIT_TRY(const Dims pads, bounded(site, "pads", 2 * rank, 0, 0));
  const std::string auto_pad = site.node().text("auto_pad", "NOTSET");
  const bool same = auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER";
  if (!same && auto_pad != "NOTSET" && auto_pad != "VALID")
    return fail(ErrorCode::invalid_input,
                "auto_pad must be NOTSET, VALID, SAME_UPPER or SAME_LOWER");

  std::vector<WindowAxis> axes(rank);
  for (std::size_t i = 0; i < rank; ++i) {
    WindowAxis& axis = axes[i];
    axis = {site.shape(0)[i + 2], kernel[i], strides[i], dilations[i], 0, 0, 0};
    if (same) OPSPLIT_CHECK(pad_same(axis, auto_pad == "SAME_UPPER"));
    if (auto_pad == "NOTSET") {
      axis.pad_begin = pads[i];
      axis.pad_end = pads[rank + i];
    }
    OPSPLIT_CHECK(find_output(axis, site.node().integer("ceil_mode", 0) != 0));
  }
  return axes;
}

Result<Types> infer_conv(const Site& site) {
  OPSPLIT_CHECK(check_same_dtype(site));
  OPSPLIT_CHECK(check_floating(site.type(0)));
  OPSPLIT_TRY(const auto axes, window(site));
  const Shape& weights = site.shape(1);
  OPSPLIT_TRY(const std::int64_t group, group_of(site, site.shape(0)[1]));
  OPSPLIT_CHECK(group_of(site, weights[0]));
  std::int64_t channels = 0;
  if (__builtin_mul_overflow(weights[1], group, &channels)) channels = INT64_MAX;
  OPSPLIT_CHECK(check_weights(site, channels, weights[0]));
  return with_spatial(site, weights[0], axes);
}

Result<std::vector<WindowAxis>> transposed_window(const Site& site) {
  OPSPLIT_TRY(const std::size_t rank, spatial_rank(site));
  OPSPLIT_TRY(const Dims kernel, kernel_shape(site, rank));
  OPSPLIT_TRY(const Dims strides, bounded(site, "strides", rank, 1, 1));
  OPSPLIT_TRY(const Dims dilations, bounded(site, "dilations", rank, 1, 1));
  OPSPLIT_TRY(const Dims pads, bounded(site, "pads", 2 * rank, 0, 0));
  OPSPLIT_TRY(const Dims extra, bounded(site, "output_padding", rank, 0, 0));
  OPSPLIT_TRY(const Dims wanted, bounded(site, "output_shape", rank, 1, 0));
  const std::string auto_pad = site.node().text("auto_pad", "NOTSET");
  const bool same = auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER";
  if (!same && auto_pad != "NOTSET" && auto_pad != "VALID")
    return fail(ErrorCode::invalid_input, "unknown auto_pad '{}'", auto_pad);

  std::vector<WindowAxis> axes(rank);
  for (std::size_t i = 0; i < rank; ++i) {
    WindowAxis& axis = axes[i];
    axis = {site.shape(0)[i + 2], kernel[i], strides[i], dilations[i], 0, 0, 0};
    const Wide unpadded = (Wide{axis.in} - 1) * axis.stride + extra[i] + effective_kernel(axis);
    Wide out = wanted[i] > 0 ? Wide{wanted[i]} : Wide{axis.in} * axis.stride;
    if (wanted[i] > 0 || same) {
      // What is too much is cut off on both sides, an odd element at the end or at the beginning.
      OPSPLIT_TRY(const std::int64_t cut, narrow(std::max<Wide>(0, unpadded - out), "padding"));
      axis.pad_begin = auto_pad == "SAME_UPPER" ? cut / 2 : cut - cut / 2;
      axis.pad_end = cut - axis.pad_begin;
    } else {
      if (auto_pad == "NOTSET") axis.pad_begin = pads[i], axis.pad_end = pads[rank + i];
      out = unpadded - axis.pad_begin - axis.pad_end;
    }
    if (out < 1) return fail(ErrorCode::invalid_input, "the padding leaves no output");
    OPSPLIT_TRY(axis.out, narrow(out, "the output"));
  }
  return axes;
}

Result<Types> infer_conv_transpose(const Site& site) {
  OPSPLIT_CHECK(check_same_dtype(site));
  OPSPLIT_CHECK(check_floating(site.type(0)));
  OPSPLIT_TRY(const auto axes, transposed_window(site));
  const Shape& weights = site.shape(1);
  OPSPLIT_TRY(const std::int64_t group, group_of(site, weights[0]));
  OPSPLIT_TRY(const std::int64_t channels, narrow(Wide{weights[1]} * group, "output channels"));
  OPSPLIT_CHECK(check_weights(site, weights[0], channels));
  return with_spatial(site, channels, axes);
}

Result<Types> infer_pool(const Site& site) {
  if (const std::int64_t p = site.node().integer("p", 2); p < 1)  // LpPool's
    return fail(ErrorCode::invalid_input, "p {}: must be at least 1", p);
  OPSPLIT_TRY(const auto axes, window(site));
  for (const WindowAxis& axis : axes)
    if (std::max(axis.pad_begin, axis.pad_end) >= effective_kernel(axis))
      return fail(
          ErrorCode::invalid_input,
          "padding of {} + {} around a kernel of {}: windows would hold nothing but padding",
          axis.pad_begin, axis.pad_end, axis.kernel);
  return with_spatial(site, site.shape(0)[1], axes);
}

Result<Types> infer_global_pool(const Site& site) {
  OPSPLIT_TRY(const std::size_t rank, spatial_rank(site));
  return with_spatial(site, site.shape(0)[1], std::vector<WindowAxis>(rank, WindowAxis{.out = 1}));
}

}  // namespace opsplit::graph::ops
