// Walks over a tensor in row-major order, keeping the offsets of operands that lie differently.
#pragma once

#include <array>

#include "graph/ops/op.hpp"

namespace opsplit::graph::ops {

// Elements from one index to the next along each axis, in row-major order.
inline Dims strides_of(const Shape& shape) {
  Dims strides(shape.rank(), 1);
  for (std::size_t axis = shape.rank(); axis-- > 1;)
    strides[axis - 1] = strides[axis] * shape[axis];
  return strides;
}

// The strides with which a tensor of shape `from` is read as if it had shape `to`: numpy's rule.
inline Dims broadcast_strides(const Shape& from, const Shape& to) {
  const Dims own = strides_of(from);
  Dims strides(to.rank(), 0);
  const std::size_t lead = to.rank() - from.rank();
  for (std::size_t axis = 0; axis < from.rank(); ++axis)
    if (from[axis] != 1) strides[lead + axis] = own[axis];
  return strides;
}

// Calls f(offset_of_operand_0, ...) for each index of `shape`.
template <std::size_t N, class F>
void walk(const Shape& shape, const std::array<Dims, N>& strides, F f) {
  for (const std::int64_t dim : shape)
    if (dim == 0) return;
  std::array<std::int64_t, N> offsets{};
  Shape index = shape;
  for (std::int64_t& dim : std::span(&index[0], index.rank())) dim = 0;
  for (;;) {
    std::apply(f, offsets);
    std::size_t axis = shape.rank();
    for (;;
         --axis) {  // the odometer: back to 0 on every axis that is at its end, one on on the next
      if (axis == 0) return;
      const std::size_t at = axis - 1;
      const bool at_end = ++index[at] == shape[at];
      for (std::size_t n = 0; n < N; ++n)
        offsets[n] += at_end ? -strides[n][at] * (shape[at] - 1) : strides[n][at];
      if (!at_end) break;
      index[at] = 0;
    }
  }
}

}  // namespace opsplit::graph::ops
