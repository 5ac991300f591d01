#include "operators/thread_placement.hpp"

#include <omp.h>

namespace opsplit::operators {

ThreadPlacement::ThreadPlacement(Affinity& affinity)
    : affinity_(affinity), all_(affinity.own().value_or(CpuSet{})) {}

ThreadPlacement::~ThreadPlacement() {
  end_.count_down();
  witness_.join();
}

Result<> ThreadPlacement::move_to(const CpuSet& cpus) {
  OPSPLIT_CHECK(affinity_.set_all(cpus));
  separated_ = false;
  // The kernel leaves out what the cpuset forbids.
  OPSPLIT_TRY(all_, affinity_.own());
  return {};
}

// Where the kernel refuses, because somebody has changed the cpuset, a thread stays where it is: a
// task is slower then, and none fails.
void ThreadPlacement::separate(int threads) {
  if (threads < 2 || static_cast<std::size_t>(threads) != all_.size()) return;
#pragma omp parallel num_threads(threads)
  if (const auto worker = static_cast<std::size_t>(omp_get_thread_num()); worker != 0)
    affinity_.set_own({all_[worker]});
  first_ = {all_.front()};
  separated_ = affinity_.set_own(first_);
}

ThreadPlacement::Spread::Spread(ThreadPlacement* placement) : placement_(placement) {
  if (placement_ != nullptr) placement_->affinity_.set_own(placement_->all_);
}

ThreadPlacement::Spread::~Spread() {
  if (placement_ != nullptr) placement_->affinity_.set_own(placement_->first_);
}

}  // namespace opsplit::operators
