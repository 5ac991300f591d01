#include "daemon/chaos.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace opsplit::daemon {
namespace {

constexpr std::chrono::nanoseconds shortest_interval = std::chrono::milliseconds(100);

// [0, 1). The distributions of <random> differ between libraries.
double unit(std::mt19937_64& random) { return static_cast<double>(random() >> 11) * 0x1p-53; }

double milliseconds(std::uint64_t ns) { return static_cast<double>(ns) / 1e6; }

}  // namespace

std::string_view to_string(Victim victim) {
  static constexpr std::array<std::string_view, all_victims.size()> names = {"operators", "daemon",
                                                                             "broker", "client"};
  return names[static_cast<std::size_t>(victim)];
}

Result<Victim> parse_victim(std::string_view name) {
  for (const Victim victim : all_victims)
    if (to_string(victim) == name) return victim;
  return fail(ErrorCode::invalid_input,
              "'{}': what can be killed is operators, daemon, broker and client", name);
}

std::vector<Fault> chaos_schedule(std::span<const Victim> victims, bool hang, std::uint64_t seed,
                                  std::chrono::nanoseconds time, std::chrono::nanoseconds every) {
  std::mt19937_64 random(seed);
  std::vector<Fault> faults;
  std::chrono::nanoseconds at(0);
  while (!victims.empty()) {
    const double interval = -std::log1p(-unit(random)) * static_cast<double>(every.count());
    at +=
        std::max(shortest_interval, std::chrono::nanoseconds(static_cast<std::int64_t>(interval)));
    if (at >= time) break;
    const Victim victim = victims[random() % victims.size()];
    const bool hangs = random() % 2 == 0 && hang && victim != Victim::client;
    faults.push_back({at, victim, hangs, random()});
  }
  return faults;
}

void ChaosAccount::add(const RequestEvent& event) {
  using Kind = RequestEvent::Kind;
  const std::pair request(event.client, event.request);
  if (event.kind == Kind::sent) {
    ++count_.requests;
    if (!under_way_.insert(request).second) ++count_.doubled;
    return;
  }
  if (under_way_.erase(request) == 0) {
    ++count_.doubled;
    return;
  }
  switch (event.kind) {
    case Kind::sent:
      break;
    case Kind::answered:
      ++count_.answered;
      break;
    case Kind::wrong:
      ++count_.wrong;
      break;
    case Kind::refused:
      ++count_.refused;
      break;
    case Kind::epoch_lost:
      ++count_.epochs_lost;
      break;
    case Kind::lost:
      ++count_.lost;
      break;
  }
  if (event.kind != Kind::answered) return;
  const double latency_ms = milliseconds(event.at_ns - event.sent_ns);
  const auto struck = faults_.upper_bound(event.sent_ns);
  if (struck != faults_.end() && struck->first < event.at_ns)
    latencies_.under_way[struck->second].push_back(latency_ms);
  else if (faults_.empty() || event.at_ns < faults_.begin()->first)
    latencies_.before.push_back(latency_ms);
  else
    latencies_.others.push_back(latency_ms);
  if (last_answer_ns_ != 0 && event.at_ns > last_answer_ns_)
    longest_silence_ns_ = std::max(longest_silence_ns_, event.at_ns - last_answer_ns_);
  last_answer_ns_ = std::max(last_answer_ns_, event.at_ns);
  std::erase_if(pending_, [&](const auto& fault) {
    const auto& [victim, struck_ns] = fault;
    if (event.sent_ns < struck_ns) return false;
    recoveries_[victim].push_back(milliseconds(event.at_ns - struck_ns));
    return true;
  });
}

void ChaosAccount::begin() { longest_silence_ns_ = last_answer_ns_ = 0; }

void ChaosAccount::client_died(std::uint32_t client) {
  count_.died_with_client +=
      std::erase_if(under_way_, [&](const auto& request) { return request.first == client; });
}

void ChaosAccount::client_failed(std::uint32_t client) {
  count_.lost += std::max<std::uint64_t>(
      1, std::erase_if(under_way_, [&](const auto& request) { return request.first == client; }));
}

void ChaosAccount::fault_struck(Victim victim, std::uint64_t at_ns) {
  pending_.emplace_back(victim, at_ns);
  faults_.emplace(at_ns, victim);
}

void ChaosAccount::close() {
  count_.lost += under_way_.size();
  under_way_.clear();
}

double ChaosAccount::longest_silence_ms() const { return milliseconds(longest_silence_ns_); }

}  // namespace opsplit::daemon
