// Pool, RowReduction.
#pragma once

#include "operators/cuda/body.hpp"

namespace opsplit::operators::cuda {

constexpr float lowest_float = -3.40282346638528859812e+38F;

// One element of y.
template <class T>
struct PoolBody {
  OPSPLIT_HD static void at(const Pool& work, std::int64_t index) {
    const std::int64_t dims[1 + window_axes] = {work.images, work.out[0], work.out[1], work.out[2]};
    std::int64_t at[1 + window_axes];
    coordinates_of(index, dims, 1 + window_axes, at);
    const T* image = static_cast<const T*>(work.x) + at[0] * work.in[0] * work.in[1] * work.in[2];
    std::int64_t first[window_axes];
    for (int axis = 0; axis < window_axes; ++axis)
      first[axis] = at[axis + 1] * work.strides[axis] - work.pads[axis];
    const bool is_maximum = work.reduction == Reduction::maximum;
    float result = is_maximum ? lowest_float : 0;
    std::int64_t counted = 0;
    // What ceil_mode adds beyond the declared padding counts for nothing.
    const auto counts = [&](int axis, std::int64_t position) { return position < work.ends[axis]; };
    const auto inside = [&](int axis, std::int64_t position) {
      return position >= 0 && position < work.in[axis];
    };
    for (std::int64_t i = 0; i < work.kernel[0]; ++i) {
      const std::int64_t z = first[0] + i * work.dilations[0];
      if (!counts(0, z)) break;
      for (std::int64_t j = 0; j < work.kernel[1]; ++j) {
        const std::int64_t y = first[1] + j * work.dilations[1];
        if (!counts(1, y)) break;
        for (std::int64_t k = 0; k < work.kernel[2]; ++k) {
          const std::int64_t x = first[2] + k * work.dilations[2];
          if (!counts(2, x)) break;
          const bool is_element = inside(0, z) && inside(1, y) && inside(2, x);
          if (is_element || work.count_padding) ++counted;
          if (!is_element) continue;
          const float value = to_float(image[(z * work.in[1] + y) * work.in[2] + x]);
          result = is_maximum ? (result < value ? value : result) : result + value;
        }
      }
    }
    if (!is_maximum) result /= static_cast<float>(counted > 0 ? counted : 1);
    static_cast<T*>(work.y)[index] = from_float<T>(result);
  }
};

template <class Run>
auto choose(const Pool& work, const Run& run) {
  const std::int64_t count = work.images * work.out[0] * work.out[1] * work.out[2];
  return work.element == Element::float16 ? run.template each<PoolBody<__half>>(work, count)
                                          : run.template each<PoolBody<float>>(work, count);
}

template <class T>
struct RowReductionBody {
  template <class Team>
  OPSPLIT_HD static void at(const RowReduction& work, std::int64_t row, const Team& team) {
    const T* x = static_cast<const T*>(work.x) + row * work.size;
    const bool is_maximum = work.reduction == Reduction::maximum;
    float result = is_maximum ? lowest_float : 0;
    for (std::int64_t i = team.lane(); i < work.size; i += team.lanes()) {
      const float value = to_float(x[i]);
      result = is_maximum ? (result < value ? value : result) : result + value;
    }
    result = is_maximum ? team.maximum(result) : team.sum(result) / static_cast<float>(work.size);
    if (team.lane() == 0) static_cast<T*>(work.y)[row] = from_float<T>(result);
  }
};

template <class Run>
auto choose(const RowReduction& work, const Run& run) {
  return work.element == Element::float16
             ? run.template rows<RowReductionBody<__half>>(work, work.rows)
             : run.template rows<RowReductionBody<float>>(work, work.rows);
}

}  // namespace opsplit::operators::cuda
