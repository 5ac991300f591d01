#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>
#include <vector>

#include "operators/kernels/elementwise.hpp"
#include "operators/kernels/reduction.hpp"

namespace opsplit::operators::reference {
namespace {

// What is summed up in: reals as double, integers as the widest there is, wrapping around.
template <class T>
using Sum = std::conditional_t<
    std::is_floating_point_v<T>, double,
    std::conditional_t<std::is_same_v<T, std::uint64_t>, std::uint64_t, std::int64_t>>;

// What a reduction over `count` elements does: it starts, takes element after element, and ends.
// `largest` is that of the elements, where `needs_largest`.
template <class S>
struct Reduction {
  S start = 0;
  S (*take)(S result, S x, S largest) = nullptr;
  double (*end)(double result, double count, double largest) = nullptr;  // null: nothing more
  bool needs_largest = false;
};

template <class S>
constexpr S lowest = std::is_floating_point_v<S> ? -std::numeric_limits<S>::infinity()
                                                 : std::numeric_limits<S>::lowest();
template <class S>
constexpr S highest = std::is_floating_point_v<S> ? std::numeric_limits<S>::infinity()
                                                  : std::numeric_limits<S>::max();

// A maximum passes over what is no number; of nothing it is the lowest T.
template <class T, class S>
Reduction<S> reduction_of(std::string_view op) {
  const auto sum = [](S r, S x, S) { return add(r, x); };
  const auto squares = [](S r, S x, S) { return add(r, multiply(x, x)); };
  if (op == "ReduceSum") return {0, sum};
  if (op == "ReduceMean") return {0, sum, [](double r, double count, double) { return r / count; }};
  if (op == "ReduceMax")
    return {static_cast<S>(lowest<T>), [](S r, S x, S) { return std::max(r, x); }};
  if (op == "ReduceMin")
    return {static_cast<S>(highest<T>), [](S r, S x, S) { return std::min(r, x); }};
  if (op == "ReduceProd") return {1, [](S r, S x, S) { return multiply(r, x); }};
  if (op == "ReduceL1")
    return {0, [](S r, S x, S) { return add(r, x < 0 ? multiply<S>(x, -1) : x); }};
  if (op == "ReduceSumSquare") return {0, squares};
  if (op == "ReduceL2") return {0, squares, [](double r, double, double) { return std::sqrt(r); }};
  if (op == "ReduceLogSum") return {0, sum, [](double r, double, double) { return std::log(r); }};
  if constexpr (std::is_floating_point_v<S>)
    if (op == "ReduceLogSumExp")
      return {0, [](S r, S x, S largest) { return r + std::exp(x - largest); },
              [](double r, double, double largest) { return std::log(r) + largest; }, true};
  return {};
}

// Where each element of the input goes in the output, and how many go to one.
struct Targets {
  Coordinates strides{};
  std::int64_t kept = 1, count = 1;
};

Targets targets_of(const Shape& shape, const std::vector<bool>& reduced) {
  Targets targets;
  for (std::size_t axis = reduced.size(); axis-- > 0;) {
    if (reduced[axis]) {
      targets.count *= shape[axis];
    } else {
      targets.strides[axis] = targets.kept;
      targets.kept *= shape[axis];
    }
  }
  return targets;
}

// Calls f(result, element) for every element and what it is added to.
template <class T, class S, class F>
void visit(const TensorView& x, const Targets& targets, std::vector<S>& results, F f) {
  const std::size_t rank = x.type.shape.rank();
  const Stored<T>* in = x.as<Stored<T>>();
  for_each_index(x.type.shape, [&](const Coordinates& at) {
    const auto target = static_cast<std::size_t>(offset_of(at, targets.strides, rank));
    f(target, results[target], static_cast<S>(*in++));
  });
}

template <class T, class S = Sum<T>>
bool reduce_as(const Call& call, const Targets& targets) {
  const auto reduction = reduction_of<T, S>(call.node.op_type);
  if (reduction.take == nullptr) return false;
  const auto size = static_cast<std::size_t>(targets.kept);
  std::vector<S> largest(reduction.needs_largest ? size : 0, lowest<S>);
  if (reduction.needs_largest) {
    visit<T>(call.inputs[0], targets, largest,
             [](std::size_t, S& most, S x) { most = std::max(most, x); });
    for (S& most : largest)  // of nothing, or of what no exponential can be taken of
      if (!std::isfinite(static_cast<double>(most))) most = 0;
  }
  std::vector<S> results(size, reduction.start);
  visit<T>(call.inputs[0], targets, results, [&](std::size_t target, S& result, S x) {
    result = reduction.take(result, x, largest.empty() ? S{0} : largest[target]);
  });
  Stored<T>* y = call.outputs[0].as<Stored<T>>();
  for (std::size_t i = 0; i < size; ++i)
    y[i] = reduction.end == nullptr
               ? static_cast<Stored<T>>(results[i])
               : graph::ops::convert<Stored<T>>(reduction.end(
                     static_cast<double>(results[i]), static_cast<double>(targets.count),
                     largest.empty() ? 0.0 : static_cast<double>(largest[i])));
  return true;
}

}  // namespace

Result<> reduce(const Call& call) {
  const TensorView& x = call.inputs[0];
  const MutableTensorView& y = call.outputs[0];
  std::optional<std::span<const std::int64_t>> axes;
  if (call.has_input(1)) {
    const TensorView& view = call.inputs[1];
    if (view.type.dtype != int64)
      return fail(ErrorCode::invalid_input, "axes of type {}", to_string(view.type.dtype));
    OPSPLIT_TRY(const std::int64_t count, view.type.shape.elements());
    axes.emplace(view.as<std::int64_t>(), static_cast<std::size_t>(count));
  }
  OPSPLIT_TRY(const auto reduced, reduced_axes(call.node, x.type.shape.rank(), axes));
  const Targets targets = targets_of(x.type.shape, reduced);
  const std::string_view op = call.node.op_type;
  OPSPLIT_TRY(const std::int64_t elements, y.type.shape.elements());
  if (elements != targets.kept || x.type.dtype != y.type.dtype ||
      (targets.count == 0 && op == "ReduceMean"))
    return fail(ErrorCode::invalid_input, "{} of {} giving {}", op, to_string(x.type),
                to_string(y.type));
  const bool done = graph::ops::dispatch(x.type.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    if constexpr (std::is_void_v<T>)
      return false;
    else if constexpr (std::is_same_v<T, bool>)
      return (op == "ReduceMax" || op == "ReduceMin") && reduce_as<T>(call, targets);
    else if (op == "ReduceLogSumExp")  // exponentials are reals, of integers too
      return reduce_as<T, double>(call, targets);
    else
      return reduce_as<T>(call, targets);
  });
  if (!done) return not_supported(call);
  return {};
}

// Running sums along an axis, each with its own element or (exclusive) only with those before.
Result<> cumulative_sum(const Call& call) {
  const TensorView& x = call.inputs[0];
  const MutableTensorView& y = call.outputs[0];
  const TensorView& given = call.inputs[1];
  if (x.type != y.type || given.type.shape.elements() != 1 ||
      (given.type.dtype != int32 && given.type.dtype != int64))
    return fail(ErrorCode::invalid_input, "CumSum of {} along {}", to_string(x.type),
                to_string(given.type));
  const auto rank = static_cast<std::int64_t>(x.type.shape.rank());
  std::int64_t axis =
      given.type.dtype == int64 ? given.as<std::int64_t>()[0] : given.as<std::int32_t>()[0];
  if (axis < -rank || axis >= rank)
    return fail(ErrorCode::invalid_input, "CumSum along axis {} of {}", axis, to_string(x.type));
  if (axis < 0) axis += rank;
  const std::int64_t step = strides_of(x.type.shape)[static_cast<std::size_t>(axis)];
  const std::int64_t size = x.type.shape[static_cast<std::size_t>(axis)];
  const bool exclusive = call.node.integer("exclusive", 0) != 0;
  const bool reverse = call.node.integer("reverse", 0) != 0;
  const bool done = graph::ops::dispatch(x.type.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    if constexpr (std::is_void_v<T> || std::is_same_v<T, bool>) {
      return false;
    } else {
      Shape lanes = x.type.shape;
      lanes[static_cast<std::size_t>(axis)] = std::min<std::int64_t>(size, 1);
      const Coordinates strides = strides_of(x.type.shape);
      for_each_index(lanes, [&](const Coordinates& at) {
        const std::int64_t first = offset_of(at, strides, static_cast<std::size_t>(rank));
        Sum<T> sum = 0;
        for (std::int64_t i = 0; i < size; ++i) {
          const std::int64_t offset = first + (reverse ? size - 1 - i : i) * step;
          const auto value = static_cast<Sum<T>>(x.as<T>()[offset]);
          if (!exclusive) sum = add(sum, value);
          y.as<T>()[offset] = static_cast<T>(sum);
          if (exclusive) sum = add(sum, value);
        }
      });
      return true;
    }
  });
  if (!done) return not_supported(call);
  return {};
}

}  // namespace opsplit::operators::reference
