// Quantiles of measurements.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace opsplit::daemon {

// The value below which a share of `q` (0 to 1) of the others lie; 0 if there are none.
inline double quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  const auto index = static_cast<std::ptrdiff_t>(q * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + index, values.end());
  return values[static_cast<std::size_t>(index)];
}

}  // namespace opsplit::daemon
