// SoftmaxRows.
#pragma once

#include <cmath>

#include "operators/cuda/body.hpp"
#include "operators/cuda/pooling_body.hpp"

namespace opsplit::operators::cuda {

template <class T>
struct SoftmaxBody {
  template <class Team>
  OPSPLIT_HD static void at(const SoftmaxRows& work, std::int64_t row, const Team& team) {
    const std::int64_t first = row / work.inner * work.size * work.inner + row % work.inner;
    const T* x = static_cast<const T*>(work.x) + first;
    T* y = static_cast<T*>(work.y) + first;
    float largest = -INFINITY;
    for (std::int64_t i = team.lane(); i < work.size; i += team.lanes())
      largest = fmaxf(largest, to_float(x[i * work.inner]));
    largest = team.maximum(largest);
    float sum = 0;
    for (std::int64_t i = team.lane(); i < work.size; i += team.lanes())
      sum += expf(to_float(x[i * work.inner]) - largest);
    sum = team.sum(sum);
    for (std::int64_t i = team.lane(); i < work.size; i += team.lanes())
      y[i * work.inner] = from_float<T>(expf(to_float(x[i * work.inner]) - largest) / sum);
  }
};

template <class Run>
auto choose(const SoftmaxRows& work, const Run& run) {
  const std::int64_t rows = work.outer * work.inner;
  return work.element == Element::float16 ? run.template rows<SoftmaxBody<__half>>(work, rows)
                                          : run.template rows<SoftmaxBody<float>>(work, rows);
}

}  // namespace opsplit::operators::cuda
