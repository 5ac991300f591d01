// The kernel's part of thread placement, for tests.
#pragma once

#include <omp.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "operators/thread_placement.hpp"

namespace opsplit::operators::testing {

// Knows threads by their numbers in the team: 0 is the main one.
class FakeAffinity final : public Affinity {
 public:
  explicit FakeAffinity(CpuSet cpus) : cpus_(std::move(cpus)) {}

  Result<CpuSet> own() override { return cpus_; }
  bool set_own(const CpuSet& cpus) override {
    const std::lock_guard guard(mutex_);
    if (refuses) return false;
    set[omp_get_thread_num()].push_back(cpus);
    return true;
  }
  Result<> set_all(const CpuSet& cpus) override {
    CpuSet given;
    std::set_difference(cpus.begin(), cpus.end(), forbidden.begin(), forbidden.end(),
                        std::back_inserter(given));
    if (given.empty()) return fail(ErrorCode::refused, "the cpuset forbids all of them");
    cpus_ = std::move(given);
    return {};
  }

  std::map<int, std::vector<CpuSet>> set;  // what each asked for, in order
  bool refuses = false;
  CpuSet forbidden;  // of those for all threads

 private:
  CpuSet cpus_;
  std::mutex mutex_;
};

}  // namespace opsplit::operators::testing
