// Kernels for tests and benchmarks. Addresses and streams are the device's (ipc/device_driver.hpp), as plain numbers: nvcc
// compiles this header, too.
#pragma once

#include <cstdint>

namespace opsplit::test {

// `count` words are written again and again, with growing numbers, by one thread each: `rounds` times.
void launch_counting(std::uint64_t words, std::uint32_t count, std::uint64_t rounds,
                     std::uintptr_t stream);

// Adds 1 to a word.
void launch_increment(std::uint64_t word, std::uintptr_t stream);

// Writes to an address that nobody has.
void launch_illegal_write(std::uintptr_t stream);

}  // namespace opsplit::test
