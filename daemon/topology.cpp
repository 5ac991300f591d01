#include "daemon/topology.hpp"

#include <hwloc.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <set>

namespace opsplit::daemon {
namespace {

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

template <class T>
std::string counted(const std::set<T>& things, std::string_view thing) {
  return fmt::format("{} {}{}", things.size(), thing, things.size() == 1 ? "" : "s");
}

}  // namespace

Result<Topology> Topology::of_this_machine() {
  OPSPLIT_TRY(const Handle handle, make_handle());
  // Forbidden CPUs too: "core 5 does not exist" and "core 5 is forbidden" need different cures.
  if (hwloc_topology_set_flags(handle.get(), HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED) != 0 ||
      hwloc_topology_load(handle.get()) != 0)
    return fail_errno(errno, "hwloc cannot read this machine's CPUs from /sys");
  Topology topology;
  topology.cpus_ = read_cpus(handle.get());
  OPSPLIT_TRY(const CpuSet affinity, thread_affinity(0));
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
