#include "operators/kernels/winograd_tile.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>

#pragma GCC push_options
#pragma GCC target("avx512f")
namespace opsplit::operators::winograd {
namespace {

using Vector = __m512;
constexpr int lanes = 16;
constexpr int most_rows = 14;  // two accumulators each, of 32 registers

inline __mmask16 first(int count) { return static_cast<__mmask16>((1U << count) - 1); }
inline Vector load(const float* from) { return _mm512_loadu_ps(from); }
inline Vector load_part(const float* from, int count) {
  return _mm512_maskz_loadu_ps(first(count), from);
}
inline void store(float* to, Vector value) { _mm512_storeu_ps(to, value); }
inline void store_part(float* to, int count, Vector value) {
  _mm512_mask_storeu_ps(to, first(count), value);
}
inline Vector broadcast(float value) { return _mm512_set1_ps(value); }
inline Vector fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
// NaN stays NaN: the second operand is taken then.
inline Vector clamp(Vector value, Vector low, Vector high) {
  constexpr __mmask16 all = 0xffff;  // without a mask GCC 12 warns of its own header
  return _mm512_maskz_min_ps(all, high, _mm512_maskz_max_ps(all, low, value));
}

#include "operators/kernels/winograd_simd.hpp"

constexpr Code this_code{lanes, run};

}  // namespace

const Code* avx512_code() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") ? &this_code : nullptr;
}

}  // namespace opsplit::operators::winograd
#pragma GCC pop_options
#else
const opsplit::operators::winograd::Code* opsplit::operators::winograd::avx512_code() {
  return nullptr;
}
#endif
