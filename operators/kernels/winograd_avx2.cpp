#include "operators/kernels/winograd_tile.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>

#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace opsplit::operators::winograd {
namespace {

using Vector = __m256;
constexpr int lanes = 8;
constexpr int most_rows = 6;  // two accumulators each, of 16 registers

inline __m256i first(int count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline Vector load(const float* from) { return _mm256_loadu_ps(from); }
inline Vector load_part(const float* from, int count) {
  return _mm256_maskload_ps(from, first(count));
}
inline void store(float* to, Vector value) { _mm256_storeu_ps(to, value); }
inline void store_part(float* to, int count, Vector value) {
  _mm256_maskstore_ps(to, first(count), value);
}
inline Vector broadcast(float value) { return _mm256_set1_ps(value); }
inline Vector fma(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
// NaN stays NaN: the second operand is taken then.
inline Vector clamp(Vector value, Vector low, Vector high) {
  return _mm256_min_ps(high, _mm256_max_ps(low, value));
}

#include "operators/kernels/winograd_simd.hpp"

constexpr Code this_code{lanes, run};

}  // namespace

const Code* avx2_code() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &this_code : nullptr;
}

}  // namespace opsplit::operators::winograd
#pragma GCC pop_options
#else
const opsplit::operators::winograd::Code* opsplit::operators::winograd::avx2_code() {
  return nullptr;
}
#endif
