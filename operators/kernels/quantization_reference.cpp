// QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear.
#include <algorithm>
#include <cmath>

#include "operators/kernels/elementwise.hpp"
#include "operators/kernels/movement.hpp"

namespace opsplit::operators::reference {
namespace {

Result<> mismatch(const Call& call) {
  return fail(ErrorCode::invalid_input, "{} of {} by {} giving {}", call.node.op_type,
              to_string(call.inputs[0].type), to_string(call.inputs[1].type),
              to_string(call.outputs[0].type));
}

// Where an element's scale and zero point are.
struct Parameters {
  Coordinates strides{};  // of the scales, by the tensor's axes
  std::size_t axis = 0;
  std::int64_t block = 1;  // elements along the axis that have the same scale

  [[nodiscard]] std::int64_t of(Coordinates at, std::size_t rank) const {
    at[axis] /= block;
    return offset_of(at, strides, rank);
  }
};

Result<Parameters> parameters_of(const Call& call) {
  const Shape& x = call.inputs[0].type.shape;
  const Shape& scales = call.inputs[1].type.shape;
  Parameters parameters;
  if (scales.elements() == 1) return parameters;
  OPSPLIT_TRY(parameters.axis, read_axis(call.node, 1, x.rank()));
  if (scales.rank() == 1) {
    if (scales[0] != x[parameters.axis]) return tl::unexpected(mismatch(call).error());
    parameters.strides[parameters.axis] = 1;
    return parameters;
  }
  parameters.block = call.node.integer("block_size", 0);
  parameters.strides = strides_of(scales);
  bool fits = parameters.block >= 1 && scales.rank() == x.rank();
  for (std::size_t axis = 0; axis < x.rank() && fits; ++axis)
    fits = axis == parameters.axis
               ? (x[axis] == 0 || (x[axis] - 1) / parameters.block < scales[axis])
               : scales[axis] == x[axis];
  if (!fits) return tl::unexpected(mismatch(call).error());
  return parameters;
}

template <class Q>
Q quantized(float x, float scale, Q zero) {
  const float rounded = std::nearbyint(x / scale) + static_cast<float>(zero);
  return graph::ops::convert<Q>(rounded);
}

// Calls f with a null pointer to the C++ type of a quantized tensor.
template <class F>
Result<> with_quantized(const Call& call, DType dtype, F f) {
  const bool done = graph::ops::dispatch(dtype, [&](auto* type) {
    using Q = std::remove_pointer_t<decltype(type)>;
    if constexpr (std::is_integral_v<Q> && !std::is_same_v<Q, bool>)
      return f(type), true;
    else
      return false;
  });
  if (!done) return not_supported(call);
  return {};
}

Result<> check(const Call& call, const TensorView& quantized, DType real) {
  const TensorType& scale = call.inputs[1].type;
  if (call.inputs[0].type.shape != call.outputs[0].type.shape || real != float32 ||
      scale.dtype != float32 ||
      (call.has_input(2) && call.inputs[2].type != TensorType{quantized.type.dtype, scale.shape}))
    return mismatch(call);
  return {};
}

}  // namespace

Result<> quantize(const Call& call) {
  const MutableTensorView& y = call.outputs[0];
  OPSPLIT_CHECK(check(call, {y.type, y.layout, y.data}, call.inputs[0].type.dtype));
  OPSPLIT_TRY(const Parameters parameters, parameters_of(call));
  const std::size_t rank = y.type.shape.rank();
  return with_quantized(call, y.type.dtype, [&](auto* type) {
    using Q = std::remove_pointer_t<decltype(type)>;
    const float* x = call.inputs[0].as<float>();
    Q* to = y.as<Q>();
    for_each_index(y.type.shape, [&](const Coordinates& at) {
      const std::int64_t parameter = parameters.of(at, rank);
      const Q zero = call.has_input(2) ? call.inputs[2].as<Q>()[parameter] : Q{0};
      *to++ = quantized<Q>(*x++, call.inputs[1].as<float>()[parameter], zero);
    });
  });
}

Result<> dequantize(const Call& call) {
  const TensorView& x = call.inputs[0];
  OPSPLIT_CHECK(check(call, x, call.outputs[0].type.dtype));
  OPSPLIT_TRY(const Parameters parameters, parameters_of(call));
  const std::size_t rank = x.type.shape.rank();
  return with_quantized(call, x.type.dtype, [&](auto* type) {
    using Q = std::remove_pointer_t<decltype(type)>;
    const Q* from = x.as<Q>();
    float* to = call.outputs[0].as<float>();
    for_each_index(x.type.shape, [&](const Coordinates& at) {
      const std::int64_t parameter = parameters.of(at, rank);
      const auto zero =
          static_cast<double>(call.has_input(2) ? call.inputs[2].as<Q>()[parameter] : Q{0});
      *to++ = static_cast<float>((static_cast<double>(*from++) - zero) *
                                 static_cast<double>(call.inputs[1].as<float>()[parameter]));
    });
  });
}

// To uint8, by the scale and zero point that the elements' range asks for.
Result<> dynamic_quantize(const Call& call) {
  const TensorView& x = call.inputs[0];
  const auto is = [&](std::size_t output, const TensorType& type) {
    return call.outputs[output].data == nullptr || call.outputs[output].type == type;
  };
  if (call.outputs.size() != 3 || x.type.dtype != float32 || !is(0, {uint8, x.type.shape}) ||
      !is(1, {float32, {}}) || !is(2, {uint8, {}}))
    return not_supported(call);
  OPSPLIT_TRY(const std::int64_t elements, x.type.shape.elements());
  float low = 0, high = 0;  // zero is always representable
  for (std::int64_t i = 0; i < elements; ++i) {
    low = std::min(low, x.as<float>()[i]);
    high = std::max(high, x.as<float>()[i]);
  }
  const float scale = high > low ? (high - low) / 255 : 1;
  const auto zero = quantized<std::uint8_t>(-low, scale, 0);
  for (std::int64_t i = 0; i < elements; ++i)
    if (call.outputs[0].data != nullptr)
      call.outputs[0].as<std::uint8_t>()[i] = quantized(x.as<float>()[i], scale, zero);
  if (call.outputs[1].data != nullptr) call.outputs[1].as<float>()[0] = scale;
  if (call.outputs[2].data != nullptr) call.outputs[2].as<std::uint8_t>()[0] = zero;
  return {};
}

}  // namespace opsplit::operators::reference
