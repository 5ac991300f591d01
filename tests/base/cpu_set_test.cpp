#include "base/cpu_set.hpp"

#include <gmock/gmock.h>

#include <latch>
#include <thread>

namespace opsplit {
namespace {

using testing::HasSubstr;

TEST(CpuSetTest, ListsGoThereAndBack) {
  for (const char* text : {"0", "0-3", "0,2-3", "1,3,5-7,8191"})
    EXPECT_EQ(to_string(*parse_cpus(text)), text);
  EXPECT_EQ(to_string(*parse_cpus("3,1,2,2-3")), "1-3");
  EXPECT_EQ(to_string(CpuSet{}), "");
}

TEST(CpuSetTest, AnythingElseIsRefused) {
  for (const char* text : {"", ",", "0,", ",0", "-1", "0-", "0--1", "3-1", "a", "0x1", "0 1", " 0",
                           "0-1-2", "8192", "0-99999999999999999999", "99999999999", "1.5"})
    EXPECT_FALSE(parse_cpus(text)) << text;
  EXPECT_THAT(parse_cpus("0-x").error().message, HasSubstr("0,2-3"));
}

// One CPU of those that the test may use, for a thread that waits: its affinity alone is changed.
class AffinityTest : public testing::Test {
 protected:
  ~AffinityTest() override {
    EXPECT_TRUE(set_process_affinity(::getpid(), before_));
    done_.count_down();
    thread_.join();
  }

  const CpuSet before_ = thread_affinity(0).value();
  std::latch started_{1};
  std::latch done_{1};
  pid_t id_ = 0;
  std::thread thread_{[this] {
    id_ = ::gettid();
    started_.count_down();
    done_.wait();
  }};
};

TEST_F(AffinityTest, AProcessHasWhatAnyOfItsThreadsHas) {
  started_.wait();
  EXPECT_EQ(process_affinity(::getpid()), before_);
  const CpuSet last{before_.back()};
  ASSERT_EQ(AffinityMask(last).apply_to(id_), 0);
  EXPECT_EQ(thread_affinity(id_), last);
  EXPECT_EQ(process_affinity(::getpid()), before_);
  ASSERT_TRUE(set_process_affinity(::getpid(), last));
  EXPECT_EQ(thread_affinity(0), last);
  EXPECT_EQ(process_affinity(::getpid()), last);
}

TEST_F(AffinityTest, WhatTheKernelCannotGiveIsAnErrorAndThatOfAMixIsLeftOut) {
  started_.wait();
  const auto none = set_process_affinity(::getpid(), {max_cpus - 1});
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error().message, HasSubstr("may not run on CPUs 8191: its cpuset forbids it"));
  EXPECT_EQ(process_affinity(::getpid()), before_);
  ASSERT_TRUE(set_process_affinity(::getpid(), {before_.front(), max_cpus - 1}));
  EXPECT_EQ(process_affinity(::getpid()), CpuSet{before_.front()});
  EXPECT_FALSE(process_affinity(1'000'000'000));
  EXPECT_FALSE(set_process_affinity(1'000'000'000, before_));
}

}  // namespace
}  // namespace opsplit
