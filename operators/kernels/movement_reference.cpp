// What only moves elements: Concat, Transpose, Slice, Gather, Pad, Split, and views. They know
// elements by their size, not by their type.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "graph/ops/element.hpp"
#include "operators/kernels/index_space.hpp"
#include "operators/kernels/movement.hpp"
#include "operators/kernels/reference.hpp"

namespace opsplit::operators {

Result<std::size_t> read_axis(const graph::Node& node, std::int64_t otherwise, std::size_t rank) {
  const std::int64_t axis = node.integer("axis", otherwise);
  const auto signed_rank = static_cast<std::int64_t>(rank);
  if (axis < -signed_rank || axis >= signed_rank)
    return fail(ErrorCode::invalid_input, "axis {} of a tensor of rank {}", axis, rank);
  return static_cast<std::size_t>(axis < 0 ? axis + signed_rank : axis);
}

Result<std::size_t> read_concat(const graph::Node& node, std::span<const TensorType> inputs,
                                const TensorType& output) {
  OPSPLIT_TRY(const std::size_t axis, read_axis(node, 0, output.shape.rank()));
  std::int64_t total = 0;
  for (const TensorType& input : inputs) {
    Shape rest = input.shape;
    const bool same_rank = rest.rank() == output.shape.rank();
    if (same_rank) total += std::exchange(rest[axis], output.shape[axis]);
    if (!same_rank || rest != output.shape || input.dtype != output.dtype)
      return fail(ErrorCode::invalid_input, "Concat of {} into {}", to_string(input),
                  to_string(output));
  }
  if (total != output.shape[axis])
    return fail(ErrorCode::invalid_input, "Concat of {} along axis {} into {}", total, axis,
                to_string(output));
  return axis;
}

Result<std::vector<std::size_t>> read_permutation(const graph::Node& node, const TensorType& input,
                                                  const TensorType& output) {
  const std::size_t rank = input.shape.rank();
  std::vector<std::size_t> permutation(rank);
  const auto given = node.integers("perm");
  for (std::size_t i = 0; i < rank; ++i)
    permutation[i] = given.empty()      ? rank - 1 - i
                     : i < given.size() ? static_cast<std::size_t>(given[i])
                                        : rank;
  std::vector<bool> seen(rank, false);
  bool valid = output.shape.rank() == rank && output.dtype == input.dtype &&
               (given.empty() || given.size() == rank);
  for (std::size_t i = 0; i < rank && valid; ++i) {
    valid = permutation[i] < rank && !seen[permutation[i]] &&
            output.shape[i] == input.shape[permutation[i]];
    if (valid) seen[permutation[i]] = true;
  }
  if (!valid)
    return fail(ErrorCode::invalid_input, "Transpose of {} giving {}", to_string(input),
                to_string(output));
  return permutation;
}

namespace reference {
namespace {

void copy_element(const MutableTensorView& y, std::int64_t to, const TensorView& x,
                  std::int64_t from) {
  const std::size_t size = y.type.dtype.bytes();
  std::memcpy(y.data + static_cast<std::size_t>(to) * size,
              x.data + static_cast<std::size_t>(from) * size, size);
}

// y's element at `at` is x's at first + step x at, per axis; `missing` where that is outside of x.
template <class Missing>
void copy_box(const MutableTensorView& y, const TensorView& x, const Coordinates& first,
              const Coordinates& step, Missing&& missing) {
  const std::size_t rank = y.type.shape.rank();
  const Coordinates strides = strides_of(x.type.shape);
  std::int64_t to = 0;
  for_each_index(y.type.shape, [&](const Coordinates& at) {
    std::int64_t from = 0;
    bool inside = true;
    for (std::size_t axis = 0; axis < rank; ++axis) {
      const std::int64_t position = first[axis] + step[axis] * at[axis];
      inside = inside && position >= 0 && position < x.type.shape[axis];
      from += inside ? position * strides[axis] : 0;
    }
    if (inside)
      copy_element(y, to, x, from);
    else
      missing(to);
    ++to;
  });
}

Coordinates ones() {
  Coordinates steps{};
  steps.fill(1);
  return steps;
}

// A list of indices that is an attribute or an input, as the opset has it; empty if absent.
Result<std::vector<std::int64_t>> indices(const Call& call, std::string_view attribute,
                                          std::size_t input) {
  if (!call.has_input(input)) return call.node.integers(attribute);
  const TensorView& view = call.inputs[input];
  OPSPLIT_TRY(const std::int64_t count, view.type.shape.elements());
  std::vector<std::int64_t> result(static_cast<std::size_t>(count));
  if (view.type.dtype == int64)
    std::copy_n(view.as<std::int64_t>(), count, result.begin());
  else if (view.type.dtype == int32)
    std::copy_n(view.as<std::int32_t>(), count, result.begin());
  else
    return fail(ErrorCode::invalid_input, "indices of type {}", to_string(view.type.dtype));
  return result;
}

Result<> check_ranks(const Call& call) {
  const TensorType& x = call.inputs[0].type;
  const TensorType& y = call.outputs[0].type;
  if (x.dtype != y.dtype || x.shape.rank() != y.shape.rank())
    return fail(ErrorCode::invalid_input, "{} of {} giving {}", call.node.op_type, to_string(x),
                to_string(y));
  return {};
}

}  // namespace

Result<> concat(const Call& call) {
  std::vector<TensorType> types;
  for (const TensorView& input : call.inputs) types.push_back(input.type);
  const MutableTensorView& y = call.outputs[0];
  OPSPLIT_TRY(const std::size_t axis, read_concat(call.node, types, y.type));
  const Coordinates strides = strides_of(y.type.shape);
  std::int64_t start = 0;
  for (const TensorView& x : call.inputs) {
    std::int64_t from = 0;
    for_each_index(x.type.shape, [&](const Coordinates& at) {
      const std::int64_t to = offset_of(at, strides, y.type.shape.rank()) + start * strides[axis];
      copy_element(y, to, x, from++);
    });
    start += x.type.shape[axis];
  }
  return {};
}

Result<> transpose(const Call& call) {
  const TensorView& x = call.inputs[0];
  const MutableTensorView& y = call.outputs[0];
  OPSPLIT_TRY(const auto permutation, read_permutation(call.node, x.type, y.type));
  const Coordinates strides = strides_of(x.type.shape);
  std::int64_t to = 0;
  for_each_index(y.type.shape, [&](const Coordinates& at) {
    std::int64_t from = 0;
    for (std::size_t axis = 0; axis < permutation.size(); ++axis)
      from += at[axis] * strides[permutation[axis]];
    copy_element(y, to++, x, from);
  });
  return {};
}

Result<> slice(const Call& call) {
  OPSPLIT_CHECK(check_ranks(call));
  const TensorView& x = call.inputs[0];
  const MutableTensorView& y = call.outputs[0];
  const std::size_t rank = x.type.shape.rank();
  OPSPLIT_TRY(const auto starts, indices(call, "starts", 1));
  OPSPLIT_TRY(auto axes, indices(call, "axes", 3));
  OPSPLIT_TRY(const auto steps, indices(call, "steps", 4));
  if (axes.empty()) {
    axes.resize(starts.size());
    std::iota(axes.begin(), axes.end(), 0);
  }
  if (axes.size() != starts.size() || (!steps.empty() && steps.size() != starts.size()))
    return fail(ErrorCode::invalid_input, "Slice with lists of different lengths");
  Coordinates first{};
  Coordinates step = ones();
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const std::int64_t axis = axes[i] < 0 ? axes[i] + static_cast<std::int64_t>(rank) : axes[i];
    if (axis < 0 || axis >= static_cast<std::int64_t>(rank))
      return fail(ErrorCode::invalid_input, "Slice along axis {}", axes[i]);
    const auto at = static_cast<std::size_t>(axis);
    const std::int64_t dim = x.type.shape[at];
    if (dim == 0) continue;
    step[at] = steps.empty() ? 1 : steps[i];
    // More than the axis is as good as the axis, and can't overflow below.
    step[at] = std::clamp(step[at], -dim - 1, dim + 1);
    if (step[at] == 0) return fail(ErrorCode::invalid_input, "Slice with step 0");
    const std::int64_t start = std::clamp(starts[i], -dim - 1, dim);
    first[at] =
        std::clamp<std::int64_t>(start < 0 ? start + dim : start, 0, step[at] < 0 ? dim - 1 : dim);
  }
  bool outside = false;
  copy_box(y, x, first, step, [&](std::int64_t) { outside = true; });
  if (outside)
    return fail(ErrorCode::invalid_input, "Slice of {} does not give {}", to_string(x.type),
                to_string(y.type));
  return {};
}

Result<> gather(const Call& call) {
  const TensorView& x = call.inputs[0];
  const MutableTensorView& y = call.outputs[0];
  const Shape& data = x.type.shape;
  OPSPLIT_TRY(const std::size_t axis, read_axis(call.node, 0, data.rank()));
  const Shape& places = call.inputs[1].type.shape;
  OPSPLIT_TRY(const auto positions, indices(call, "", 1));
  std::vector<std::int64_t> expected(data.begin(), data.begin() + axis);
  expected.insert(expected.end(), places.begin(), places.end());
  expected.insert(expected.end(), data.begin() + axis + 1, data.end());
  if (!std::equal(expected.begin(), expected.end(), y.type.shape.begin(), y.type.shape.end()) ||
      x.type.dtype != y.type.dtype)
    return fail(ErrorCode::invalid_input, "Gather of {} giving {}", to_string(x.type),
                to_string(y.type));
  const auto product = [&](std::size_t from, std::size_t to) {
    std::int64_t result = 1;
    for (std::size_t i = from; i < to; ++i) result *= data[i];
    return result;
  };
  const std::int64_t outer = product(0, axis);
  const auto row = static_cast<std::size_t>(product(axis + 1, data.rank())) * y.type.dtype.bytes();
  std::byte* out = y.data;
  for (std::int64_t block = 0; block < outer; ++block)
    for (const std::int64_t position : positions) {
      const std::int64_t from = position < 0 ? position + data[axis] : position;
      if (position < -data[axis] || from >= data[axis])
        return fail(ErrorCode::invalid_input, "Gather at {} along an axis of {}", position,
                    data[axis]);
      std::memcpy(out, x.data + static_cast<std::size_t>(block * data[axis] + from) * row, row);
      out += row;
    }
  return {};
}

namespace {

constexpr std::int64_t outside = -1;

// Which of `size` elements is seen at `position`, which may lie beyond them.
std::int64_t padded_position(std::int64_t position, std::int64_t size, std::string_view mode) {
  if (position >= 0 && position < size) return position;
  if (mode == "constant" || size == 0) return outside;
  if (mode == "edge") return std::clamp<std::int64_t>(position, 0, size - 1);
  const std::int64_t period = mode == "wrap" ? size : std::max<std::int64_t>(2 * (size - 1), 1);
  const std::int64_t inside = (position % period + period) % period;
  return inside < size ? inside : period - inside;  // reflect: without repeating the last one
}

// For each axis of the output, the element of the input that each of its elements is.
Result<std::vector<std::vector<std::int64_t>>> padded_positions(const Call& call) {
  const Shape& x = call.inputs[0].type.shape;
  const Shape& y = call.outputs[0].type.shape;
  OPSPLIT_TRY(const auto pads, indices(call, "pads", 1));
  OPSPLIT_TRY(auto axes, indices(call, "axes", 3));
  if (axes.empty()) {
    axes.resize(x.rank());
    std::iota(axes.begin(), axes.end(), 0);
  }
  std::vector<std::int64_t> before(x.rank()), after(x.rank());
  bool valid = pads.size() == 2 * axes.size();
  for (std::size_t i = 0; i < axes.size() && valid; ++i) {
    const std::int64_t axis = axes[i] < 0 ? axes[i] + static_cast<std::int64_t>(x.rank()) : axes[i];
    valid = axis >= 0 && axis < static_cast<std::int64_t>(x.rank());
    if (!valid) break;
    before[static_cast<std::size_t>(axis)] = pads[i];
    after[static_cast<std::size_t>(axis)] = pads[axes.size() + i];
  }
  const std::string mode = call.node.text("mode", "constant");
  std::vector<std::vector<std::int64_t>> positions(x.rank());
  for (std::size_t axis = 0; axis < x.rank() && valid; ++axis) {
    std::int64_t size = 0;
    valid = !__builtin_add_overflow(x[axis], before[axis], &size) &&
            !__builtin_add_overflow(size, after[axis], &size) && size == y[axis] &&
            before[axis] > INT64_MIN;
    for (std::int64_t at = 0; at < y[axis] && valid; ++at)
      positions[axis].push_back(padded_position(at - before[axis], x[axis], mode));
  }
  if (valid) return positions;
  return fail(ErrorCode::invalid_input, "Pad of {} does not give {}",
              to_string(call.inputs[0].type), to_string(call.outputs[0].type));
}

}  // namespace

Result<> pad(const Call& call) {
  OPSPLIT_CHECK(check_ranks(call));
  const TensorView& x = call.inputs[0];
  const MutableTensorView& y = call.outputs[0];
  OPSPLIT_TRY(const auto positions, padded_positions(call));
  TensorView value;
  const float attribute = call.node.real("value", 0.0F);  // until operator set 10
  std::array<std::byte, sizeof(std::uint64_t)> filler{};
  if (call.has_input(2)) {
    if (call.inputs[2].type.dtype != x.type.dtype || call.inputs[2].type.shape.elements() != 1)
      return fail(ErrorCode::invalid_input, "Pad with a value {}", to_string(call.inputs[2].type));
    value.data = call.inputs[2].data;
  } else {
    graph::ops::cast_elements(float32, reinterpret_cast<const std::byte*>(&attribute), x.type.dtype,
                              filler.data(), 1);
    value.data = filler.data();
  }
  const Coordinates strides = strides_of(x.type.shape);
  std::int64_t to = 0;
  for_each_index(y.type.shape, [&](const Coordinates& at) {
    std::int64_t from = 0;
    bool inside = true;
    for (std::size_t axis = 0; axis < positions.size(); ++axis) {
      const std::int64_t position = positions[axis][static_cast<std::size_t>(at[axis])];
      inside = inside && position != outside;
      from += position * strides[axis];
    }
    copy_element(y, to++, inside ? x : value, inside ? from : 0);
  });
  return {};
}

Result<> split(const Call& call) {
  const TensorView& x = call.inputs[0];
  OPSPLIT_TRY(const std::size_t axis, read_axis(call.node, 0, x.type.shape.rank()));
  // The sizes are those of the outputs, which shape inference took from the model.
  std::vector<TensorType> types;
  for (const MutableTensorView& output : call.outputs) types.push_back(output.type);
  OPSPLIT_CHECK(read_concat(call.node, types, x.type).map([](std::size_t) {}));
  Coordinates first{};
  for (const MutableTensorView& y : call.outputs) {
    if (y.data != nullptr) copy_box(y, x, first, ones(), [](std::int64_t) {});
    first[axis] += y.type.shape[axis];
  }
  return {};
}

Result<> view(const Call& call) {
  OPSPLIT_TRY(const std::uint64_t size, byte_size(call.inputs[0].type));
  OPSPLIT_TRY(const std::uint64_t expected, byte_size(call.outputs[0].type));
  if (size != expected || call.inputs[0].type.dtype != call.outputs[0].type.dtype)
    return fail(ErrorCode::invalid_input, "{} of {} giving {}", call.node.op_type,
                to_string(call.inputs[0].type), to_string(call.outputs[0].type));
  std::memcpy(call.outputs[0].data, call.inputs[0].data, size);
  return {};
}

}  // namespace reference
}  // namespace opsplit::operators
