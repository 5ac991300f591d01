// Pointwise, Cast, Normalization.
#pragma once

#include <cmath>

#include "operators/cuda/body.hpp"

namespace opsplit::operators::cuda {

OPSPLIT_HD inline float activate(ActivationFunction function, float alpha, float beta, float x) {
  switch (function) {
    case ActivationFunction::relu:
      return x > 0 ? x : 0;
    case ActivationFunction::leaky_relu:
      return x < 0 ? alpha * x : x;
    case ActivationFunction::clip:
      return fminf(fmaxf(x, alpha), beta);
    case ActivationFunction::sigmoid:
      return 1 / (1 + expf(-x));
    case ActivationFunction::hard_sigmoid:
      return fminf(fmaxf(alpha * x + beta, 0.0F), 1.0F);
    case ActivationFunction::hard_swish:
      return x * fminf(fmaxf(alpha * x + beta, 0.0F), 1.0F);
    case ActivationFunction::tanh:
      return tanhf(x);
    case ActivationFunction::elu:
      return x < 0 ? alpha * expm1f(x) : x;
    case ActivationFunction::exp:
      return expf(x);
    case ActivationFunction::log:
      return logf(x);
    case ActivationFunction::erf:
      return erff(x);
    case ActivationFunction::sqrt:
      return sqrtf(x);
    case ActivationFunction::abs:
      return fabsf(x);
    case ActivationFunction::linear:
      return alpha * x + beta;
  }
  return x;
}

OPSPLIT_HD inline float combine(BinaryFunction function, float a, float b) {
  switch (function) {
    case BinaryFunction::add:
      return a + b;
    case BinaryFunction::subtract:
      return a - b;
    case BinaryFunction::multiply:
      return a * b;
    case BinaryFunction::divide:
      return a / b;
    case BinaryFunction::maximum:
      return a < b ? b : a;
    case BinaryFunction::minimum:
      return b < a ? b : a;
  }
  return a;
}

// `width` elements along the last axis.
template <class T, int width>
struct PointwiseBody {
  OPSPLIT_HD static void load(const Pointwise& work, int operand, const std::int64_t* at,
                              float* values) {
    const std::int64_t* strides = work.strides[operand];
    const T* from = static_cast<const T*>(work.data[operand]) + offset_of(at, strides, work.rank);
    const std::int64_t step = work.rank == 0 ? 0 : strides[work.rank - 1];
    if (width > 1 && step == 1) {
      const auto pack = *reinterpret_cast<const Pack<T, width>*>(from);
      for (int i = 0; i < width; ++i) values[i] = to_float(pack.at[i]);
    } else {
      for (int i = 0; i < width; ++i) values[i] = to_float(from[i * step]);
    }
  }

  OPSPLIT_HD static void at(const Pointwise& work, std::int64_t index) {
    const std::int64_t first = index * width;
    std::int64_t at[max_rank];
    coordinates_of(first, work.dims, work.rank, at);
    float values[width];
    load(work, 0, at, values);
    for (int s = 0; s < work.steps; ++s) {
      const Pointwise::Step& step = work.step[s];
      if (!step.is_binary) {
        for (int i = 0; i < width; ++i)
          values[i] = activate(step.activation, step.alpha, step.beta, values[i]);
        continue;
      }
      float others[width];
      load(work, step.operand, at, others);
      for (int i = 0; i < width; ++i) {
        const float other = step.alpha * others[i];
        values[i] = step.operand_first ? combine(step.binary, other, values[i])
                                       : combine(step.binary, values[i], other);
      }
    }
    Pack<T, width> pack;
    for (int i = 0; i < width; ++i) pack.at[i] = from_float<T>(values[i]);
    *reinterpret_cast<Pack<T, width>*>(static_cast<T*>(work.y) + first) = pack;
  }
};

template <class T, class Run>
auto choose_width(const Pointwise& work, const Run& run) {
  constexpr int width = full_width<T>;
  bool packed = work.rank > 0 && work.dims[work.rank - 1] % width == 0 && is_aligned(work.y);
  for (int i = 0; i < work.operands && packed; ++i)
    packed = may_pack(work.strides[i], work.rank, width) &&
             (work.strides[i][work.rank - 1] == 0 || is_aligned(work.data[i]));
  return packed ? run.template each<PointwiseBody<T, width>>(work, work.elements / width)
                : run.template each<PointwiseBody<T, 1>>(work, work.elements);
}

template <class Run>
auto choose(const Pointwise& work, const Run& run) {
  return work.element == Element::float16 ? choose_width<__half>(work, run)
                                          : choose_width<float>(work, run);
}

template <class From, class To, int width>
struct CastBody {
  OPSPLIT_HD static void at(const Cast& work, std::int64_t index) {
    const auto from = static_cast<const Pack<From, width>*>(work.x)[index];
    Pack<To, width> to;
    for (int i = 0; i < width; ++i) to.at[i] = from_float<To>(to_float(from.at[i]));
    static_cast<Pack<To, width>*>(work.y)[index] = to;
  }
};

template <class From, class To, class Run>
auto choose_width(const Cast& work, const Run& run) {
  constexpr int width = 4;
  return work.elements % width == 0 && is_aligned(work.x) && is_aligned(work.y)
             ? run.template each<CastBody<From, To, width>>(work, work.elements / width)
             : run.template each<CastBody<From, To, 1>>(work, work.elements);
}

// From a type to the same one it is a copy, which is a Move.
template <class Run>
auto choose(const Cast& work, const Run& run) {
  return work.to == Element::float16 ? choose_width<float, __half>(work, run)
                                     : choose_width<__half, float>(work, run);
}

// `width` elements of one channel.
template <class T, class P, int width>
struct NormalizationBody {
  OPSPLIT_HD static void at(const Normalization& work, std::int64_t index) {
    const std::int64_t channel = index * width / work.inner % work.channels;
    const auto of_channel = [&](const void* parameter) {
      return to_float(static_cast<const P*>(parameter)[channel]);
    };
    const float factor = of_channel(work.scale) / sqrtf(of_channel(work.variance) + work.epsilon);
    const float mean = of_channel(work.mean);
    const float shift = of_channel(work.shift);
    auto pack = static_cast<const Pack<T, width>*>(work.x)[index];
    for (int i = 0; i < width; ++i)
      pack.at[i] = from_float<T>((to_float(pack.at[i]) - mean) * factor + shift);
    static_cast<Pack<T, width>*>(work.y)[index] = pack;
  }
};

template <class T, class P, class Run>
auto choose_width(const Normalization& work, const Run& run) {
  constexpr int width = full_width<T>;
  return work.inner % width == 0 && is_aligned(work.x) && is_aligned(work.y)
             ? run.template each<NormalizationBody<T, P, width>>(work, work.elements / width)
             : run.template each<NormalizationBody<T, P, 1>>(work, work.elements);
}

template <class Run>
auto choose(const Normalization& work, const Run& run) {
  if (work.element == Element::float32) return choose_width<float, float>(work, run);
  return work.parameter == Element::float16 ? choose_width<__half, __half>(work, run)
                                            : choose_width<__half, float>(work, run);
}

}  // namespace opsplit::operators::cuda
