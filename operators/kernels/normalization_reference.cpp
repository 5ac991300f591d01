#include <algorithm>
#include <cmath>
#include <limits>

#include "operators/kernels/elementwise.hpp"
#include "operators/kernels/normalization.hpp"

namespace opsplit::operators {
namespace {

Result<> check_same(std::string_view what, const TensorType& input, const TensorType& output) {
  if (input != output)
    return fail(ErrorCode::invalid_input, "{} of {} giving {}", what, to_string(input),
                to_string(output));
  return {};
}

}  // namespace

Result<Softmax> read_softmax(const graph::Node& node, std::int64_t opset, const TensorType& input,
                             const TensorType& output) {
  OPSPLIT_CHECK(check_same("Softmax", input, output));
  const auto rank = static_cast<std::int64_t>(input.shape.rank());
  std::int64_t axis = node.integer("axis", opset < 13 ? 1 : -1);
  if (axis < 0) axis += rank;
  if (axis < 0 || axis > rank || (axis == rank && opset >= 13))
    return fail(ErrorCode::invalid_input, "Softmax over axis {} of {}", node.integer("axis", 0),
                to_string(input));
  Softmax softmax;
  for (std::int64_t i = 0; i < rank; ++i) {
    auto& product = i < axis                  ? softmax.outer
                    : opset < 13 || i == axis ? softmax.size
                                              : softmax.inner;
    product *= input.shape[static_cast<std::size_t>(i)];
  }
  return softmax;
}

Result<Lrn> read_lrn(const graph::Node& node, const TensorType& input, const TensorType& output) {
  OPSPLIT_CHECK(check_same("LRN", input, output));
  const Lrn lrn{node.integer("size", 0), node.real("alpha", 0.0001F), node.real("beta", 0.75F),
                node.real("bias", 1.0F)};
  if (input.shape.rank() < 2 || lrn.size < 1)
    return fail(ErrorCode::invalid_input, "LRN of size {} over {}", lrn.size, to_string(input));
  return lrn;
}

Result<BatchNormalization> read_batch_normalization(const graph::Node& node,
                                                    const TensorType& input,
                                                    std::span<const TensorView> parameters,
                                                    const TensorType& output) {
  OPSPLIT_CHECK(check_same("BatchNormalization", input, output));
  if (input.shape.rank() < 2 || parameters.size() != 4)
    return fail(ErrorCode::invalid_input, "BatchNormalization of {}", to_string(input));
  if (node.integer("training_mode", 0) != 0)
    return fail(ErrorCode::invalid_input, "BatchNormalization in training mode");
  const TensorType per_channel{input.dtype, Shape{input.shape[1]}};
  for (const TensorView& parameter : parameters)
    if (parameter.type != per_channel || parameter.data == nullptr)
      return fail(ErrorCode::invalid_input, "BatchNormalization of {} with a parameter {}",
                  to_string(input), to_string(parameter.type));
  const double epsilon = static_cast<double>(node.real("epsilon", 1e-5F));
  BatchNormalization result;
  for (std::int64_t channel = 0; channel < input.shape[1]; ++channel) {
    const auto value = [&](std::size_t parameter) {
      const TensorView& values = parameters[parameter];
      return input.dtype == float64 ? values.as<double>()[channel]
                                    : static_cast<double>(values.as<float>()[channel]);
    };
    const double factor = value(0) / std::sqrt(value(3) + epsilon);
    result.factor.push_back(factor);
    result.addend.push_back(value(1) - value(2) * factor);
  }
  return result;
}

namespace reference {
namespace {

template <class T>
void softmax_as(const Call& call, const Softmax& softmax) {
  const bool logarithm = call.node.op_type == "LogSoftmax";
  for (std::int64_t outer = 0; outer < softmax.outer; ++outer)
    for (std::int64_t inner = 0; inner < softmax.inner; ++inner) {
      const std::int64_t first = outer * softmax.size * softmax.inner + inner;
      const T* x = call.inputs[0].as<T>() + first;
      T* y = call.outputs[0].as<T>() + first;
      T largest = -std::numeric_limits<T>::infinity();
      for (std::int64_t i = 0; i < softmax.size; ++i)
        largest = std::max(largest, x[i * softmax.inner]);
      double sum = 0;
      for (std::int64_t i = 0; i < softmax.size; ++i)
        sum += std::exp(static_cast<double>(x[i * softmax.inner] - largest));
      for (std::int64_t i = 0; i < softmax.size; ++i) {
        const auto shifted = static_cast<double>(x[i * softmax.inner] - largest);
        y[i * softmax.inner] =
            static_cast<T>(logarithm ? shifted - std::log(sum) : std::exp(shifted) / sum);
      }
    }
}

template <class T>
void lrn_as(const Call& call, const Lrn& lrn) {
  const Shape& shape = call.inputs[0].type.shape;
  const Coordinates strides = strides_of(shape);
  const T* x = call.inputs[0].as<T>();
  T* y = call.outputs[0].as<T>();
  std::int64_t offset = 0;
  for_each_index(shape, [&](const Coordinates& at) {
    const std::int64_t first = std::max<std::int64_t>(at[1] - (lrn.size - 1) / 2, 0);
    const std::int64_t last = std::min(at[1] + lrn.size / 2, shape[1] - 1);
    double squares = 0;
    for (std::int64_t channel = first; channel <= last; ++channel) {
      const double value = static_cast<double>(x[offset + (channel - at[1]) * strides[1]]);
      squares += value * value;
    }
    const double base = static_cast<double>(lrn.bias) +
                        static_cast<double>(lrn.alpha) / static_cast<double>(lrn.size) * squares;
    y[offset] = static_cast<T>(static_cast<double>(x[offset]) /
                               std::pow(base, static_cast<double>(lrn.beta)));
    ++offset;
  });
}

}  // namespace

Result<> softmax(const Call& call) {
  OPSPLIT_TRY(const Softmax softmax,
              read_softmax(call.node, call.opset, call.inputs[0].type, call.outputs[0].type));
  return with_reals(
      call, [&](auto* type) { softmax_as<std::remove_pointer_t<decltype(type)>>(call, softmax); });
}

Result<> lrn(const Call& call) {
  OPSPLIT_TRY(const Lrn lrn, read_lrn(call.node, call.inputs[0].type, call.outputs[0].type));
  return with_reals(call,
                    [&](auto* type) { lrn_as<std::remove_pointer_t<decltype(type)>>(call, lrn); });
}

Result<> batch_normalization(const Call& call) {
  if (call.inputs.size() < 5) return fail(ErrorCode::invalid_input, "four parameters are needed");
  const TensorType& type = call.inputs[0].type;
  OPSPLIT_TRY(
      const BatchNormalization normalization,
      read_batch_normalization(call.node, type, call.inputs.subspan(1, 4), call.outputs[0].type));
  return with_reals(call, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    const T* x = call.inputs[0].as<T>();
    T* y = call.outputs[0].as<T>();
    for_each_index(type.shape, [&](const Coordinates& at) {
      const auto channel = static_cast<std::size_t>(at[1]);
      *y++ = static_cast<T>(static_cast<double>(*x++) * normalization.factor[channel] +
                            normalization.addend[channel]);
    });
  });
}

}  // namespace reference
}  // namespace opsplit::operators
