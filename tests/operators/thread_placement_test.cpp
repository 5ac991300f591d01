#include "operators/thread_placement.hpp"

#include <gmock/gmock.h>
#include <omp.h>

#include "tests/operators/fake_affinity.hpp"

namespace opsplit::operators {
namespace {

using operators::testing::FakeAffinity;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

TEST(ThreadPlacement, ThreadsStayWhereTheyAreUntilTheyAreSeparated) {
  FakeAffinity affinity({2, 3, 5});
  ThreadPlacement placement(affinity);
  { const auto spread = placement.spread(3); }
  EXPECT_THAT(affinity.set, IsEmpty());
}

TEST(ThreadPlacement, SeparatedThreadsHaveACpuEach) {
  FakeAffinity affinity({2, 3, 5});
  ThreadPlacement placement(affinity);
  placement.separate(3);
  EXPECT_THAT(affinity.set,
              ElementsAre(Pair(0, ElementsAre(CpuSet{2})), Pair(1, ElementsAre(CpuSet{3})),
                          Pair(2, ElementsAre(CpuSet{5}))));
}

TEST(ThreadPlacement, TheMainThreadHasAllCpusWhileWorkersMayBeStarted) {
  FakeAffinity affinity({2, 3, 5});
  ThreadPlacement placement(affinity);
  placement.separate(3);
  affinity.set.clear();
  for (const int threads : {1, 2}) const auto spread = placement.spread(threads);
  EXPECT_THAT(affinity.set, IsEmpty());
  {
    const auto spread = placement.spread(3);
    EXPECT_THAT(affinity.set, ElementsAre(Pair(0, ElementsAre(CpuSet{2, 3, 5}))));
  }
  EXPECT_THAT(affinity.set, ElementsAre(Pair(0, ElementsAre(CpuSet{2, 3, 5}, CpuSet{2}))));
}

TEST(ThreadPlacement, ThreadsWithMoreOrFewerCpusAreLeftToTheKernel) {
  for (const CpuSet& cpus : {CpuSet{4}, CpuSet{4, 5}, CpuSet{4, 5, 6, 7}}) {
    FakeAffinity affinity(cpus);
    ThreadPlacement placement(affinity);
    placement.separate(3);
    placement.separate(1);
    { const auto spread = placement.spread(3); }
    EXPECT_THAT(affinity.set, IsEmpty());
  }
}

TEST(ThreadPlacement, AMoveEndsTheSeparationUntilTheNext) {
  FakeAffinity affinity({2, 3, 5});
  ThreadPlacement placement(affinity);
  placement.separate(3);
  affinity.forbidden = {7};
  ASSERT_TRUE(placement.move_to({0, 1, 4, 7}));
  EXPECT_THAT(placement.cpus(), ElementsAre(0, 1, 4));
  affinity.set.clear();
  { const auto spread = placement.spread(3); }
  EXPECT_THAT(affinity.set, IsEmpty());
  placement.separate(3);
  EXPECT_THAT(affinity.set[2], ElementsAre(CpuSet{4}));

  EXPECT_FALSE(placement.move_to({7}));
  EXPECT_THAT(placement.cpus(), ElementsAre(0, 1, 4));
}

TEST(ThreadPlacement, WhatTheKernelRefusesIsNotTriedForEveryTask) {
  FakeAffinity affinity({0, 1, 2});
  affinity.refuses = true;
  ThreadPlacement placement(affinity);
  placement.separate(3);
  affinity.refuses = false;
  { const auto spread = placement.spread(3); }
  EXPECT_THAT(affinity.set, IsEmpty());
}

// A team of two can't shrink: what ThreadPlacement::spread() relies on.
TEST(ThreadPlacement, TheWorkerOfATeamOfTwoIsTheSameForEver) {
  const auto worker = [] {
    pid_t id = 0;
#pragma omp parallel num_threads(2)
    if (omp_get_thread_num() == 1) id = ::gettid();
    return id;
  };
  const pid_t first = worker();
#pragma omp parallel num_threads(1)
  EXPECT_EQ(omp_get_num_threads(), 1);
  EXPECT_EQ(worker(), first);
}

// By which opsplitd sees whether a process has what it was given.
TEST(ThreadPlacement, OneThreadShowsAllCpusOfTheProcess) {
  Affinity affinity;
  const CpuSet before = affinity.own().value();
  ThreadPlacement placement(affinity);
  ASSERT_TRUE(affinity.set_own({before.front()}));
  EXPECT_EQ(process_affinity(::getpid()), before);
  ASSERT_TRUE(placement.move_to({before.back()}));
  EXPECT_EQ(process_affinity(::getpid()), CpuSet{before.back()});
  ASSERT_TRUE(placement.move_to(before));
}

TEST(Affinity, IsThatOfTheCallingThread) {
  Affinity affinity;
  const CpuSet before = affinity.own().value();
  ASSERT_TRUE(affinity.set_own({before.back()}));
  EXPECT_THAT(affinity.own().value(), ElementsAre(before.back()));
  EXPECT_FALSE(affinity.set_own({}));
  EXPECT_THAT(affinity.own().value(), ElementsAre(before.back()));
  ASSERT_TRUE(affinity.set_own(before));
}

}  // namespace
}  // namespace opsplit::operators
