// Move, Pad.
#pragma once

#include "operators/cuda/body.hpp"

namespace opsplit::operators::cuda {

template <class Unit>
struct MoveBody {
  OPSPLIT_HD static void at(const Move& work, std::int64_t index) {
    std::int64_t at[max_rank];
    coordinates_of(index, work.dims, work.rank, at);
    static_cast<Unit*>(work.y)[work.y_offset + offset_of(at, work.y_strides, work.rank)] =
        static_cast<const Unit*>(work.x)[work.x_offset + offset_of(at, work.x_strides, work.rank)];
  }
};

// The same in units of 16 bytes, where what lies side by side in x does so in y.
inline Move widened(const Move& work) {
  const int width = 16 / work.unit;
  const int last = work.rank - 1;
  if (work.rank == 0 || width == 1 || work.x_strides[last] != 1 || work.y_strides[last] != 1 ||
      work.dims[last] % width != 0 || work.x_offset % width != 0 || work.y_offset % width != 0 ||
      !may_pack(work.x_strides, work.rank, width) || !may_pack(work.y_strides, work.rank, width) ||
      !is_aligned(work.x) || !is_aligned(work.y))
    return work;
  Move wide = work;
  wide.unit = 16;
  wide.elements /= width;
  wide.dims[last] /= width;
  wide.x_offset /= width;
  wide.y_offset /= width;
  for (int axis = 0; axis < last; ++axis) {
    wide.x_strides[axis] /= width;
    wide.y_strides[axis] /= width;
  }
  return wide;
}

template <class Run>
auto choose(const Move& given, const Run& run) {
  const Move work = widened(given);
  switch (work.unit) {
    case 16:
      return run.template each<MoveBody<Pack<std::uint32_t, 4>>>(work, work.elements);
    case 8:
      return run.template each<MoveBody<std::uint64_t>>(work, work.elements);
    case 4:
      return run.template each<MoveBody<std::uint32_t>>(work, work.elements);
    case 2:
      return run.template each<MoveBody<std::uint16_t>>(work, work.elements);
    default:
      return run.template each<MoveBody<std::uint8_t>>(work, work.elements);
  }
}

// Which of `size` elements is seen at `position`, which may lie beyond them; -1: none.
OPSPLIT_HD inline std::int64_t padded_position(std::int64_t position, std::int64_t size,
                                               PadMode mode) {
  if (position >= 0 && position < size) return position;
  if (mode == PadMode::constant || size == 0) return -1;
  if (mode == PadMode::edge) return position < 0 ? 0 : size - 1;
  const std::int64_t turn = 2 * (size - 1);
  const std::int64_t period = mode == PadMode::wrap ? size : turn > 1 ? turn : 1;
  const std::int64_t inside = (position % period + period) % period;
  return inside < size ? inside : period - inside;  // reflect: without repeating the last one
}

template <class Unit>
struct PadBody {
  OPSPLIT_HD static void at(const Pad& work, std::int64_t index) {
    std::int64_t at[max_rank];
    coordinates_of(index, work.y_dims, work.rank, at);
    std::int64_t from = 0;
    bool inside = true;
    for (int axis = 0; axis < work.rank; ++axis) {
      const std::int64_t size = work.x_dims[axis];
      const std::int64_t position = padded_position(at[axis] - work.before[axis], size, work.mode);
      inside = inside && position >= 0;
      from = from * size + position;
    }
    Unit value = static_cast<Unit>(work.bits);
    if (inside)
      value = static_cast<const Unit*>(work.x)[from];
    else if (work.value != nullptr)
      value = *static_cast<const Unit*>(work.value);
    static_cast<Unit*>(work.y)[index] = value;
  }
};

template <class Run>
auto choose(const Pad& work, const Run& run) {
  switch (work.unit) {
    case 8:
      return run.template each<PadBody<std::uint64_t>>(work, work.elements);
    case 4:
      return run.template each<PadBody<std::uint32_t>>(work, work.elements);
    case 2:
      return run.template each<PadBody<std::uint16_t>>(work, work.elements);
    default:
      return run.template each<PadBody<std::uint8_t>>(work, work.elements);
  }
}

}  // namespace opsplit::operators::cuda
