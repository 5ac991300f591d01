#include "bench/cases.hpp"

#include <algorithm>
#include <set>

#include "bench/board_hop.hpp"
#include "bench/crew.hpp"
#include "bench/floors.hpp"
#include "bench/iceoryx_ring.hpp"

namespace opsplit::bench {
namespace {

constexpr std::uint64_t KiB = 1024, MiB = 1024 * KiB;
constexpr std::uint64_t payloads[] = {64, 4 * KiB, 256 * KiB, 4 * MiB, 64 * MiB};
constexpr std::uint64_t smallest = 64;

std::string size_name(std::uint64_t bytes) {
  if (bytes >= MiB) return fmt::format("{}MB", bytes / MiB);
  if (bytes >= KiB) return fmt::format("{}KB", bytes / KiB);
  return fmt::format("{}B", bytes);
}

std::string where(const Setting& s) { return fmt::format("{}core/{}proc", s.cores, s.processes); }

// Spinners need a core each; sleepers share one, or wake the other.
std::vector<Setting> spinning_settings() {
  std::vector<Setting> settings;
  for (const int processes : {2, 10})
    if (static_cast<int>(allowed_cores().size()) >= processes)
      settings.push_back({.processes = processes, .cores = processes});
  return settings;
}

std::vector<Setting> sleeping_settings() {
  std::vector<Setting> settings;
  for (const int cores : {1, 2})
    for (const int processes : {2, 10})
      if (static_cast<int>(allowed_cores().size()) >= cores)
        settings.push_back({.processes = processes, .cores = cores});
  return settings;
}

Setting with_payload(Setting setting, std::uint64_t payload, bool touched) {
  setting.payload = payload;
  setting.touched = touched;
  if (touched && payload >= MiB) {  // milliseconds per hop
    setting.warm_hops = 2 * setting.processes;
    setting.timed_hops = 4 * setting.processes;
  }
  return setting;
}

int requests_of(const Setting& setting, bool spinning) {
  if (setting.touched) return setting.payload >= 4 * MiB ? 5 : 20;
  if (spinning) return 200;
  return setting.cores == 1 ? 50 : 15;  // another core sleeps and is woken: ten times as slow
}

class Cases {
 public:
  std::vector<Case> take() { return std::move(cases_); }

  void add_spinning(const Setting& base) {
    add("floor/spin/" + where(base), base, true, Ring<SpinLink>::start);
    const std::string floor = cases_.back().name;
    add("floor/spin2/" + where(base), base, true, Ring<OwnWordLink>::start);
    const std::string floor2 = cases_.back().name;
    for (const bool touched : {false, true})
      for (const std::uint64_t payload : payloads) {
        const Setting setting = with_payload(base, payload, touched);
        const std::string tail = tail_of(setting);
        add("iceoryx/polling/" + tail, setting, true, start_iceoryx_polling);
        const std::string iceoryx = cases_.back().name;
        add("hop/spinning/" + tail, setting, true, board(Waiting::spinning, false));
        if (touched) {
          cases_.back().comparisons = {{iceoryx, 1.0}};
          continue;
        }
        cases_.back().comparisons = {{floor, 2.5}, {floor2, 0}, {iceoryx, 0.25}};
        compare_with_smallest("hop/spinning/" + tail_of(base), payload);
      }
    Setting copied = with_payload(base, 4 * KiB, false);
    copied.copied = true;
    add("hop/spinning/" + tail_of(copied) + "/copied", copied, true,
        board(Waiting::spinning, false));
    add("hop/spinning/" + tail_of(base) + "/measured", base, true, board(Waiting::spinning, true));
    cases_.back().comparisons = {{floor, 0}};
  }

  void add_sleeping(const Setting& base) {
    add("floor/futex/" + where(base), base, false, Ring<FutexLink>::start);
    const std::string floor = cases_.back().name;
    add("iceoryx/waitset/" + tail_of(base), base, false, start_iceoryx_waitset);
    const std::string iceoryx = cases_.back().name;
    for (const std::uint64_t payload : payloads) {
      const Setting setting = with_payload(base, payload, false);
      add("hop/sleeping/" + tail_of(setting), setting, false, board(Waiting::sleeping, false));
      cases_.back().comparisons = {{floor, 1.4}, {iceoryx, 1.0}};
      compare_with_smallest("hop/sleeping/" + tail_of(base), payload);
    }
    add("hop/sleeping/" + tail_of(base) + "/measured", base, false, board(Waiting::sleeping, true));
    cases_.back().comparisons = {{floor, 0}};
  }

 private:
  using Start = std::function<Result<std::unique_ptr<Contender>>(const Setting&)>;

  static Start board(Waiting waiting, bool measure) {
    return [=](const Setting& setting) { return BoardHop::start(setting, waiting, measure); };
  }
  static std::string tail_of(const Setting& setting) {
    return fmt::format("{}/{}{}", where(setting), size_name(setting.payload),
                       setting.touched ? "/touched" : "");
  }
  void add(std::string name, const Setting& setting, bool spinning, Start start) {
    Case added;
    added.name = std::move(name);
    added.setting = setting;
    added.requests = requests_of(setting, spinning);
    added.start = std::move(start);
    cases_.push_back(std::move(added));
  }
  void compare_with_smallest(const std::string& name, std::uint64_t payload) {
    if (payload != smallest) cases_.back().comparisons.push_back({name, 1.1});
  }

  std::vector<Case> cases_;
};

}  // namespace

std::vector<Case> make_cases() {
  Cases cases;
  for (const Setting& setting : spinning_settings()) cases.add_spinning(setting);
  for (const Setting& setting : sleeping_settings()) cases.add_sleeping(setting);
  return cases.take();
}

std::string left_out() {
  const std::size_t cores = allowed_cores().size();
  if (cores >= 10) return "";
  return fmt::format("left out on {} core(s): {}", cores,
                     cores >= 2 ? "10 spinning operators, which need a core each"
                                : "all that spins, and all on two cores");
}

Pools pools_for(const std::vector<Case>& cases) {
  std::set<std::uint64_t> pools;
  Pools result;
  for (const Case& c : cases) {
    if (c.name.starts_with("iceoryx/"))
      for (const std::uint64_t pool : iceoryx_pools(c.setting)) pools.insert(pool);
    if (c.name.starts_with("hop/"))
      result.arena = std::max(result.arena, board_arena_bytes(c.setting));
  }
  // Larger than any other, so that the broker takes no ring's pool for it.
  if (!pools.empty()) result.arena = std::max(result.arena, *pools.rbegin() + (1u << 16));
  pools.insert(result.arena);
  result.all = {pools.begin(), pools.end()};
  return result;
}

}  // namespace opsplit::bench
