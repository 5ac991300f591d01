// Histograms of durations. Four buckets to each power of two: a quantile is right to within a quarter,
// and to record one is a few instructions and one cache line.
//
//   bucket 0              less than 64 ns
//   bucket 1 + 4 o + s    from 2^(6+o) x (1 + s/4) ns; o is 0 to 30, s is 0 to 3
//   the last              from 2^37 ns (137 s)
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace opsplit::ipc {

inline constexpr int first_octave = 6, last_octave = 37;
inline constexpr std::size_t histogram_buckets = 4 * (last_octave - first_octave) + 2;

constexpr std::size_t bucket_of(std::uint64_t ns) {
  const int octave = std::bit_width(ns) - 1;
  if (octave < first_octave) return 0;
  if (octave >= last_octave) return histogram_buckets - 1;
  return 1 + static_cast<std::size_t>(octave - first_octave) * 4 + (ns >> (octave - 2) & 3);
}

// The shortest duration of a bucket; it ends where the next one begins.
constexpr std::uint64_t lower_bound_ns(std::size_t bucket) {
  if (bucket == 0) return 0;
  return (4 + (bucket - 1) % 4) << (first_octave - 2 + (bucket - 1) / 4);
}

// On the board anybody may have written anything: sums stop at the largest number.
constexpr std::uint64_t saturating_sum(std::uint64_t a, std::uint64_t b) {
  std::uint64_t sum = 0;
  return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

// One in shared memory. Only its owner records, so that it needs no read-modify-write.
struct alignas(64) SharedHistogram {
  std::array<std::atomic<std::uint64_t>, histogram_buckets> counts;

  void record(std::uint64_t ns) {
    auto& count = counts[bucket_of(ns)];
    count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
};

// A copy, to compute with.
struct Histogram {
  std::array<std::uint64_t, histogram_buckets> counts{};

  static Histogram copy_of(const SharedHistogram& shared);
  void add(const Histogram& other);
  // What was recorded after `earlier`. Everything, if a count is smaller now: it began anew.
  [[nodiscard]] Histogram since(const Histogram& earlier) const;
  [[nodiscard]] std::uint64_t count() const;
  // How many were shorter; exact where a bucket begins at `ns`, else without the bucket of `ns`.
  [[nodiscard]] std::uint64_t count_below(std::uint64_t ns) const;
  // q from 0 to 1, interpolated within its bucket; nullopt if nothing was recorded.
  [[nodiscard]] std::optional<std::uint64_t> quantile_ns(double q) const;

  friend bool operator==(const Histogram&, const Histogram&) = default;
};

}  // namespace opsplit::ipc
