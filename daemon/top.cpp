#include "daemon/top.hpp"

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>

#include "daemon/table.hpp"

namespace opsplit::daemon {
namespace {

using Rows = std::vector<std::vector<std::string>>;

// What a terminal that is too narrow does without, the first one first.
constexpr std::array<std::string_view, 10> dispensable = {
    "in flight", "cores",   "busy",   "wait p50", "copied/s",
    "restarts",  "run p50", "memory", "wait p99", "state"};

// Of a number with its unit.
std::string three_digits(double value, std::string_view unit) {
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f} {}", value, decimals, unit);
}

// A counter that is smaller now began anew.
double grown(std::uint64_t earlier, std::uint64_t now) {
  return static_cast<double>(now >= earlier ? now - earlier : now);
}

// What happened to something that was counted then and now.
template <class Counted>
class Interval {
 public:
  Interval(const Counted* earlier, const Counted& now, double seconds)
      : earlier_(earlier), now_(now), seconds_(seconds) {}

  // nullopt: there is no interval.
  [[nodiscard]] std::optional<double> per_second(std::uint64_t Counted::*counter) const {
    if (earlier_ == nullptr || seconds_ <= 0) return std::nullopt;
    return grown(earlier_->*counter, now_.*counter) / seconds_;
  }
  [[nodiscard]] std::string rate(std::uint64_t Counted::*counter) const {
    const auto value = per_second(counter);
    if (!value) return "-";
    return fmt::format("{:.{}f}", *value, *value < 99.95 ? 1 : 0);
  }
  // Nanoseconds of time that there are in a second.
  [[nodiscard]] std::string percent(std::uint64_t Counted::*counter) const {
    const auto value = per_second(counter);
    return value ? fmt::format("{:.0f} %", *value / 1e7) : "-";
  }
  [[nodiscard]] std::string quantile(ipc::Histogram Counted::*histogram, double q) const {
    if (earlier_ == nullptr) return "-";
    const auto ns = (now_.*histogram).since(earlier_->*histogram).quantile_ns(q);
    return ns ? duration_text(*ns) : "-";
  }

 private:
  const Counted* earlier_;
  const Counted& now_;
  double seconds_;
};

std::vector<std::string> row(const InstanceSnapshot* earlier, const InstanceSnapshot& now,
                             double seconds) {
  using I = InstanceSnapshot;
  const Interval<I> interval(earlier, now, seconds);
  const auto copied = interval.per_second(&I::bytes_copied);
  return {now.instance == 0 ? now.op : fmt::format("{}.{}", now.op, now.instance),
          now.state,
          now.cores,
          interval.percent(&I::cpu_ns),
          interval.percent(&I::busy_ns),
          bytes_text(static_cast<double>(now.memory_bytes)),
          interval.rate(&I::tasks_done),
          interval.quantile(&I::run, 0.5),
          interval.quantile(&I::run, 0.99),
          interval.quantile(&I::wait, 0.5),
          interval.quantile(&I::wait, 0.99),
          std::to_string(now.in_flight),
          copied ? bytes_text(*copied) : "-",
          std::to_string(now.restarts)};
}

const Rows header = {{"operator", "state", "cores", "cpu", "busy", "memory", "tasks/s", "run p50",
                      "run p99", "wait p50", "wait p99", "in flight", "copied/s", "restarts"}};

std::size_t widest_line(std::string_view text) {
  std::size_t widest = 0;
  while (!text.empty()) {
    const std::size_t length = std::min(text.find('\n'), text.size());
    widest = std::max(widest, length);
    text.remove_prefix(std::min(length + 1, text.size()));
  }
  return widest;
}

std::string table(Rows rows, std::size_t width) {
  std::string text = render_table(rows);
  for (const std::string_view name : dispensable) {
    if (widest_line(text) <= width) break;
    const auto column = std::distance(rows.front().begin(),
                                      std::find(rows.front().begin(), rows.front().end(), name));
    for (auto& cells : rows) cells.erase(cells.begin() + column);
    text = render_table(rows);
  }
  return text;
}

std::string summary(const DeploymentSnapshot* earlier, const DeploymentSnapshot& now,
                    double seconds) {
  using D = DeploymentSnapshot;
  const Interval<D> interval(earlier, now, seconds);
  std::string text = fmt::format("{}: {}, {} requests/s, {} of {} slots in use, {} client{}",
                                 now.name, now.phase, interval.rate(&D::requests_done), now.in_use,
                                 now.depth, now.clients, now.clients == 1 ? "" : "s");
  if (const std::string p50 = interval.quantile(&D::requests, 0.5); p50 != "-")
    text += fmt::format(", latency p50 {}, p99 {}", p50, interval.quantile(&D::requests, 0.99));
  return text + '\n';
}

const DeploymentSnapshot* find(const Snapshot* snapshot, const DeploymentSnapshot& like) {
  if (snapshot == nullptr) return nullptr;
  const auto found = std::find_if(snapshot->deployments.begin(), snapshot->deployments.end(),
                                  [&](const auto& d) { return d.name == like.name; });
  return found == snapshot->deployments.end() ? nullptr : &*found;
}

const InstanceSnapshot* find(const DeploymentSnapshot* deployment, const InstanceSnapshot& like) {
  if (deployment == nullptr) return nullptr;
  const auto found =
      std::find_if(deployment->instances.begin(), deployment->instances.end(),
                   [&](const auto& i) { return i.op == like.op && i.instance == like.instance; });
  return found == deployment->instances.end() ? nullptr : &*found;
}

}  // namespace

std::string duration_text(std::uint64_t ns) {
  const auto value = static_cast<double>(ns);
  if (ns < 1000) return fmt::format("{} ns", ns);
  if (value < 999.5e3) return three_digits(value / 1e3, "us");
  if (value < 999.5e6) return three_digits(value / 1e6, "ms");
  return three_digits(value / 1e9, "s");
}

std::string bytes_text(double bytes) {
  if (bytes < 1023.5) return fmt::format("{:.0f} B", bytes);
  static constexpr std::array units = {"KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  for (bytes /= 1024; bytes >= 999.5 && unit + 1 < units.size(); ++unit) bytes /= 1024;
  return three_digits(bytes, units[unit]);
}

std::string top_text(const Snapshot* earlier, const Snapshot& now, std::size_t width) {
  const double seconds = earlier == nullptr || now.time_ns <= earlier->time_ns
                             ? 0
                             : static_cast<double>(now.time_ns - earlier->time_ns) / 1e9;
  std::string text;
  for (const DeploymentSnapshot& deployment : now.deployments) {
    const DeploymentSnapshot* before = find(earlier, deployment);
    if (!text.empty()) text += '\n';
    text += summary(before, deployment, seconds);
    if (deployment.instances.empty()) continue;
    Rows rows = header;
    for (const InstanceSnapshot& instance : deployment.instances)
      rows.push_back(row(find(before, instance), instance, seconds));
    text += table(std::move(rows), width);
  }
  return text;
}

std::string fit(std::string_view text, std::size_t width, std::size_t height) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t length = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, std::min(length, width)));
    text.remove_prefix(std::min(length + 1, text.size()));
  }
  std::string more;
  if (lines.size() > height && height > 0) {
    more = fmt::format("... and {} more lines: a higher terminal, or `opsplit top DEPLOYMENT`",
                       lines.size() - (height - 1));
    lines.resize(height);
    lines.back() = std::string_view(more).substr(0, std::min(width, more.size()));
  }
  std::string result;
  for (const std::string_view line : lines) result.append(line).append(1, '\n');
  return result;
}

}  // namespace opsplit::daemon
