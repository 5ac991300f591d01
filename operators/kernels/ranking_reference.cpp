// Which elements along an axis are the largest: ArgMax, ArgMin, Hardmax, TopK.
#include <algorithm>
#include <numeric>
#include <vector>

#include "operators/kernels/elementwise.hpp"
#include "operators/kernels/movement.hpp"

namespace opsplit::operators::reference {
namespace {

// A tensor seen as lanes along one axis.
struct Lanes {
  std::int64_t outer = 1, size = 1, inner = 1;
};

Lanes lanes_of(const Shape& shape, std::size_t axis) {
  Lanes lanes;
  for (std::size_t i = 0; i < shape.rank(); ++i)
    (i < axis ? lanes.outer : i == axis ? lanes.size : lanes.inner) *= shape[i];
  return lanes;
}

// Calls f(first element of the lane, number of the lane).
template <class F>
void for_each_lane(const Lanes& lanes, F f) {
  for (std::int64_t outer = 0; outer < lanes.outer; ++outer)
    for (std::int64_t inner = 0; inner < lanes.inner; ++inner)
      f(outer * lanes.size * lanes.inner + inner, outer, inner);
}

// The index of the first (or last) of the largest (or smallest) in a lane.
template <class T>
std::int64_t best(const T* x, const Lanes& lanes, bool largest, bool last) {
  std::int64_t found = 0;
  for (std::int64_t i = 1; i < lanes.size; ++i) {
    const T value = x[i * lanes.inner], so_far = x[found * lanes.inner];
    if ((largest ? value > so_far : value < so_far) || (last && value == so_far)) found = i;
  }
  return found;
}

// What is no number is the largest: an order that does not depend on where the search begins.
template <class T>
bool comes_first(T a, T b, bool largest) {
  if (largest) std::swap(a, b);
  return b != b ? a == a : a < b;
}

Result<Lanes> lanes_along(const Call& call, std::int64_t otherwise) {
  const TensorType& type = call.inputs[0].type;
  OPSPLIT_TRY(const std::size_t axis, read_axis(call.node, otherwise, type.shape.rank()));
  const Lanes lanes = lanes_of(type.shape, axis);
  if (lanes.size == 0)
    return fail(ErrorCode::invalid_input, "{} along an empty axis of {}", call.node.op_type,
                to_string(type));
  return lanes;
}

}  // namespace

Result<> arg_extreme(const Call& call) {
  OPSPLIT_TRY(const Lanes lanes, lanes_along(call, 0));
  const MutableTensorView& y = call.outputs[0];
  if (y.type.dtype != int64 || y.type.shape.elements() != lanes.outer * lanes.inner)
    return fail(ErrorCode::invalid_input, "{} of {} giving {}", call.node.op_type,
                to_string(call.inputs[0].type), to_string(y.type));
  const bool largest = call.node.op_type == "ArgMax";
  const bool last = call.node.integer("select_last_index", 0) != 0;
  return with_numbers(call, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    std::int64_t* to = y.as<std::int64_t>();
    for_each_lane(lanes, [&](std::int64_t first, std::int64_t, std::int64_t) {
      *to++ = best(call.inputs[0].as<T>() + first, lanes, largest, last);
    });
  });
}

// One where the first largest is, else zero. Before operator set 13 over all axes from `axis` on.
Result<> hardmax(const Call& call) {
  const TensorType& type = call.inputs[0].type;
  if (type != call.outputs[0].type) return not_supported(call);
  OPSPLIT_TRY(Lanes lanes, lanes_along(call, call.opset < 13 ? 1 : -1));
  if (call.opset < 13) lanes = {lanes.outer, lanes.size * lanes.inner, 1};
  return with_numbers(call, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    T* to = call.outputs[0].as<T>();
    std::fill_n(to, lanes.outer * lanes.size * lanes.inner, T{0});
    for_each_lane(lanes, [&](std::int64_t first, std::int64_t, std::int64_t) {
      to[first + best(call.inputs[0].as<T>() + first, lanes, true, false) * lanes.inner] = T{1};
    });
  });
}

// The k largest (or smallest) in order, and where they were; of equals the first come first.
Result<> top_k(const Call& call) {
  const TensorType& type = call.inputs[0].type;
  OPSPLIT_TRY(const std::size_t axis, read_axis(call.node, -1, type.shape.rank()));
  const Lanes lanes = lanes_of(type.shape, axis);
  if (call.outputs.size() != 2) return not_supported(call);
  Shape expected = type.shape;
  expected[axis] =
      call.outputs[0].type.shape.rank() == expected.rank() ? call.outputs[0].type.shape[axis] : 0;
  const std::int64_t k = expected[axis];
  if (call.outputs[0].type != TensorType{type.dtype, expected} || k > lanes.size ||
      (call.outputs[1].data != nullptr && call.outputs[1].type != TensorType{int64, expected}))
    return fail(ErrorCode::invalid_input, "TopK of {} giving {}", to_string(type),
                to_string(call.outputs[0].type));
  const bool largest = call.node.integer("largest", 1) != 0;
  return with_numbers(call, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    std::vector<std::int64_t> order(static_cast<std::size_t>(lanes.size));
    for_each_lane(lanes, [&](std::int64_t first, std::int64_t outer, std::int64_t inner) {
      const T* x = call.inputs[0].as<T>() + first;
      std::iota(order.begin(), order.end(), 0);
      std::partial_sort(order.begin(), order.begin() + k, order.end(),
                        [&](std::int64_t a, std::int64_t b) {
                          const T left = x[a * lanes.inner], right = x[b * lanes.inner];
                          if (comes_first(left, right, largest)) return true;
                          return !comes_first(right, left, largest) && a < b;
                        });
      for (std::int64_t i = 0; i < k; ++i) {
        const std::int64_t to = (outer * k + i) * lanes.inner + inner;
        const std::int64_t from = order[static_cast<std::size_t>(i)];
        if (call.outputs[0].data != nullptr) call.outputs[0].as<T>()[to] = x[from * lanes.inner];
        if (call.outputs[1].data != nullptr) call.outputs[1].as<std::int64_t>()[to] = from;
      }
    });
  });
}

}  // namespace opsplit::operators::reference
