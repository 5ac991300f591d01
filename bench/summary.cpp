#include "bench/summary.hpp"

#include <sys/utsname.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "bench/crew.hpp"
#include "daemon/table.hpp"

namespace opsplit::bench {
namespace {

using nlohmann::json;

json machine() {
  json result = {{"cores", allowed_cores().size()}};
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);)
    if (line.starts_with("model name")) {
      result["model"] = line.substr(line.find(':') + 2);
      break;
    }
  utsname name{};
  if (::uname(&name) == 0) result["kernel"] = std::string(name.release);
  return result;
}

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
  json summary = {{"machine", machine()}, {"figures", json::array()}, {"ratios", json::array()}};
  std::map<std::string, double> median;
  for (const Case& c : cases) {
    if (c.hop_ns.empty()) continue;
    median[c.name] = quantile(c.hop_ns, 0.5);
    json figure = {{"name", c.name},
                   {"p50_ns", rounded(median[c.name], 1)},
                   {"p99_ns", rounded(quantile(c.hop_ns, 0.99), 1)},
                   {"requests", c.hop_ns.size()}};
    if (c.name.starts_with("hop/")) figure["bytes_copied"] = c.bytes_copied;
    summary["figures"].push_back(std::move(figure));
  }
  for (const Case& c : cases)
    for (const Comparison& comparison : c.comparisons) {
      if (!median.contains(c.name) || !median.contains(comparison.with)) continue;
      const double ratio = median[c.name] / median[comparison.with];
      json entry = {{"name", c.name}, {"to", comparison.with}, {"ratio", rounded(ratio, 3)}};
      if (comparison.limit > 0) {
        entry["limit"] = comparison.limit;
        entry["met"] = ratio <= comparison.limit;
      }
      summary["ratios"].push_back(std::move(entry));
    }
  return summary;
}

void print_summary(const json& summary) {
  std::vector<std::vector<std::string>> rows = {
      {"one hop", "p50 us", "p99 us", "requests", "copied B"}};
  for (const json& figure : summary["figures"])
    rows.push_back({figure["name"], fmt::format("{:.3f}", figure["p50_ns"].get<double>() / 1e3),
                    fmt::format("{:.3f}", figure["p99_ns"].get<double>() / 1e3),
                    std::to_string(figure["requests"].get<std::size_t>()),
                    figure.contains("bytes_copied") ? figure["bytes_copied"].dump() : "-"});
  fmt::print("\n{}", daemon::render_table(rows));
  rows = {{"hop", "/ floor", "ratio", "limit", ""}};
  for (const json& ratio : summary["ratios"])
    rows.push_back(
        {ratio["name"], ratio["to"], fmt::format("{:.3f}", ratio["ratio"].get<double>()),
         ratio.contains("limit") ? fmt::format("{:.2f}", ratio["limit"].get<double>()) : "-",
         !ratio.contains("met") ? ""
         : ratio["met"]         ? "ok"
                                : "MISSED"});
  fmt::print("\n{}", daemon::render_table(rows));
}

}  // namespace opsplit::bench
