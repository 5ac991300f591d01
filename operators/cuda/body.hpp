// What the bodies of our kernels are written with. They compile for the GPU and for the CPU, where
// tests run them in a loop.
//
// A body is a function of its arguments and an index, or, where a row is reduced, of a row and of the
// team of lanes that share it. Which body serves some arguments is for `choose` to say: it calls
// run.each<Body>(arguments, count) or run.rows<Body>(arguments, rows).
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "operators/cuda/work.hpp"

#ifdef __CUDACC__
#define OPSPLIT_HD __host__ __device__
#else
#define OPSPLIT_HD
#endif

namespace opsplit::operators::cuda {

OPSPLIT_HD inline float to_float(float value) { return value; }
OPSPLIT_HD inline float to_float(__half value) { return __half2float(value); }

template <class T>
OPSPLIT_HD inline T from_float(float value) {
  return value;
}
template <>
OPSPLIT_HD inline __half from_float<__half>(float value) {
  return __float2half(value);
}

// Elements that are read and written at once.
template <class T, int width>
struct alignas(sizeof(T) * width) Pack {
  T at[width];
};

template <class T>
constexpr int full_width = 16 / sizeof(T);  // of the widest access that there is

inline bool is_aligned(const void* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0;
}

// The coordinates of an element. Divisions of 64 bits take several times as long as those of 32.
OPSPLIT_HD inline void coordinates_of(std::int64_t index, const std::int64_t* dims, int rank,
                                      std::int64_t* at) {
  if (index >> 32 == 0) {
    auto rest = static_cast<std::uint32_t>(index);
    for (int axis = rank - 1; axis > 0; --axis) {
      // Larger than all that is left: the quotient is 0.
      if (dims[axis] >> 32 != 0) {
        at[axis] = rest;
        rest = 0;
        continue;
      }
      const auto size = static_cast<std::uint32_t>(dims[axis]);
      at[axis] = rest % size;
      rest /= size;
    }
    if (rank > 0) at[0] = rest;
    return;
  }
  for (int axis = rank - 1; axis > 0; --axis) {
    at[axis] = index % dims[axis];
    index /= dims[axis];
  }
  if (rank > 0) at[0] = index;
}

OPSPLIT_HD inline std::int64_t offset_of(const std::int64_t* at, const std::int64_t* strides,
                                         int rank) {
  std::int64_t offset = 0;
  for (int axis = 0; axis < rank; ++axis) offset += at[axis] * strides[axis];
  return offset;
}

// May `strides` be walked in packs of `width` along the last axis: do they lie side by side and
// aligned there, or is it always the same element?
inline bool may_pack(const std::int64_t* strides, int rank, int width) {
  if (rank == 0) return false;
  if (strides[rank - 1] != 0 && strides[rank - 1] != 1) return false;
  if (strides[rank - 1] == 1)
    for (int axis = 0; axis + 1 < rank; ++axis)
      if (strides[axis] % width != 0) return false;
  return true;
}

}  // namespace opsplit::operators::cuda
