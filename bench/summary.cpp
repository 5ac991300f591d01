#include "bench/summary.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "daemon/table.hpp"

namespace opsplit::bench {
namespace {

using nlohmann::json;

}  // namespace

double quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  const auto index = static_cast<std::ptrdiff_t>(q * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + index, values.end());
  return values[static_cast<std::size_t>(index)];
}

double rounded(double value, int digits) {
  const double unit = std::pow(10, digits);
  return std::round(value * unit) / unit;
}

json summarize(const std::vector<Case>& cases) {
  std::map<std::string, double> median_ns;
  for (const Case& c : cases)
    if (!c.hop_ns.empty()) median_ns[c.name] = quantile(c.hop_ns, 0.5);
  json rows = json::array();
  for (const Case& c : cases) {
    if (c.hop_ns.empty()) continue;
    json row = {{"name", c.name},
                {"p50_us", rounded(median_ns[c.name] / 1e3, 4)},
                {"p99_us", rounded(quantile(c.hop_ns, 0.99) / 1e3, 4)},
                {"requests", c.hop_ns.size()},
                {"compared", json::array()}};
    if (c.name.starts_with("hop/")) row["bytes_copied"] = c.bytes_copied;
    for (const Comparison& comparison : c.comparisons) {
      if (!median_ns.contains(comparison.with)) continue;
      const double ratio = median_ns[c.name] / median_ns[comparison.with];
      json compared = {{"with", comparison.with}, {"ratio", rounded(ratio, 3)}};
      if (comparison.limit > 0) compared["target"] = comparison.limit;
      row["compared"].push_back(std::move(compared));
    }
    rows.push_back(std::move(row));
  }
  return {{"versions", {{"opsplit", OPSPLIT_VERSION}}}, {"rows", rows}};
}

void print_summary(const json& summary) {
  std::vector<std::vector<std::string>> figures = {
      {"one hop", "p50 us", "p99 us", "requests", "copied B"}};
  std::vector<std::vector<std::string>> ratios = {{"hop", "/ floor", "ratio", "target", ""}};
  for (const json& row : summary["rows"]) {
    figures.push_back({row["name"], fmt::format("{:.3f}", row["p50_us"].get<double>()),
                       fmt::format("{:.3f}", row["p99_us"].get<double>()), row["requests"].dump(),
                       row.contains("bytes_copied") ? row["bytes_copied"].dump() : "-"});
    for (const json& compared : row["compared"]) {
      const double ratio = compared["ratio"];
      const double target = compared.value("target", 0.0);
      ratios.push_back({row["name"], compared["with"], fmt::format("{:.3f}", ratio),
                        target > 0 ? fmt::format("{:.2f}", target) : "-",
                        target == 0       ? ""
                        : ratio <= target ? "ok"
                                          : "MISSED"});
    }
  }
  fmt::print("\n{}\n{}", daemon::render_table(figures), daemon::render_table(ratios));
}

}  // namespace opsplit::bench
