// The outcome of a run of `hop`: figures, and their ratios to the right floor.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "bench/cases.hpp"

namespace opsplit::bench {

double quantile(std::vector<double> values, double q);
double rounded(double value, int digits);

// Cases that have not run are not in it.
nlohmann::json summarize(const std::vector<Case>& cases);
void print_summary(const nlohmann::json& summary);

}  // namespace opsplit::bench
