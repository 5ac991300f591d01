#include "daemon/cores.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

namespace opsplit::daemon {
namespace {

using Indices = std::vector<std::size_t>;

// A physical core, as far as its CPUs are allowed.
struct Core {
  CpuSet cpus;
  int numa = 0;
  std::size_t users = 0;
  bool reserved = false;  // asked for: not part of what the others share
};

bool contains(const CpuSet& cpus, int cpu) {
  return std::binary_search(cpus.begin(), cpus.end(), cpu);
}

std::vector<Core> cores_of(const Topology& topology, const CpuSet& allowed) {
  std::vector<Core> cores;
  std::map<int, std::size_t> known;
  for (const Cpu& cpu : topology.cpus()) {
    if (!contains(allowed, cpu.id)) continue;
    const auto [found, is_new] = known.try_emplace(cpu.core, cores.size());
    if (is_new) {
      cores.emplace_back();
      cores.back().numa = cpu.numa;
    }
    cores[found->second].cpus.push_back(cpu.id);
  }
  for (Core& core : cores) std::sort(core.cpus.begin(), core.cpus.end());
  return cores;
}

double weight(const CoreDemand& demand) {
  constexpr double least = std::numeric_limits<double>::min();
  return std::isfinite(demand.cost) ? std::max(demand.cost, least) : least;
}

class Assigner {
 public:
  Assigner(const Topology& topology, const CpuSet& allowed, std::span<const CoreDemand> operators)
      : topology_(topology),
        allowed_(allowed),
        operators_(operators),
        cores_(cores_of(topology, allowed)),
        chosen_(operators.size()),
        assignments_(operators.size()) {}

  Result<std::vector<CoreAssignment>> run(Objective objective) {
    if (cores_.empty())
      return fail(ErrorCode::invalid_input, "none of this machine's cores may be used");
    OPSPLIT_CHECK(lists());
    OPSPLIT_CHECK(numbers());
    if (objective == Objective::latency)
      share();
    else
      divide();
    conclude(objective);
    return std::move(assignments_);
  }

 private:
  void use(std::size_t op, Indices cores) {
    std::sort(cores.begin(), cores.end());
    for (const std::size_t core : cores) {
      ++cores_[core].users;
      assignments_[op].cpus.push_back(cores_[core].cpus.front());
    }
    chosen_[op] = std::move(cores);
  }

  void reserve(std::size_t op, Indices cores) {
    for (const std::size_t core : cores) cores_[core].reserved = true;
    use(op, std::move(cores));
  }

  Result<> lists() {
    CpuSet existing;
    for (const Cpu& cpu : topology_.cpus()) existing.push_back(cpu.id);
    std::sort(existing.begin(), existing.end());
    for (std::size_t op = 0; op < operators_.size(); ++op) {
      if (!operators_[op].request) continue;
      const auto* list = std::get_if<CpuSet>(&*operators_[op].request);
      if (list == nullptr) continue;
      CpuSet missing, forbidden;
      for (const int cpu : *list) {
        if (!contains(existing, cpu))
          missing.push_back(cpu);
        else if (!contains(allowed_, cpu))
          forbidden.push_back(cpu);
      }
      if (!missing.empty())
        return fail(ErrorCode::invalid_input,
                    "operator {}: cores \"{}\": {} do not exist here, this machine has {}",
                    operators_[op].name, to_string(*list), to_string(missing), to_string(existing));
      if (!forbidden.empty())
        return fail(ErrorCode::invalid_input,
                    "operator {}: cores \"{}\": {} are forbidden by the cpuset or affinity of "
                    "opsplitd, which allows {}",
                    operators_[op].name, to_string(*list), to_string(forbidden),
                    to_string(allowed_));
      if (list->empty())
        return fail(ErrorCode::invalid_input, "operator {}: its list of cores is empty",
                    operators_[op].name);
      Indices cores;
      for (std::size_t core = 0; core < cores_.size(); ++core)
        if (std::any_of(cores_[core].cpus.begin(), cores_[core].cpus.end(),
                        [&](int cpu) { return contains(*list, cpu); }))
          cores.push_back(core);
      reserve(op, std::move(cores));
      assignments_[op].cpus = *list;
    }
    return {};
  }

  Result<> numbers() {
    Indices asking;
    bool others = false;
    for (std::size_t op = 0; op < operators_.size(); ++op) {
      const auto& request = operators_[op].request;
      if (!request)
        others = true;
      else if (std::holds_alternative<int>(*request))
        asking.push_back(op);
    }
    // The large ones first: they are the hardest to place within a NUMA node.
    const auto number = [&](std::size_t op) { return std::get<int>(*operators_[op].request); };
    std::stable_sort(asking.begin(), asking.end(),
                     [&](std::size_t a, std::size_t b) { return number(a) > number(b); });
    for (const std::size_t op : asking) {
      if (number(op) < 1)
        return fail(ErrorCode::invalid_input, "operator {}: cores: {}: must be at least 1",
                    operators_[op].name, number(op));
      const auto wanted = static_cast<std::size_t>(number(op));
      if (wanted > cores_.size())
        return fail(ErrorCode::limit_exceeded,
                    "operator {}: cores: {}: there are {} physical cores to use (CPUs {}); two "
                    "threads of one core can be had by a list, cores: \"0-1\"",
                    operators_[op].name, wanted, cores_.size(), to_string(allowed_));
      const Indices free = having([](const Core& core) { return core.users == 0; });
      if (wanted + (others ? 1 : 0) <= free.size())
        reserve(op, take(free, wanted));
      else
        use(op, least_used(wanted));
    }
    return {};
  }

  // What operators without a request get their cores from.
  Indices pool() const {
    Indices left = having([](const Core& core) { return !core.reserved; });
    return left.empty() ? having([](const Core&) { return true; }) : left;
  }

  Indices without_request() const {
    Indices found;
    for (std::size_t op = 0; op < operators_.size(); ++op)
      if (!operators_[op].request) found.push_back(op);
    return found;
  }

  void share() {
    const Indices cores = pool();
    for (const std::size_t op : without_request()) use(op, cores);
  }

  void divide() {
    Indices cores = pool();
    Indices todo = without_request();
    std::stable_sort(todo.begin(), todo.end(), [&](std::size_t a, std::size_t b) {
      return weight(operators_[a]) > weight(operators_[b]);
    });
    if (todo.size() > cores.size()) return mingle(todo, cores);

    // One each; then every further core to whom has the most work per core: what is slowest in a
    // pipeline sets its pace.
    Indices counts(todo.size(), 1);
    const auto load = [&](std::size_t i) {
      return weight(operators_[todo[i]]) / static_cast<double>(counts[i]);
    };
    for (std::size_t spare = todo.empty() ? 0 : cores.size() - todo.size(); spare > 0; --spare) {
      std::size_t slowest = 0;
      for (std::size_t i = 1; i < todo.size(); ++i)
        if (load(i) > load(slowest)) slowest = i;
      ++counts[slowest];
    }
    for (std::size_t i = 0; i < todo.size(); ++i) {  // by cost, so by count: large ones first
      Indices taken = take(cores, counts[i]);
      std::sort(taken.begin(), taken.end());
      Indices left;
      std::set_difference(cores.begin(), cores.end(), taken.begin(), taken.end(),
                          std::back_inserter(left));
      cores = std::move(left);
      use(todo[i], std::move(taken));
    }
  }

  // More operators than cores: a thread each, on all of them. The kernel finds work for every core as
  // long as there is some, which no division by cost does.
  void mingle(const Indices& todo, const Indices& cores) {
    for (const std::size_t op : todo) {
      use(op, cores);
      mingled_.push_back(op);
    }
    for (const std::size_t op : todo) {
      assignments_[op].cpus.clear();
      for (const std::size_t core : cores)
        assignments_[op].cpus.insert(assignments_[op].cpus.end(), cores_[core].cpus.begin(),
                                     cores_[core].cpus.end());
    }
  }

  template <class Predicate>
  Indices having(Predicate predicate) const {
    Indices found;
    for (std::size_t core = 0; core < cores_.size(); ++core)
      if (predicate(cores_[core])) found.push_back(core);
    return found;
  }

  Indices least_used(std::size_t wanted) const {
    Indices all(cores_.size());
    std::iota(all.begin(), all.end(), std::size_t{0});
    std::stable_sort(all.begin(), all.end(), [&](std::size_t a, std::size_t b) {
      return cores_[a].users < cores_[b].users;
    });
    all.resize(wanted);
    return all;
  }

  // `wanted` of the cores in `from` (ascending, at least as many): within one NUMA node if it can
  // be, and there side by side; the tightest fit, to leave larger pieces whole.
  Indices take(const Indices& from, std::size_t wanted) const {
    std::map<int, Indices> by_node;
    for (const std::size_t core : from) by_node[cores_[core].numa].push_back(core);
    const Indices* fitting = nullptr;
    const Indices* largest = nullptr;
    for (const auto& [node, cores] : by_node) {
      if (cores.size() >= wanted && (fitting == nullptr || cores.size() < fitting->size()))
        fitting = &cores;
      if (largest == nullptr || cores.size() > largest->size()) largest = &cores;
    }
    if (fitting != nullptr) return take_run(*fitting, wanted);
    Indices taken = *largest;
    Indices rest;
    std::set_difference(from.begin(), from.end(), largest->begin(), largest->end(),
                        std::back_inserter(rest));
    const Indices more = take(rest, wanted - taken.size());
    taken.insert(taken.end(), more.begin(), more.end());
    return taken;
  }

  // The first `wanted` of the shortest run of neighbours that is long enough, else just the first.
  static Indices take_run(const Indices& from, std::size_t wanted) {
    std::size_t best = 0;
    std::size_t best_length = from.size() + 1;
    for (std::size_t first = 0, next; first < from.size(); first = next) {
      next = first + 1;
      while (next < from.size() && from[next] == from[next - 1] + 1) ++next;
      if (next - first >= wanted && next - first < best_length) {
        best = first;
        best_length = next - first;
      }
    }
    const auto begin = from.begin() + static_cast<std::ptrdiff_t>(best);
    return {begin, begin + static_cast<std::ptrdiff_t>(wanted)};
  }

  void conclude(Objective objective) {
    for (std::size_t op = 0; op < operators_.size(); ++op) {
      CoreAssignment& assignment = assignments_[op];
      const std::size_t instances = static_cast<std::size_t>(std::max(1, operators_[op].instances));
      const std::size_t cores = chosen_[op].size();
      std::sort(assignment.cpus.begin(), assignment.cpus.end());
      // For throughput the instances work at the same time; for latency mostly one at a time does.
      const std::size_t threads = std::ranges::find(mingled_, op) != mingled_.end() ? 1
                                  : objective == Objective::throughput ? cores / instances
                                                                       : cores;
      assignment.threads = static_cast<int>(std::max<std::size_t>(1, threads));
      assignment.exclusive = static_cast<std::size_t>(assignment.threads) * instances <= cores &&
                             std::all_of(chosen_[op].begin(), chosen_[op].end(),
                                         [&](std::size_t core) { return cores_[core].users == 1; });
    }
  }

  const Topology& topology_;
  const CpuSet& allowed_;
  std::span<const CoreDemand> operators_;
  std::vector<Core> cores_;      // neighbours in this order are near each other
  std::vector<Indices> chosen_;  // by operator: its cores
  Indices mingled_;              // operators
  std::vector<CoreAssignment> assignments_;
};

}  // namespace

Result<std::vector<CoreAssignment>> assign_cores(const Topology& topology, const CpuSet& allowed,
                                                 std::span<const CoreDemand> operators,
                                                 Objective objective) {
  return Assigner(topology, allowed, operators).run(objective);
}

std::string_view to_string(Objective objective) {
  return objective == Objective::latency ? "latency" : "throughput";
}

std::optional<Objective> objective_from_string(std::string_view name) {
  if (name == "latency") return Objective::latency;
  if (name == "throughput") return Objective::throughput;
  return std::nullopt;
}

Result<CoreRequest> parse_core_request(std::string_view text) {
  int number = 0;
  const char* const end = text.data() + text.size();
  const auto [next, problem] = std::from_chars(text.data(), end, number);
  if (problem == std::errc{} && next == end) {
    if (number < 1)
      return fail(ErrorCode::invalid_input, "'{}' cores: must be at least 1, or a list like 0,2-3",
                  text);
    return number;
  }
  OPSPLIT_TRY(CpuSet cpus, parse_cpus(text));
  return CoreRequest(std::move(cpus));
}

std::string to_string(const CoreRequest& request) {
  if (const int* number = std::get_if<int>(&request)) return fmt::format("{}", *number);
  const CpuSet& cpus = std::get<CpuSet>(request);
  // Not "2", which would read as a number of cores.
  return cpus.size() == 1 ? fmt::format("{}-{}", cpus[0], cpus[0]) : to_string(cpus);
}

}  // namespace opsplit::daemon
