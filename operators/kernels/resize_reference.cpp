#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "operators/kernels/index_space.hpp"
#include "operators/kernels/reference.hpp"
#include "operators/kernels/resize.hpp"

namespace opsplit::operators {
namespace {

// All in float, as ONNX Runtime has it: what lies halfway between two elements decides.
struct Axis {
  std::int64_t in = 0, out = 0;
  float scale = 1;
  float begin = 0, end = 1;  // the region of tf_crop_and_resize

  [[nodiscard]] float length() const { return static_cast<float>(in); }
};

Result<float> position(const Axis& axis, std::int64_t index, std::string_view mode) {
  const auto x = static_cast<float>(index);
  const float half_pixel = (x + 0.5F) / axis.scale - 0.5F;
  if (mode == "half_pixel") return half_pixel;
  if (mode == "asymmetric") return x / axis.scale;
  if (mode == "pytorch_half_pixel") return axis.out > 1 ? half_pixel : 0.0F;
  if (mode == "tf_half_pixel_for_nn") return (x + 0.5F) / axis.scale;
  if (mode == "align_corners")
    return axis.out == 1 ? 0.0F : x * (axis.length() - 1) / static_cast<float>(axis.out - 1);
  if (mode == "half_pixel_symmetric") {
    const float adjustment = static_cast<float>(axis.out) / (axis.scale * axis.length());
    return axis.length() / 2 * (1 - adjustment) + half_pixel;
  }
  if (mode == "tf_crop_and_resize")
    return axis.out > 1 ? axis.begin * (axis.length() - 1) + x * (axis.end - axis.begin) *
                                                                 (axis.length() - 1) /
                                                                 static_cast<float>(axis.out - 1)
                        : 0.5F * (axis.begin + axis.end) * (axis.length() - 1);
  return fail(ErrorCode::invalid_input, "unknown coordinate_transformation_mode '{}'", mode);
}

Result<float> nearest(float position, std::string_view mode) {
  const float lower = std::floor(position);
  const bool halfway = position == lower + 0.5F;
  if (mode == "floor") return lower;
  if (mode == "ceil") return std::ceil(position);
  if (mode == "round_prefer_floor") return halfway ? lower : std::round(position);
  if (mode == "round_prefer_ceil") return halfway ? lower + 1 : std::round(position);
  return fail(ErrorCode::invalid_input, "unknown nearest_mode '{}'", mode);
}

// What says how the positions of one axis are found.
struct Modes {
  bool linear = false;
  bool crops = false;
  std::string transformation = {}, rounding = {};
};

Result<Tap> tap_of(const Axis& axis, std::int64_t index, const Modes& modes) {
  OPSPLIT_TRY(const float at, position(axis, index, modes.transformation));
  const float last = axis.length() - 1;
  if (modes.crops && !(at >= 0 && at <= last)) return Tap{.first = Tap::outside};
  if (!modes.linear) {
    OPSPLIT_TRY(const float near, nearest(at, modes.rounding));
    const auto found = static_cast<std::int64_t>(std::clamp(near, 0.0F, last));
    return Tap{found, found, 0};
  }
  const float inside = std::clamp(at, 0.0F, last);
  const auto first = static_cast<std::int64_t>(inside);
  return Tap{first, std::min(first + 1, axis.in - 1), inside - static_cast<float>(first)};
}

// The axes that scales and region are given for, in their order.
Result<std::vector<std::size_t>> resized_axes(const graph::Node& node, std::size_t rank) {
  std::vector<std::size_t> axes;
  for (const std::int64_t axis : node.integers("axes")) {
    const std::int64_t at = axis < 0 ? axis + static_cast<std::int64_t>(rank) : axis;
    if (at < 0 || at >= static_cast<std::int64_t>(rank))
      return fail(ErrorCode::invalid_input, "axis {} of rank {}", axis, rank);
    axes.push_back(static_cast<std::size_t>(at));
  }
  for (std::size_t axis = 0; axis < rank && !node.has("axes"); ++axis) axes.push_back(axis);
  return axes;
}

}  // namespace

Result<Resize> read_resize(const graph::Node& node, std::int64_t opset, const TensorType& input,
                           const TensorType& output, const ResizeNumbers& numbers) {
  const std::size_t rank = input.shape.rank();
  const std::string mode = node.text("mode", "nearest");
  const bool old = opset < 11 || node.op_type == "Upsample";
  Modes modes{.linear = mode == "linear" || mode == "bilinear"};
  modes.transformation =
      old ? "asymmetric" : node.text("coordinate_transformation_mode", "half_pixel");
  modes.crops = modes.transformation == "tf_crop_and_resize";
  if (output.shape.rank() != rank || input.dtype != output.dtype ||
      (modes.linear && input.dtype != float32) || (!modes.linear && mode != "nearest"))
    return fail(ErrorCode::invalid_input, "{} by mode {} of {} giving {}", node.op_type, mode,
                to_string(input), to_string(output));

  std::span<const float> scales = numbers.scales;
  const auto attribute = node.attributes.find("scales");
  if (scales.empty() && attribute != node.attributes.end())
    if (const auto* values = std::get_if<std::vector<float>>(&attribute->second)) scales = *values;
  OPSPLIT_TRY(const auto resized, resized_axes(node, rank));
  const bool has_region = numbers.region.size() == 2 * resized.size();
  if ((!scales.empty() && scales.size() != resized.size()) || (modes.crops && !has_region))
    return fail(ErrorCode::invalid_input, "{} axes, {} scales, a region of {} numbers",
                resized.size(), scales.size(), numbers.region.size());

  Resize result{.linear = modes.linear, .extrapolation = node.real("extrapolation_value", 0)};
  for (std::size_t i = 0; i < rank; ++i) {
    Axis axis{.in = input.shape[i], .out = output.shape[i]};
    if (axis.in == 0 && axis.out > 0)
      return fail(ErrorCode::invalid_input, "{} of {} giving {}", node.op_type, to_string(input),
                  to_string(output));
    axis.scale = static_cast<float>(axis.out) / axis.length();
    for (std::size_t k = 0; k < resized.size(); ++k) {
      if (resized[k] != i) continue;
      if (!scales.empty()) axis.scale = scales[k];
      if (modes.crops)
        axis.begin = numbers.region[k], axis.end = numbers.region[resized.size() + k];
    }
    // Before operator set 11 shrinking took the element behind, enlarging the one before.
    modes.rounding = !old             ? node.text("nearest_mode", "round_prefer_floor")
                     : axis.scale < 1 ? "ceil"
                                      : "floor";
    std::vector<Tap> taps;
    const bool stays = axis.scale == 1 && axis.in == axis.out && !modes.crops;
    for (std::int64_t index = 0; index < axis.out; ++index) {
      if (stays) {
        taps.push_back({index, index, 0});
        continue;
      }
      OPSPLIT_TRY(const Tap tap, tap_of(axis, index, modes));
      taps.push_back(tap);
    }
    result.axes.push_back(std::move(taps));
  }
  return result;
}

namespace reference {
namespace {

float interpolate(const float* x, const Shape& shape, const Resize& resize, const Coordinates& at) {
  const Coordinates strides = strides_of(shape);
  double sum = 0;
  for (std::uint32_t corner = 0; corner < (1U << shape.rank()); ++corner) {
    double share = 1;
    std::int64_t from = 0;
    for (std::size_t axis = 0; axis < shape.rank(); ++axis) {
      const Tap& tap = resize.axes[axis][static_cast<std::size_t>(at[axis])];
      const bool second = (corner >> axis & 1) != 0;
      share *= second ? static_cast<double>(tap.part) : 1 - static_cast<double>(tap.part);
      from += (second ? tap.second : tap.first) * strides[axis];
    }
    if (share != 0) sum += share * static_cast<double>(x[from]);
  }
  return static_cast<float>(sum);
}

}  // namespace

Result<> resize(const Call& call) {
  const TensorView& x = call.inputs[0];
  const MutableTensorView& y = call.outputs[0];
  const auto numbers = resize_numbers(call.node, call.opset, [&](std::size_t input) {
    if (!call.has_input(input) || call.inputs[input].type.dtype != float32)
      return std::span<const float>{};
    const TensorView& view = call.inputs[input];
    return std::span(view.as<float>(), static_cast<std::size_t>(*view.type.shape.elements()));
  });
  OPSPLIT_TRY(const Resize resize, read_resize(call.node, call.opset, x.type, y.type, numbers));
  const Shape& shape = x.type.shape;
  const Coordinates strides = strides_of(shape);
  const std::size_t size = y.type.dtype.bytes();
  const bool extrapolates = y.type.dtype == float32;
  std::byte* out = y.data;
  bool refused = false;
  for_each_index(y.type.shape, [&](const Coordinates& at) {
    std::int64_t from = 0;
    bool inside = true;
    for (std::size_t axis = 0; axis < shape.rank(); ++axis) {
      const Tap& tap = resize.axes[axis][static_cast<std::size_t>(at[axis])];
      inside = inside && tap.first != Tap::outside;
      from += tap.first * strides[axis];
    }
    if (!inside && extrapolates)
      std::memcpy(out, &resize.extrapolation, size);
    else if (!inside)
      refused = true;
    else if (resize.linear)
      *reinterpret_cast<float*>(out) = interpolate(x.as<float>(), shape, resize, at);
    else
      std::memcpy(out, x.data + static_cast<std::size_t>(from) * size, size);
    out += size;
  });
  if (refused)
    return fail(ErrorCode::invalid_input, "an extrapolation_value for {} is not supported",
                to_string(y.type.dtype));
  return {};
}

}  // namespace reference
}  // namespace opsplit::operators
