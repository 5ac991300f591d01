// transports: the hop between two processes, opsplit beside the ways in which containers are usually
// joined, in one run. bench/README.md says how to use it and what the figures are.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>
#include <vector>

#include "bench/board_hop.hpp"
#include "bench/cases.hpp"
#include "bench/crew.hpp"
#include "bench/rivals.hpp"
#include "bench/runner.hpp"
#include "bench/scratch_folders.hpp"
#include "bench/summary.hpp"
#include "daemon/table.hpp"

namespace opsplit::bench {
namespace {

using nlohmann::json;

constexpr std::uint64_t KiB = 1024, MiB = 1024 * KiB;
constexpr std::string_view ours = "opsplit";

std::vector<Rival> opsplit() {
  std::vector<Rival> rivals;
  for (const Waiting waiting : {Waiting::spinning, Waiting::sleeping})
    rivals.push_back({std::string(ours), "shared memory", waiting, [=](const Setting& setting) {
                        return BoardHop::start(setting, waiting, false);
                      }});
  return rivals;
}

// What this machine can run; the others are left out by name.
struct Transports {
  std::vector<Rival> all = opsplit();
  std::map<std::string, std::string> versions;
  std::vector<std::string> missing;

  void add(std::vector<Rival> rivals) {
    for (Rival& rival : rivals) all.push_back(std::move(rival));
  }
  void add(std::vector<Rival> rivals, const std::string& library, std::string version) {
    add(std::move(rivals));
    versions[library] = std::move(version);
  }
};

Transports transports_of_this_machine(const ScratchFolders& scratch) {
  Transports found;
  found.add(shared_volume_rivals(scratch.memory() / "volume", scratch.disk() / "volume"));
  found.add(unix_socket_rivals());
  found.add(beast_rivals(), "Boost.Beast", beast_version());
#ifdef OPSPLIT_BENCH_HTTPLIB
  found.add(httplib_rivals(), "cpp-httplib", httplib_version());
#else
  found.missing.emplace_back("cpp-httplib (libcpp-httplib-dev)");
#endif
#ifdef OPSPLIT_BENCH_GRPC
  found.add(grpc_rivals(), "gRPC", grpc_version());
#else
  found.missing.emplace_back("gRPC (libgrpc++-dev)");
#endif
#ifdef OPSPLIT_BENCH_ZEROMQ
  found.add(zeromq_rivals(), "ZeroMQ", zeromq_version());
#else
  found.missing.emplace_back("ZeroMQ (libzmq3-dev, cppzmq-dev)");
#endif
#ifdef OPSPLIT_BENCH_RABBITMQ
  if (const std::string version = rabbitmq_version(); !version.empty())
    found.add(rabbitmq_rivals(scratch.disk() / "rabbitmq"), "RabbitMQ", version);
  else
    found.missing.emplace_back("RabbitMQ (rabbitmq-server)");
#else
  found.missing.emplace_back("RabbitMQ (librabbitmq-dev)");
#endif
  return found;
}

// Two processes, for every transport alike.
std::vector<Setting> settings_for(Waiting waiting) {
  std::vector<Setting> settings;
  // Spinners need a core each; sleepers share one, or wake the other.
  for (const int cores : {1, 2}) {
    if (waiting == Waiting::spinning && cores == 1) continue;
    if (static_cast<int>(allowed_cores().size()) < cores) continue;
    for (const auto& [bytes, touched] :
         {std::pair{std::uint64_t{64}, false}, std::pair{4 * KiB, false}, std::pair{4 * KiB, true},
          std::pair{4 * MiB, false}, std::pair{4 * MiB, true}}) {
      Setting setting{.cores = cores, .payload = bytes, .touched = touched};
      setting.warm_hops = bytes >= MiB ? 4 : 20;
      setting.timed_hops = bytes >= MiB ? 16 : 100;
      settings.push_back(setting);
    }
  }
  return settings;
}

std::string size_name(std::uint64_t bytes) {
  if (bytes >= MiB) return fmt::format("{} MB", bytes / MiB);
  if (bytes >= KiB) return fmt::format("{} KB", bytes / KiB);
  return fmt::format("{} B", bytes);
}

std::string waiting_name(Waiting waiting) {
  return waiting == Waiting::spinning ? "spinning" : "sleeping";
}

struct Rows {
  std::vector<Case> cases;
  std::vector<const Rival*> rivals;  // one per case
};

Rows make_rows(const std::vector<Rival>& rivals) {
  Rows rows;
  for (const Rival& rival : rivals)
    for (const Setting& setting : settings_for(rival.waiting)) {
      Case added;
      added.name = fmt::format("{}/{}/{}/{}core/{}{}", rival.transport, rival.variant,
                               waiting_name(rival.waiting), setting.cores,
                               size_name(setting.payload), setting.touched ? "/touched" : "");
      added.setting = setting;
      added.requests = setting.payload >= MiB ? 8 : 25;
      added.start = rival.start;
      rows.cases.push_back(std::move(added));
      rows.rivals.push_back(&rival);
    }
  return rows;
}

json summarize(const Rows& rows, const Transports& transports) {
  // Of opsplit, for the same waiting, cores and payload.
  std::map<std::tuple<Waiting, int, std::uint64_t, bool>, double> reference;
  const auto key = [&](std::size_t i) {
    const Setting& setting = rows.cases[i].setting;
    return std::tuple(rows.rivals[i]->waiting, setting.cores, setting.payload, setting.touched);
  };
  for (std::size_t i = 0; i < rows.cases.size(); ++i)
    if (rows.rivals[i]->transport == ours && !rows.cases[i].hop_ns.empty())
      reference[key(i)] = quantile(rows.cases[i].hop_ns, 0.5);
  json summary = {{"versions", transports.versions}, {"rows", json::array()}};
  for (std::size_t i = 0; i < rows.cases.size(); ++i) {
    const Case& c = rows.cases[i];
    if (c.hop_ns.empty()) continue;
    const double median = quantile(c.hop_ns, 0.5);
    json row = {{"transport", rows.rivals[i]->transport},
                {"variant", rows.rivals[i]->variant},
                {"waiting", waiting_name(rows.rivals[i]->waiting)},
                {"cores", c.setting.cores},
                {"bytes", c.setting.payload},
                {"touched", c.setting.touched},
                {"p50_us", rounded(median / 1e3, 3)},
                {"p99_us", rounded(quantile(c.hop_ns, 0.99) / 1e3, 3)},
                {"requests", c.hop_ns.size()}};
    if (const auto found = reference.find(key(i)); found != reference.end())
      row["ratio_to_opsplit"] = rounded(median / found->second, 2);
    summary["rows"].push_back(std::move(row));
  }
  return summary;
}

void print(const json& summary) {
  std::vector<std::vector<std::string>> table = {
      {"one hop", "variant", "waiting", "cores", "bytes", "", "p50 us", "p99 us", "x opsplit"}};
  for (const json& row : summary["rows"])
    table.push_back({row["transport"], row["variant"], row["waiting"], row["cores"].dump(),
                     size_name(row["bytes"]), row["touched"] ? "touched" : "",
                     fmt::format("{:.2f}", row["p50_us"].get<double>()),
                     fmt::format("{:.2f}", row["p99_us"].get<double>()),
                     row.contains("ratio_to_opsplit")
                         ? fmt::format("{:.1f}", row["ratio_to_opsplit"].get<double>())
                         : "-"});
  fmt::print("\n{}", daemon::render_table(table));
}

// One arena, for the largest payload.
Pools pools_for(const Rows& rows) {
  std::uint64_t arena = 0;
  for (const Case& c : rows.cases) arena = std::max(arena, board_arena_bytes(c.setting));
  return {arena, {arena}};
}

int run(std::vector<std::string> arguments) {
  Runner runner(std::move(arguments));
  const Transports transports = transports_of_this_machine(runner.scratch());
  for (const std::string& what : transports.missing) fmt::print("left out: {}\n", what);
  Rows rows = make_rows(transports.all);
  return runner.run(rows.cases, pools_for(rows), [&] {
    json summary = summarize(rows, transports);
    print(summary);
    return summary;
  });
}

}  // namespace
}  // namespace opsplit::bench

int main(int argc, char** argv) { return opsplit::bench::run({argv, argv + argc}); }
