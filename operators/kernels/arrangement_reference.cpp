// Elements in another arrangement, by a rule that needs no indices: Expand, Tile, Trilu, DepthToSpace, SpaceToDepth,
// ReverseSequence, EyeLike, Range.
#include <cstring>

#include "operators/kernels/elementwise.hpp"
#include "operators/kernels/movement.hpp"

namespace opsplit::operators::reference {
namespace {

constexpr std::int64_t nothing = -1;

Result<> mismatch(const Call& call) {
  return fail(ErrorCode::invalid_input, "{} of {} giving {}", call.node.op_type,
              to_string(call.inputs[0].type), to_string(call.outputs[0].type));
}

// y's element at `at` is x's at offset source(at), or zero where that is `nothing`.
template <class Source>
Result<> arrange(const Call& call, Source source) {
  const TensorView& x = call.inputs[0];
  const MutableTensorView& y = call.outputs[0];
  if (x.type.dtype != y.type.dtype) return mismatch(call);
  const std::size_t size = y.type.dtype.bytes();
  std::byte* to = y.data;
  for_each_index(y.type.shape, [&](const Coordinates& at) {
    const std::int64_t from = source(at);
    if (from == nothing)
      std::memset(to, 0, size);
    else
      std::memcpy(to, x.data + static_cast<std::size_t>(from) * size, size);
    to += size;
  });
  return {};
}

// A number that came as a tensor of one int64.
Result<std::int64_t> number(const Call& call, std::size_t input) {
  if (call.inputs[input].type.dtype == int64 && call.inputs[input].type.shape.elements() == 1)
    return call.inputs[input].as<std::int64_t>()[0];
  return fail(ErrorCode::invalid_input, "{} with {}", call.node.op_type,
              to_string(call.inputs[input].type));
}

Result<> check_equal(const Call& call) {
  if (call.inputs[0].type != call.outputs[0].type) return mismatch(call);
  return {};
}

}  // namespace

Result<> expand(const Call& call) {
  const Shape& x = call.inputs[0].type.shape;
  const Shape& y = call.outputs[0].type.shape;
  if (!is_broadcastable(x, y)) return mismatch(call);
  if (call.inputs[0].type == call.outputs[0].type) return view(call);  // the planner's copies
  const Coordinates strides = broadcast_strides(x, y);
  return arrange(call, [&](const Coordinates& at) { return offset_of(at, strides, y.rank()); });
}

Result<> tile(const Call& call) {
  const Shape& x = call.inputs[0].type.shape;
  const Shape& y = call.outputs[0].type.shape;
  if (x.rank() != y.rank()) return mismatch(call);
  for (std::size_t axis = 0; axis < x.rank(); ++axis)
    if (y[axis] != 0 && (x[axis] == 0 || y[axis] % x[axis] != 0)) return mismatch(call);
  const Coordinates strides = strides_of(x);
  return arrange(call, [&](const Coordinates& at) {
    std::int64_t from = 0;
    for (std::size_t axis = 0; axis < x.rank(); ++axis) from += at[axis] % x[axis] * strides[axis];
    return from;
  });
}

// The triangle above (or below) diagonal k of each matrix; the rest is zero.
Result<> trilu(const Call& call) {
  OPSPLIT_CHECK(check_equal(call));
  const Shape& shape = call.inputs[0].type.shape;
  if (shape.rank() < 2) return mismatch(call);
  std::int64_t k = 0;
  if (call.has_input(1)) {
    OPSPLIT_TRY(k, number(call, 1));
  }
  // More than all rows or columns is as good as all, and can't overflow.
  k = std::clamp(k, -shape[shape.rank() - 2], shape[shape.rank() - 1]);
  const bool upper = call.node.integer("upper", 1) != 0;
  std::int64_t from = 0;
  return arrange(call, [&](const Coordinates& at) {
    const std::int64_t beyond = at[shape.rank() - 1] - at[shape.rank() - 2] - k;
    const std::int64_t own = from++;
    return (upper ? beyond >= 0 : beyond <= 0) ? own : nothing;
  });
}

// Blocks of an image become channels, or the other way round.
Result<> depth_to_space(const Call& call) {
  const bool to_space = call.node.op_type == "DepthToSpace";
  const Shape& x = call.inputs[0].type.shape;
  const Shape& y = call.outputs[0].type.shape;
  const std::int64_t block = call.node.integer("blocksize", 0);
  const Shape& deep = to_space ? x : y;
  const Shape& wide = to_space ? y : x;
  if (x.rank() != 4 || y.rank() != 4 || block < 1 || deep[0] != wide[0] ||
      deep[1] / block / block != wide[1] || deep[1] % (block * block) != 0 ||
      wide[2] / block != deep[2] || wide[3] / block != deep[3] || wide[2] % block != 0 ||
      wide[3] % block != 0)
    return mismatch(call);
  const bool column_row_depth = call.node.text("mode", "DCR") == "CRD";
  const Coordinates strides = strides_of(x);
  return arrange(call, [&](const Coordinates& at) {
    Coordinates from = at;
    if (to_space) {
      const std::int64_t in_block = at[2] % block * block + at[3] % block;
      from[1] = column_row_depth ? at[1] * block * block + in_block : in_block * y[1] + at[1];
      from[2] = at[2] / block;
      from[3] = at[3] / block;
    } else {
      const std::int64_t in_block = at[1] / x[1];
      from[1] = at[1] % x[1];
      from[2] = at[2] * block + in_block / block;
      from[3] = at[3] * block + in_block % block;
    }
    return offset_of(from, strides, 4);
  });
}

// The first elements of each sequence in reverse, as many as its length says.
Result<> reverse_sequence(const Call& call) {
  OPSPLIT_CHECK(check_equal(call));
  const Shape& shape = call.inputs[0].type.shape;
  const std::int64_t batch_axis = call.node.integer("batch_axis", 1);
  const std::int64_t time_axis = call.node.integer("time_axis", 0);
  if (shape.rank() < 2 || batch_axis < 0 || batch_axis > 1 || time_axis != 1 - batch_axis)
    return mismatch(call);
  const auto batch = static_cast<std::size_t>(batch_axis);
  const auto time = static_cast<std::size_t>(time_axis);
  const TensorView& lengths = call.inputs[1];
  if (lengths.type != TensorType{int64, Shape{shape[batch]}}) return mismatch(call);
  for (std::int64_t i = 0; i < shape[batch]; ++i)
    if (const std::int64_t length = lengths.as<std::int64_t>()[i];
        length < 0 || length > shape[time])
      return fail(ErrorCode::invalid_input, "ReverseSequence of {} elements, there are {}", length,
                  shape[time]);
  const Coordinates strides = strides_of(shape);
  return arrange(call, [&](const Coordinates& at) {
    Coordinates from = at;
    const std::int64_t length = lengths.as<std::int64_t>()[at[batch]];
    if (at[time] < length) from[time] = length - 1 - at[time];
    return offset_of(from, strides, shape.rank());
  });
}

Result<> eye_like(const Call& call) {
  const MutableTensorView& y = call.outputs[0];
  if (call.inputs[0].type.shape != y.type.shape || y.type.shape.rank() != 2) return mismatch(call);
  const std::int64_t k = std::clamp(call.node.integer("k", 0), -y.type.shape[0], y.type.shape[1]);
  const bool known = graph::ops::dispatch(y.type.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    if constexpr (std::is_void_v<T>) {
      return false;
    } else {
      Stored<T>* to = y.as<Stored<T>>();
      for_each_index(y.type.shape, [&](const Coordinates& at) { *to++ = at[1] - at[0] == k; });
      return true;
    }
  });
  if (!known) return not_supported(call);
  return {};
}

Result<> range(const Call& call) {
  const MutableTensorView& y = call.outputs[0];
  for (const TensorView& input : call.inputs)
    if (input.data == nullptr || input.type.dtype != y.type.dtype ||
        input.type.shape.elements() != 1)
      return mismatch(call);
  if (call.inputs.size() != 3 || y.type.shape.rank() != 1) return mismatch(call);
  const bool known = graph::ops::dispatch(y.type.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    if constexpr (std::is_void_v<T> || std::is_same_v<T, bool>) {
      return false;
    } else {
      const T start = call.inputs[0].as<T>()[0];
      const T step = call.inputs[2].as<T>()[0];
      for (std::int64_t i = 0; i < y.type.shape[0]; ++i)
        y.as<T>()[i] = add(start, multiply(static_cast<T>(i), step));
      return true;
    }
  });
  if (!known) return not_supported(call);
  return {};
}

}  // namespace opsplit::operators::reference
