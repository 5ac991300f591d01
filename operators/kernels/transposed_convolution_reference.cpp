#include "operators/kernels/index_space.hpp"
#include "operators/kernels/reference.hpp"
#include "operators/kernels/transposed_convolution.hpp"

namespace opsplit::operators {

Result<Convolution> read_transposed_convolution(const graph::Node& node, const TensorType& input,
                                                const TensorType& weights, const TensorType* bias,
                                                const TensorType& output) {
  const auto& [x, w, y] = std::tie(input.shape, weights.shape, output.shape);
  const auto mismatch = [&] {
    return fail(ErrorCode::invalid_input,
                "a transposed convolution of {} with weights {}{}{} giving {}", to_string(input),
                to_string(weights), bias ? " and bias " : "", bias ? to_string(*bias) : "",
                to_string(output));
  };
  Convolution result;
  result.groups = node.integer("group", 1);
  const std::int64_t groups = result.groups;
  if (x.rank() < 3 || w.rank() != x.rank() || y.rank() != x.rank() || groups < 1 ||
      w[0] % groups != 0 || w[0] != x[1] || y[0] != x[0] || y[1] % groups != 0 ||
      w[1] != y[1] / groups)
    return mismatch();
  if (bias && bias->shape != Shape{y[1]}) return mismatch();
  if (input.dtype != float32 || weights.dtype != float32 || output.dtype != float32 ||
      (bias && bias->dtype != float32))
    return mismatch();
  OPSPLIT_TRY(result.window, read_transposed_window(node, w.dims().subspan(2), x, y));
  return result;
}

// Each output collects from the inputs whose windows reach it.
Result<> reference::transposed_convolution(const Call& call) {
  const TensorView& x = call.inputs[0];
  const TensorView& w = call.inputs[1];
  const TensorView* b = call.has_input(2) ? &call.inputs[2] : nullptr;
  const MutableTensorView& y = call.outputs[0];
  OPSPLIT_TRY(const Convolution conv, read_transposed_convolution(call.node, x.type, w.type,
                                                                  b ? &b->type : nullptr, y.type));
  const std::size_t rank = x.type.shape.rank();
  const Coordinates x_strides = strides_of(x.type.shape);
  const Coordinates w_strides = strides_of(w.type.shape);
  const std::int64_t channels = x.type.shape[1] / conv.groups;      // of one group
  const std::int64_t out_channels = y.type.shape[1] / conv.groups;  // of one group

  // What one output is made of: the channels of its group, then the window.
  Shape filter = w.type.shape;
  filter[1] = channels;
  OPSPLIT_TRY(filter, Shape::from(filter.dims().subspan(1)));
  float* out = y.as<float>();
  for_each_index(y.type.shape, [&](const Coordinates& at) {
    const std::int64_t group = at[1] / out_channels;
    double sum = b ? static_cast<double>(b->as<float>()[at[1]]) : 0.0;
    for_each_index(filter, [&](const Coordinates& in_filter) {
      const std::int64_t channel = group * channels + in_filter[0];
      std::int64_t x_offset = at[0] * x_strides[0] + channel * x_strides[1];
      std::int64_t w_offset = channel * w_strides[0] + at[1] % out_channels * w_strides[1];
      for (std::size_t axis = 0; axis + 2 < rank; ++axis) {
        const std::int64_t distance = at[axis + 2] + conv.window.pads_begin[axis] -
                                      in_filter[axis + 1] * conv.window.dilations[axis];
        const std::int64_t position = distance / conv.window.strides[axis];
        if (distance < 0 || distance % conv.window.strides[axis] != 0 ||
            position >= x.type.shape[axis + 2])
          return;
        x_offset += position * x_strides[axis + 2];
        w_offset += in_filter[axis + 1] * w_strides[axis + 2];
      }
      sum += static_cast<double>(x.as<float>()[x_offset]) *
             static_cast<double>(w.as<float>()[w_offset]);
    });
    *out++ = static_cast<float>(sum);
  });
  return {};
}

}  // namespace opsplit::operators
