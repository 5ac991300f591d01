#include <algorithm>
#include <cmath>
#include <limits>

#include "operators/kernels/elementwise.hpp"
#include "operators/kernels/pooling.hpp"

namespace opsplit::operators {
namespace {

Result<> check(const TensorType& input, const TensorType& output) {
  if (input.dtype != output.dtype || input.shape.rank() < 3 ||
      output.shape.rank() != input.shape.rank() || input.shape[0] != output.shape[0] ||
      input.shape[1] != output.shape[1])
    return fail(ErrorCode::invalid_input, "a pool of {} giving {}", to_string(input),
                to_string(output));
  return {};
}

// Calls f(value) for every element under each window, done(elements that the window has within the
// declared padding) after each window; outputs come in row-major order.
template <class T, class Element, class Done>
void slide(const TensorView& x, const Shape& y, const Window& window,
           std::span<const std::int64_t> padded_end, Element&& element, Done&& done) {
  const std::size_t axes = window.axes();
  const Coordinates strides = strides_of(x.type.shape);
  const Shape kernel = *Shape::from(window.kernel);
  for_each_index(y, [&](const Coordinates& at) {
    std::int64_t counted = 0;
    for_each_index(kernel, [&](const Coordinates& in_window) {
      std::int64_t offset = at[0] * strides[0] + at[1] * strides[1];
      bool inside = true;
      for (std::size_t axis = 0; axis < axes; ++axis) {
        const std::int64_t position = at[axis + 2] * window.strides[axis] +
                                      in_window[axis] * window.dilations[axis] -
                                      window.pads_begin[axis];
        if (position >= padded_end[axis]) return;  // ceil_mode's overhang counts for nothing
        inside = inside && position >= 0 && position < x.type.shape[axis + 2];
        offset += position * strides[axis + 2];
      }
      ++counted;
      if (inside) element(x.as<T>()[offset]);
    });
    done(counted);
  });
}

template <class T>
void maximum(const TensorView& x, const MutableTensorView& y, const Window& window,
             std::span<const std::int64_t> ends) {
  T* out = y.as<T>();
  constexpr T lowest = std::numeric_limits<T>::lowest();
  T largest = lowest;
  slide<T>(
      x, y.type.shape, window, ends, [&](T value) { largest = std::max(largest, value); },
      [&](std::int64_t) { *out++ = std::exchange(largest, lowest); });
}

template <class T>
void average(const TensorView& x, const MutableTensorView& y, const Window& window,
             std::span<const std::int64_t> ends, bool count_padding) {
  T* out = y.as<T>();
  double sum = 0;
  std::int64_t elements = 0;
  slide<T>(
      x, y.type.shape, window, ends,
      [&](T value) {
        sum += static_cast<double>(value);
        ++elements;
      },
      [&](std::int64_t counted) {
        const std::int64_t divisor = std::max<std::int64_t>(count_padding ? counted : elements, 1);
        *out++ = static_cast<T>(std::exchange(sum, 0) / static_cast<double>(divisor));
        elements = 0;
      });
}

}  // namespace

Result<Window> read_pool(const graph::Node& node, const TensorType& input,
                         const TensorType& output) {
  OPSPLIT_CHECK(check(input, output));
  return read_window(node, node.integers("kernel_shape"), input.shape, output.shape);
}

std::vector<std::int64_t> padded_end(const graph::Node& node, const Window& window,
                                     const Shape& input) {
  const auto pads = node.integers("pads");
  std::vector<std::int64_t> ends;
  for (std::size_t axis = 0; axis < window.axes(); ++axis) {
    const std::int64_t declared = pads.size() == 2 * window.axes() ? pads[axis + window.axes()] : 0;
    const bool automatic = node.text("auto_pad", "NOTSET").starts_with("SAME");
    ends.push_back(input[axis + 2] +
                   (automatic ? std::max<std::int64_t>(window.pads_end[axis], 0) : declared));
  }
  return ends;
}

Result<Window> global_window(const TensorType& input, const TensorType& output) {
  OPSPLIT_CHECK(check(input, output));
  Window window;
  for (std::size_t axis = 2; axis < input.shape.rank(); ++axis) {
    if (output.shape[axis] != 1)
      return fail(ErrorCode::invalid_input, "a global pool gives {}", to_string(output));
    window.kernel.push_back(input.shape[axis]);
  }
  window.strides = window.dilations = std::vector<std::int64_t>(window.axes(), 1);
  window.pads_begin = window.pads_end = std::vector<std::int64_t>(window.axes(), 0);
  return window;
}

namespace reference {

Result<> max_pool(const Call& call) {
  const TensorView& x = call.inputs[0];
  OPSPLIT_TRY(const Window window, read_pool(call.node, x.type, call.outputs[0].type));
  return with_numbers(call, [&](auto* type) {
    maximum<std::remove_pointer_t<decltype(type)>>(x, call.outputs[0], window,
                                                   padded_end(call.node, window, x.type.shape));
  });
}

// The p-norm of each window.
Result<> lp_pool(const Call& call) {
  const TensorView& x = call.inputs[0];
  OPSPLIT_TRY(const Window window, read_pool(call.node, x.type, call.outputs[0].type));
  const auto p = static_cast<double>(call.node.integer("p", 2));
  if (p < 1) return fail(ErrorCode::invalid_input, "LpPool with p {}", p);
  return with_reals(call, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    T* out = call.outputs[0].as<T>();
    double sum = 0;
    slide<T>(
        x, call.outputs[0].type.shape, window, padded_end(call.node, window, x.type.shape),
        [&](T value) { sum += std::pow(std::abs(static_cast<double>(value)), p); },
        [&](std::int64_t) { *out++ = static_cast<T>(std::pow(std::exchange(sum, 0), 1 / p)); });
  });
}

Result<> average_pool(const Call& call) {
  const TensorView& x = call.inputs[0];
  OPSPLIT_TRY(const Window window, read_pool(call.node, x.type, call.outputs[0].type));
  return with_reals(call, [&](auto* type) {
    average<std::remove_pointer_t<decltype(type)>>(x, call.outputs[0], window,
                                                   padded_end(call.node, window, x.type.shape),
                                                   call.node.integer("count_include_pad", 0) != 0);
  });
}

Result<> global_pool(const Call& call) {
  const TensorView& x = call.inputs[0];
  OPSPLIT_TRY(const Window window, global_window(x.type, call.outputs[0].type));
  const auto ends = x.type.shape.dims().subspan(2);
  return with_reals(call, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    if (call.node.op_type == "GlobalMaxPool")
      maximum<T>(x, call.outputs[0], window, ends);
    else
      average<T>(x, call.outputs[0], window, ends, false);
  });
}

}  // namespace reference
}  // namespace opsplit::operators
