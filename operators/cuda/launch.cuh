// How bodies run on a GPU: one thread for an index, one warp for a row, both in loops that stride over
// the grid.
#pragma once

#include <cuda_runtime.h>

#include "operators/cuda/body.hpp"
#include "operators/cuda/launch.hpp"

namespace opsplit::operators::cuda {

// The 32 lanes of a warp; all of them call.
struct Warp {
  static constexpr int size = 32;
  __device__ static int lane() { return threadIdx.x % size; }
  __device__ static int lanes() { return size; }
  __device__ static float sum(float value) {
    for (int distance = size / 2; distance > 0; distance /= 2)
      value += __shfl_xor_sync(0xFFFFFFFFU, value, distance);
    return value;
  }
  __device__ static float maximum(float value) {
    for (int distance = size / 2; distance > 0; distance /= 2)
      value = fmaxf(value, __shfl_xor_sync(0xFFFFFFFFU, value, distance));
    return value;
  }
};

template <class Body, class Work>
__global__ void for_each(const __grid_constant__ Work work, std::int64_t count) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += step)
    Body::at(work, i);
}

// The warps of a block take rows; all lanes of a warp see the same one.
template <class Body, class Work>
__global__ void for_rows(const __grid_constant__ Work work, std::int64_t rows) {
  const int warps = static_cast<int>(blockDim.x) / Warp::size;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * warps;
  for (std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * warps +
                          static_cast<int>(threadIdx.x) / Warp::size;
       row < rows; row += step)
    Body::at(work, row, Warp());
}

// What `choose` asks for, enqueued.
class OnDevice {
 public:
  explicit OnDevice(cudaStream_t stream) : stream_(stream) {}

  template <class Body, class Work>
  LaunchStatus each(const Work& work, std::int64_t count) const {
    if (count <= 0) return cudaSuccess;
    for_each<Body><<<blocks_for(count, threads), threads, 0, stream_>>>(work, count);
    return cudaGetLastError();
  }

  template <class Body, class Work>
  LaunchStatus rows(const Work& work, std::int64_t count) const {
    if (count <= 0) return cudaSuccess;
    constexpr int row_threads = 4 * Warp::size;
    for_rows<Body>
        <<<blocks_for(count, row_threads / Warp::size), row_threads, 0, stream_>>>(work, count);
    return cudaGetLastError();
  }

 private:
  static constexpr int threads = 256;
  // Some waves on the largest GPU; the loops do the rest.
  static constexpr std::int64_t most_blocks = 1 << 14;

  static unsigned blocks_for(std::int64_t count, std::int64_t by_block) {
    const std::int64_t blocks = (count - 1) / by_block + 1;
    return static_cast<unsigned>(blocks < most_blocks ? blocks : most_blocks);
  }

  cudaStream_t stream_;
};

}  // namespace opsplit::operators::cuda
