// LayerNormalization, InstanceNormalization, GroupNormalization: groups of neighbouring elements, each by its own mean
// and deviation, then scaled.
#include <cmath>

#include "operators/kernels/elementwise.hpp"
#include "operators/kernels/movement.hpp"

namespace opsplit::operators::reference {
namespace {

struct Statistics {
  double mean = 0, inverse_deviation = 0;
};

template <class T>
Statistics statistics_of(const T* x, std::int64_t size, double epsilon) {
  double sum = 0, squares = 0;
  for (std::int64_t i = 0; i < size; ++i) sum += static_cast<double>(x[i]);
  const double mean = sum / static_cast<double>(size);
  for (std::int64_t i = 0; i < size; ++i) {
    const double apart = static_cast<double>(x[i]) - mean;
    squares += apart * apart;
  }
  return {mean, 1 / std::sqrt(squares / static_cast<double>(size) + epsilon)};
}

// `groups` of `size` elements. f(group, i) gives {scale, bias} of an element, each(group, statistics) hears of each.
template <class T, class F, class Each>
void normalize(const Call& call, std::int64_t groups, std::int64_t size, F f, Each each) {
  const auto epsilon = static_cast<double>(call.node.real("epsilon", 1e-5F));
  for (std::int64_t group = 0; group < groups; ++group) {
    const T* x = call.inputs[0].as<T>() + group * size;
    T* y = call.outputs[0].as<T>() + group * size;
    const Statistics statistics = statistics_of(x, size, epsilon);
    each(group, statistics);
    for (std::int64_t i = 0; i < size; ++i) {
      const auto [scale, bias] = f(group, i);
      const double normal =
          (static_cast<double>(x[i]) - statistics.mean) * statistics.inverse_deviation;
      y[i] = static_cast<T>(normal * static_cast<double>(scale) + static_cast<double>(bias));
    }
  }
}

Result<> mismatch(const Call& call) {
  return fail(ErrorCode::invalid_input, "{} of {} with {} giving {}", call.node.op_type,
              to_string(call.inputs[0].type), to_string(call.inputs[1].type),
              to_string(call.outputs[0].type));
}

template <class T>
Result<> layers_as(const Call& call, std::size_t axis) {
  const Shape& shape = call.inputs[0].type.shape;
  OPSPLIT_TRY(const Shape normalized, Shape::from(shape.dims().subspan(axis)));
  for (const std::size_t i : {1u, 2u})
    if (call.has_input(i) && !is_broadcastable(call.inputs[i].type.shape, normalized))
      return mismatch(call);
  std::int64_t groups = 1;
  for (std::size_t i = 0; i < axis; ++i) groups *= shape[i];
  OPSPLIT_TRY(const std::int64_t size, normalized.elements());
  for (std::size_t i = 1; i < call.outputs.size(); ++i)
    if (call.outputs[i].data != nullptr &&
        (call.outputs[i].type.dtype != float32 || call.outputs[i].type.shape.elements() != groups))
      return mismatch(call);
  // Scale and bias, broadcast once.
  std::vector<T> scale(static_cast<std::size_t>(size)), bias(scale.size(), T{0});
  const auto spread = [&](std::size_t input, std::vector<T>& to) {
    const MutableTensorView whole{{call.inputs[0].type.dtype, normalized},
                                  Layout::row_major,
                                  reinterpret_cast<std::byte*>(to.data())};
    map<T, T, T>(call.inputs[input], call.inputs[input], whole, [](T x, T) { return x; });
  };
  spread(1, scale);
  if (call.has_input(2)) spread(2, bias);
  normalize<T>(
      call, groups, size,
      [&](std::int64_t, std::int64_t i) {
        return std::pair(scale[static_cast<std::size_t>(i)], bias[static_cast<std::size_t>(i)]);
      },
      [&](std::int64_t group, const Statistics& statistics) {
        const double values[] = {statistics.mean, statistics.inverse_deviation};
        for (std::size_t i = 1; i < call.outputs.size(); ++i)
          if (call.outputs[i].data != nullptr)
            call.outputs[i].as<float>()[group] = static_cast<float>(values[i - 1]);
      });
  return {};
}

template <class T>
Result<> groups_as(const Call& call, std::int64_t groups) {
  const Shape& shape = call.inputs[0].type.shape;
  OPSPLIT_TRY(const std::int64_t elements, shape.elements());
  const std::int64_t channels = shape[1];
  const std::int64_t per_image = elements / std::max<std::int64_t>(shape[0], 1);
  const std::int64_t in_channel = per_image / std::max<std::int64_t>(channels, 1);
  const std::int64_t size = per_image / groups;
  const std::int64_t numbers = call.inputs[1].type.shape[0];
  const T* scale = call.inputs[1].as<T>();
  const T* bias = call.inputs[2].as<T>();
  normalize<T>(
      call, shape[0] * groups, size,
      [&](std::int64_t group, std::int64_t i) {
        const std::int64_t channel = group % groups * (channels / groups) + i / in_channel;
        const std::int64_t at = numbers == channels ? channel : group % groups;
        return std::pair(scale[at], bias[at]);
      },
      [](std::int64_t, const Statistics&) {});
  return {};
}

Result<> check(const Call& call) {
  const TensorType& x = call.inputs[0].type;
  for (const TensorView& input : call.inputs)
    if (input.data != nullptr && input.type.dtype != x.dtype) return mismatch(call);
  if (call.outputs[0].type != x) return mismatch(call);
  if (x.dtype != float32 && x.dtype != float64) return not_supported(call);
  return {};
}

}  // namespace

Result<> layer_normalization(const Call& call) {
  OPSPLIT_CHECK(check(call));
  OPSPLIT_TRY(const std::size_t axis, read_axis(call.node, -1, call.inputs[0].type.shape.rank()));
  return call.inputs[0].type.dtype == float32 ? layers_as<float>(call, axis)
                                              : layers_as<double>(call, axis);
}

Result<> group_normalization(const Call& call) {
  OPSPLIT_CHECK(check(call));
  const TensorType& type = call.inputs[0].type;
  if (type.shape.rank() < 2) return mismatch(call);
  const std::int64_t channels = type.shape[1];
  const bool in_groups = call.node.op_type == "GroupNormalization";
  const std::int64_t groups = in_groups ? call.node.integer("num_groups", 0) : channels;
  const Shape& numbers = call.inputs[1].type.shape;
  if (groups < 1 || channels % groups != 0 || call.inputs[2].type.shape != numbers ||
      (numbers != Shape{channels} && numbers != Shape{groups}))
    return mismatch(call);
  return type.dtype == float32 ? groups_as<float>(call, groups) : groups_as<double>(call, groups);
}

}  // namespace opsplit::operators::reference
