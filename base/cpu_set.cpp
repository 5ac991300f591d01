#include "base/cpu_set.hpp"

#include <fmt/ranges.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <functional>
#include <iterator>
#include <set>

namespace opsplit {
namespace {

// Calls `each` for every thread; once more as long as threads appear that were not there before.
Result<> for_each_thread(pid_t process, const std::function<Result<>(pid_t)>& each) {
  std::set<pid_t> done;
  for (bool found = true; found;) {
    found = false;
    std::error_code error;
    for (std::filesystem::directory_iterator entry(fmt::format("/proc/{}/task", process), error),
         end;
         !error && entry != end; entry.increment(error)) {
      const auto thread = static_cast<pid_t>(std::stol(entry->path().filename()));
      if (!done.insert(thread).second) continue;
      found = true;
      OPSPLIT_CHECK(each(thread));
    }
    if (error) return fail_errno(error.value(), "process {}", process);
  }
  return {};
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

CpuSet without(const CpuSet& cpus, const CpuSet& others) {
  CpuSet result;
  std::ranges::set_difference(cpus, others, std::back_inserter(result));
  return result;
}

AffinityMask::AffinityMask(const CpuSet& cpus) {
  auto* set = reinterpret_cast<cpu_set_t*>(bits_.data());
  for (const int cpu : cpus)
    if (cpu >= 0 && cpu < max_cpus) CPU_SET_S(static_cast<std::size_t>(cpu), bits_.size(), set);
}

int AffinityMask::apply_to(pid_t thread) const {
  const auto* set = reinterpret_cast<const cpu_set_t*>(bits_.data());
  return ::sched_setaffinity(thread, bits_.size(), set) == 0 ? 0 : errno;
}

Result<CpuSet> thread_affinity(pid_t thread) {
  alignas(unsigned long) std::array<std::byte, max_cpus / 8> bits{};
  auto* set = reinterpret_cast<cpu_set_t*>(bits.data());
  if (::sched_getaffinity(thread, bits.size(), set) != 0)
    return fail_errno(errno, "cannot read which CPUs thread {} may use", thread);
  CpuSet cpus;
  for (int cpu = 0; cpu < max_cpus; ++cpu)
    if (CPU_ISSET_S(static_cast<std::size_t>(cpu), bits.size(), set)) cpus.push_back(cpu);
  return cpus;
}

Result<> set_process_affinity(pid_t process, const CpuSet& cpus) {
  const AffinityMask mask(cpus);
  return for_each_thread(process, [&](pid_t thread) -> Result<> {
    const int error = mask.apply_to(thread);
    if (error == 0 || error == ESRCH) return {};  // done, or the thread has ended
    if (error == EINVAL)
      return fail(ErrorCode::refused, "process {} may not run on CPUs {}: its cpuset forbids {}",
                  process, to_string(cpus), cpus.size() == 1 ? "it" : "all of them");
    return fail_errno(error, "process {} cannot be moved to CPUs {}", process, to_string(cpus));
  });
}

Result<CpuSet> process_affinity(pid_t process) {
  CpuSet all;
  OPSPLIT_CHECK(for_each_thread(process, [&](pid_t thread) -> Result<> {
    const auto cpus = thread_affinity(thread);
    if (!cpus) return {};  // it has ended
    CpuSet joined;
    std::set_union(all.begin(), all.end(), cpus->begin(), cpus->end(), std::back_inserter(joined));
    all = std::move(joined);
    return {};
  }));
  return all;
}

}  // namespace opsplit
