// What `hop` and `transports` measure: a token, or a request, that goes from process to process, one at a time.
#pragma once

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

#include "base/error.hpp"

namespace opsplit::bench {

enum class Waiting { spinning, sleeping };

struct Setting {
  int processes = 2;
  int cores = 1;               // process i is pinned to core i % cores
  std::uint64_t payload = 64;  // bytes handed over by each hop
  bool touched = false;        // each hop writes all of it, and reads all of what it got
  bool copied = false;         // each hop copies what it got, and says so
  // A request is this many hops; the first ones are not timed. Multiples of `processes`.
  int warm_hops = 60;
  int timed_hops = 200;
};

// Something whose processes run as long as it exists.
class Contender {
 public:
  virtual ~Contender() = default;
  // Lets one request pass through; the time of one of its hops, in nanoseconds.
  virtual Result<double> run() = 0;
  // By all hops so far, as its processes count them.
  [[nodiscard]] virtual std::uint64_t bytes_copied() const { return 0; }
};

// What a hop does with the payload if it is touched.
inline std::uint64_t read_all(std::span<const std::byte> payload) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i + sizeof sum <= payload.size(); i += sizeof sum) {
    std::uint64_t word = 0;
    std::memcpy(&word, payload.data() + i, sizeof word);
    sum += word;
  }
  ::benchmark::DoNotOptimize(sum);
  return sum;
}
inline void write_all(std::span<std::byte> payload, std::byte value = std::byte{1}) {
  std::memset(payload.data(), static_cast<int>(value), payload.size());
  ::benchmark::ClobberMemory();
}

}  // namespace opsplit::bench
