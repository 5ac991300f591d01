#include "operators/kernels/window.hpp"

#include <algorithm>
#include <cstdlib>
#include <string>

namespace opsplit::operators {
namespace {

// Larger sizes than this are nonsense, and products of two stay far from overflow.
constexpr std::int64_t largest = std::int64_t{1} << 30;

Result<std::vector<std::int64_t>> read_sizes(const graph::Node& node, std::string_view attribute,
                                             std::size_t count, std::int64_t otherwise,
                                             std::int64_t least) {
  if (!node.has(attribute)) return std::vector<std::int64_t>(count, otherwise);
  auto sizes = node.integers(attribute);
  if (sizes.size() != count)
    return fail(ErrorCode::invalid_input, "{} has {} entries instead of {}", attribute,
                sizes.size(), count);
  for (const std::int64_t size : sizes)
    if (size < least || size > largest)
      return fail(ErrorCode::invalid_input, "{} {}: out of range", attribute, size);
  return sizes;
}

// Kernel, strides and dilations; both images have as many axes and sizes that mean something.
Result<Window> read_steps(const graph::Node& node, std::span<const std::int64_t> kernel,
                          const Shape& input, const Shape& output) {
  const std::size_t axes = kernel.size();
  if (axes == 0 || input.rank() != axes + 2 || output.rank() != axes + 2)
    return fail(ErrorCode::invalid_input, "a window of {} axes over {} giving {}", axes,
                to_string(input), to_string(output));
  Window window;
  window.kernel.assign(kernel.begin(), kernel.end());
  OPSPLIT_TRY(window.strides, read_sizes(node, "strides", axes, 1, 1));
  OPSPLIT_TRY(window.dilations, read_sizes(node, "dilations", axes, 1, 1));
  for (std::size_t axis = 0; axis < axes; ++axis)
    if (kernel[axis] < 1 || std::max({kernel[axis], input[axis + 2], output[axis + 2]}) > largest)
      return fail(ErrorCode::invalid_input, "a window of {} over {}", kernel[axis],
                  input[axis + 2]);
  return window;
}

}  // namespace

Result<Window> read_window(const graph::Node& node, std::span<const std::int64_t> kernel,
                           const Shape& input, const Shape& output) {
  OPSPLIT_TRY(Window window, read_steps(node, kernel, input, output));
  const std::size_t axes = kernel.size();
  OPSPLIT_TRY(const auto pads, read_sizes(node, "pads", 2 * axes, 0, 0));
  const std::string auto_pad = node.text("auto_pad", "NOTSET");
  for (std::size_t axis = 0; axis < axes; ++axis) {
    const std::int64_t in = input[axis + 2];
    const std::int64_t out = output[axis + 2];
    const std::int64_t stride = window.strides[axis];
    // What all windows cover, beyond what there is.
    const std::int64_t beyond = (out - 1) * stride + window.extent(axis) - in;
    std::int64_t begin = pads[axis];
    std::int64_t declared = begin + pads[axis + axes];
    if (auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER") {
      declared = std::max<std::int64_t>(beyond, 0);
      begin = (declared + (auto_pad == "SAME_LOWER" ? 1 : 0)) / 2;
    } else if (auto_pad == "VALID") {
      begin = declared = 0;
    } else if (auto_pad != "NOTSET") {
      return fail(ErrorCode::invalid_input, "auto_pad {}", auto_pad);
    }
    // Rounding down leaves out less than one stride, rounding up (ceil_mode) adds less than one.
    if (std::abs(beyond - declared) >= stride)
      return fail(ErrorCode::invalid_input, "axis {}: {} outputs do not follow from {} inputs",
                  axis, out, in);
    window.pads_begin.push_back(begin);
    window.pads_end.push_back(beyond - begin);
    window.overhangs = window.overhangs || beyond > declared;
  }
  return window;
}

Result<Window> read_transposed_window(const graph::Node& node, std::span<const std::int64_t> kernel,
                                      const Shape& input, const Shape& output) {
  OPSPLIT_TRY(Window window, read_steps(node, kernel, input, output));
  const std::size_t axes = kernel.size();
  OPSPLIT_TRY(window.pads_begin, read_sizes(node, "pads", 2 * axes, 0, 0));
  OPSPLIT_TRY(const auto beyond, read_sizes(node, "output_padding", axes, 0, 0));
  for (std::size_t axis = 0; axis < axes; ++axis) {
    const std::int64_t end = window.pads_begin[axis + axes] - beyond[axis];
    const std::int64_t reached = (input[axis + 2] - 1) * window.strides[axis] + window.extent(axis);
    if (reached - window.pads_begin[axis] - end != output[axis + 2])
      return fail(ErrorCode::invalid_input, "axis {}: {} outputs do not follow from {} inputs",
                  axis, output[axis + 2], input[axis + 2]);
    window.pads_end.push_back(end);
  }
  window.pads_begin.resize(axes);
  return window;
}

}  // namespace opsplit::operators
