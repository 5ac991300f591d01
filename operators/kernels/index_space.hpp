// Walking over all elements of a tensor by their coordinates, and over a smaller one that is
// broadcast against it.
#pragma once

#include <array>
#include <cstdint>

#include "base/tensor_type.hpp"

namespace opsplit::operators {

using Coordinates = std::array<std::int64_t, Shape::max_rank>;

// Elements from one index to the next, per axis, row-major.
inline Coordinates strides_of(const Shape& shape) {
  Coordinates strides{};
  std::int64_t stride = 1;
  for (std::size_t axis = shape.rank(); axis-- > 0;) {
    strides[axis] = stride;
    stride *= shape[axis];
  }
  return strides;
}

// Strides with which `shape`, broadcast to `target` as ONNX does (aligned at the last axis, sizes of
// 1 repeated), is walked. Precondition: is_broadcastable.
inline Coordinates broadcast_strides(const Shape& shape, const Shape& target) {
  const Coordinates own = strides_of(shape);
  Coordinates strides{};
  for (std::size_t axis = 0; axis < shape.rank(); ++axis)
    if (shape[axis] != 1) strides[axis + target.rank() - shape.rank()] = own[axis];
  return strides;
}

inline bool is_broadcastable(const Shape& shape, const Shape& target) {
  if (shape.rank() > target.rank()) return false;
  for (std::size_t axis = 0; axis < shape.rank(); ++axis)
    if (shape[axis] != 1 && shape[axis] != target[axis + target.rank() - shape.rank()])
      return false;
  return true;
}

// Calls f(coordinates) for every element, in row-major order.
template <class F>
void for_each_index(const Shape& shape, F&& f) {
  Coordinates at{};
  for (const std::int64_t dim : shape)
    if (dim <= 0) return;
  while (true) {
    f(static_cast<const Coordinates&>(at));
    std::size_t axis = shape.rank();
    while (axis > 0 && ++at[axis - 1] == shape[axis - 1]) at[--axis] = 0;
    if (axis == 0) return;
  }
}

inline std::int64_t offset_of(const Coordinates& at, const Coordinates& strides, std::size_t rank) {
  std::int64_t offset = 0;
  for (std::size_t axis = 0; axis < rank; ++axis) offset += at[axis] * strides[axis];
  return offset;
}

}  // namespace opsplit::operators
