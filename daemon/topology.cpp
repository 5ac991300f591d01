#include "daemon/topology.hpp"

#include <fmt/ranges.h>
#include <hwloc.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <memory>
#include <set>

namespace opsplit::daemon {
namespace {

constexpr int max_cpus = 8192;  // the most that a Linux kernel can be built for

using Handle = std::unique_ptr<hwloc_topology, decltype(&hwloc_topology_destroy)>;

Result<Handle> make_handle() {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) return fail_errno(errno, "hwloc cannot start");
  return Handle(raw, &hwloc_topology_destroy);
}

// Our number for the object of that type around a CPU; `otherwise` where hwloc knows of none (some
// virtual machines hide their cores).
int index_of(hwloc_topology_t topology, hwloc_obj_type_t type, hwloc_obj_t cpu, int otherwise) {
  const hwloc_obj_t found = hwloc_get_ancestor_obj_by_type(topology, type, cpu);
  return found == nullptr ? otherwise : static_cast<int>(found->logical_index);
}

std::vector<Cpu> read_cpus(hwloc_topology_t topology) {
  std::vector<Cpu> cpus;
  for (hwloc_obj_t cpu = nullptr;
       (cpu = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_PU, cpu)) != nullptr;) {
    Cpu made;
    made.id = static_cast<int>(cpu->os_index);
    made.core = index_of(topology, HWLOC_OBJ_CORE, cpu, static_cast<int>(cpu->logical_index));
    made.numa = std::max(0, cpu->nodeset == nullptr ? 0 : hwloc_bitmap_first(cpu->nodeset));
    made.package = index_of(topology, HWLOC_OBJ_PACKAGE, cpu, 0);
    cpus.push_back(made);
  }
  return cpus;
}

Result<CpuSet> own_affinity() {
  const std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> set(CPU_ALLOC(max_cpus),
                                                             [](cpu_set_t* s) { CPU_FREE(s); });
  const std::size_t size = CPU_ALLOC_SIZE(max_cpus);
  if (!set || sched_getaffinity(0, size, set.get()) != 0)
    return fail_errno(errno, "cannot read which CPUs this process may use");
  CpuSet cpus;
  for (int cpu = 0; cpu < max_cpus; ++cpu)
    if (CPU_ISSET_S(static_cast<std::size_t>(cpu), size, set.get())) cpus.push_back(cpu);
  return cpus;
}

template <class T>
std::string counted(const std::set<T>& things, std::string_view thing) {
  return fmt::format("{} {}{}", things.size(), thing, things.size() == 1 ? "" : "s");
}

}  // namespace

Result<CpuSet> parse_cpus(std::string_view text) {
  const auto refuse = [text] {
    return fail(ErrorCode::invalid_input,
                "'{}' is not a list of cores: write numbers from 0 to {} like 0,2-3", text,
                max_cpus - 1);
  };
  const char* at = text.data();
  const char* const end = at + text.size();
  const auto number = [&](int& out) {
    const auto [next, problem] = std::from_chars(at, end, out);
    if (problem != std::errc{} || *at == '-' || out >= max_cpus) return false;
    at = next;
    return true;
  };
  std::set<int> cpus;
  while (true) {
    int first = 0;
    if (!number(first)) return refuse();
    int last = first;
    if (at != end && *at == '-' && (++at, !number(last))) return refuse();
    if (last < first) return refuse();
    for (int cpu = first; cpu <= last; ++cpu) cpus.insert(cpu);
    if (at == end) return CpuSet(cpus.begin(), cpus.end());
    if (*at++ != ',') return refuse();
  }
}

std::string to_string(const CpuSet& cpus) {
  std::vector<std::string> ranges;
  for (std::size_t first = 0, next; first < cpus.size(); first = next) {
    next = first + 1;
    while (next < cpus.size() && cpus[next] == cpus[next - 1] + 1) ++next;
    ranges.push_back(next == first + 1 ? fmt::format("{}", cpus[first])
                                       : fmt::format("{}-{}", cpus[first], cpus[next - 1]));
  }
  return fmt::format("{}", fmt::join(ranges, ","));
}

Result<Topology> Topology::of_this_machine() {
  OPSPLIT_TRY(const Handle handle, make_handle());
  // Forbidden CPUs too: "core 5 does not exist" and "core 5 is forbidden" need different cures.
  if (hwloc_topology_set_flags(handle.get(), HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED) != 0 ||
      hwloc_topology_load(handle.get()) != 0)
    return fail_errno(errno, "hwloc cannot read this machine's CPUs from /sys");
  Topology topology;
  topology.cpus_ = read_cpus(handle.get());
  OPSPLIT_TRY(const CpuSet affinity, own_affinity());
  CpuSet known;
  for (const Cpu& cpu : topology.cpus_) known.push_back(cpu.id);
  std::sort(known.begin(), known.end());
  std::set_intersection(known.begin(), known.end(), affinity.begin(), affinity.end(),
                        std::back_inserter(topology.allowed_));
  return topology;
}

Result<Topology> Topology::synthetic(std::string_view description) {
  OPSPLIT_TRY(const Handle handle, make_handle());
  if (hwloc_topology_set_synthetic(handle.get(), std::string(description).c_str()) != 0 ||
      hwloc_topology_load(handle.get()) != 0)
    return fail(ErrorCode::invalid_input,
                "'{}' is not a topology in hwloc's synthetic notation, e.g. pack:2 core:16 pu:2",
                description);
  Topology topology;
  topology.cpus_ = read_cpus(handle.get());
  for (const Cpu& cpu : topology.cpus_) topology.allowed_.push_back(cpu.id);
  std::sort(topology.allowed_.begin(), topology.allowed_.end());
  return topology;
}

std::string Topology::summary() const {
  std::set<int> packages, nodes, cores, threads;
  for (const Cpu& cpu : cpus_) {
    packages.insert(cpu.package);
    nodes.insert(cpu.numa);
    cores.insert(cpu.core);
    threads.insert(cpu.id);
  }
  return fmt::format("{}, {}, {}, {}", counted(packages, "package"), counted(nodes, "NUMA node"),
                     counted(cores, "core"), counted(threads, "hardware thread"));
}

}  // namespace opsplit::daemon
