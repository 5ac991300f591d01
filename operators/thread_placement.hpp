// Where an operator's threads run: the main one, and the workers that OpenMP starts for it.
//
// Where there is a CPU for each, each keeps to its own, the main thread to the first. Of operators that
// take turns on the same CPUs that is one and the same: waking a thread on the core where its producer
// has just run costs 1 us, a core that sleeps takes 30, and the cache there holds what it is to read.
// OMP_PROC_BIND would do that, too, but for ever, and only where it is in the environment.
//
// Workers inherit the affinity of whoever starts them, here the main thread. OpenMP lets some of a
// team end where a loop is too short for all, and starts others for the next: so the main thread has
// all CPUs while a task runs on a team that can shrink. What is started then has them all, too.
#pragma once

#include <unistd.h>

#include <latch>
#include <thread>

#include "base/cpu_set.hpp"

namespace opsplit::operators {

// The kernel's part of it.
class Affinity {
 public:
  virtual ~Affinity() = default;
  // Of the calling thread.
  virtual Result<CpuSet> own() { return thread_affinity(0); }
  // False: the kernel gives none of these CPUs, and nothing has changed.
  virtual bool set_own(const CpuSet& cpus) { return AffinityMask(cpus).apply_to(0) == 0; }
  // Of all threads of this process.
  virtual Result<> set_all(const CpuSet& cpus) { return set_process_affinity(::getpid(), cpus); }
};

// Of the thread that makes it; to be used from that one only.
class ThreadPlacement {
 public:
  // The CPUs are those that the thread has now. `affinity` outlives this object.
  explicit ThreadPlacement(Affinity& affinity);
  ThreadPlacement(const ThreadPlacement&) = delete;
  ThreadPlacement& operator=(const ThreadPlacement&) = delete;
  ~ThreadPlacement();

  // What the main thread may use, and those that it starts.
  [[nodiscard]] const CpuSet& cpus() const { return all_; }
  // Other CPUs for all threads of the process, none of which keeps to one of them then. Error: they
  // stay where they are.
  Result<> move_to(const CpuSet& cpus);
  // A CPU for each of so many threads from now on, if that is how many there are. One with more CPUs
  // than threads shares them with processes that run when it does: that is for the kernel to sort out.
  void separate(int threads);

  // All CPUs for the main thread as long as this object is there, if need be.
  class [[nodiscard]] Spread {
   public:
    explicit Spread(ThreadPlacement* placement);
    Spread(const Spread&) = delete;
    Spread& operator=(const Spread&) = delete;
    ~Spread();

   private:
    ThreadPlacement* placement_;  // null: nothing to do
  };
  // For the time of a task that runs on so many threads. A team of two can't shrink.
  Spread spread(int threads) { return Spread(threads > 2 && separated_ ? this : nullptr); }

 private:
  Affinity& affinity_;
  CpuSet all_;
  CpuSet first_;
  bool separated_ = false;
  // A thread that sleeps, and keeps to none of the CPUs: from outside, all that the process may use
  // can be seen by it, also where every other thread keeps to one, and workers have ended.
  std::latch end_{1};
  std::thread witness_{[this] { end_.wait(); }};
};

}  // namespace opsplit::operators
