#include "ipc/histogram.hpp"

#include <algorithm>
#include <cmath>

namespace opsplit::ipc {

Histogram Histogram::copy_of(const SharedHistogram& shared) {
  Histogram copy;
  std::transform(shared.counts.begin(), shared.counts.end(), copy.counts.begin(),
                 [](const auto& count) { return count.load(std::memory_order_relaxed); });
  return copy;
}

void Histogram::add(const Histogram& other) {
  for (std::size_t i = 0; i < counts.size(); ++i)
    counts[i] = saturating_sum(counts[i], other.counts[i]);
}

Histogram Histogram::since(const Histogram& earlier) const {
  Histogram difference;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] < earlier.counts[i]) return *this;
    difference.counts[i] = counts[i] - earlier.counts[i];
  }
  return difference;
}

std::uint64_t Histogram::count() const { return count_below(UINT64_MAX); }

std::uint64_t Histogram::count_below(std::uint64_t ns) const {
  const std::size_t end = ns == UINT64_MAX ? counts.size() : bucket_of(ns);
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < end; ++i) sum = saturating_sum(sum, counts[i]);
  return sum;
}

std::optional<std::uint64_t> Histogram::quantile_ns(double q) const {
  const std::uint64_t all = count();
  if (all == 0) return std::nullopt;
  // As numbers of any size: nothing overflows, and what is lost is less than a bucket.
  const double rank = std::max(1.0, std::ceil(std::clamp(q, 0.0, 1.0) * static_cast<double>(all)));
  double before = 0;
  for (std::size_t i = 0; i + 1 < counts.size(); ++i) {
    const auto here = static_cast<double>(counts[i]);
    if (here > 0 && before + here >= rank) {
      const auto low = static_cast<double>(lower_bound_ns(i));
      const auto high = static_cast<double>(lower_bound_ns(i + 1));
      return static_cast<std::uint64_t>(low + (high - low) * std::max(rank - before, 0.0) / here);
    }
    before += here;
  }
  return lower_bound_ns(counts.size() - 1);  // nobody knows how long those in the last one were
}

}  // namespace opsplit::ipc
