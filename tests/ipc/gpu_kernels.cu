#include "tests/ipc/gpu_kernels.hpp"

namespace opsplit::test {
namespace {

__global__ void count_up(volatile std::uint32_t* words, std::uint32_t count, std::uint64_t rounds) {
  const std::uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  for (std::uint64_t round = 1; round <= rounds; ++round)
    words[i] = static_cast<std::uint32_t>(round);
}

__global__ void increment(std::uint32_t* word) { ++*word; }

__global__ void write_to(volatile std::uint32_t* word) { *word = 1; }

}  // namespace

void launch_counting(std::uint64_t words, std::uint32_t count, std::uint64_t rounds,
                     std::uintptr_t stream) {
  constexpr std::uint32_t threads = 256;
  count_up<<<(count + threads - 1) / threads, threads, 0, reinterpret_cast<cudaStream_t>(stream)>>>(
      reinterpret_cast<volatile std::uint32_t*>(words), count, rounds);
}

void launch_increment(std::uint64_t word, std::uintptr_t stream) {
  increment<<<1, 1, 0, reinterpret_cast<cudaStream_t>(stream)>>>(
      reinterpret_cast<std::uint32_t*>(word));
}

void launch_illegal_write(std::uintptr_t stream) {
  write_to<<<1, 1, 0, reinterpret_cast<cudaStream_t>(stream)>>>(
      reinterpret_cast<volatile std::uint32_t*>(std::uintptr_t{64}));
}

}  // namespace opsplit::test
