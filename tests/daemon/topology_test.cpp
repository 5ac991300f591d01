#include "daemon/topology.hpp"

#include <gmock/gmock.h>
#include <sched.h>

#include <set>
#include <thread>

namespace opsplit::daemon {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(TopologyTest, OneCore) {
  const auto topology = Topology::synthetic("pack:1 core:1 pu:1");
  ASSERT_TRUE(topology) << topology.error().message;
  EXPECT_EQ(topology->summary(), "1 package, 1 NUMA node, 1 core, 1 hardware thread");
  EXPECT_THAT(topology->allowed(), ElementsAre(0));
}

TEST(TopologyTest, TwoSocketsWithHyperthreads) {
  const auto topology = Topology::synthetic("pack:2 core:16 pu:2");
  ASSERT_TRUE(topology) << topology.error().message;
  EXPECT_EQ(topology->summary(), "2 packages, 1 NUMA node, 32 cores, 64 hardware threads");
  EXPECT_EQ(topology->cpus()[0].core, topology->cpus()[1].core);
  EXPECT_NE(topology->cpus()[1].core, topology->cpus()[2].core);
}

TEST(TopologyTest, EightNumaNodes) {
  const auto topology = Topology::synthetic("numa:8 core:4 pu:1");
  ASSERT_TRUE(topology) << topology.error().message;
  std::set<int> nodes;
  for (const Cpu& cpu : topology->cpus()) nodes.insert(cpu.numa);
  EXPECT_EQ(nodes.size(), 8u);
}

TEST(TopologyTest, NonsenseIsRefused) {
  EXPECT_THAT(Topology::synthetic("cores: many").error().message, HasSubstr("pack:2"));
  EXPECT_FALSE(Topology::synthetic(""));
}

TEST(TopologyTest, ThisMachineSaysWhatThisProcessMayUse) {
  const auto topology = Topology::of_this_machine();
  ASSERT_TRUE(topology) << topology.error().message;
  EXPECT_GE(topology->cpus().size(), topology->allowed().size());
  ASSERT_FALSE(topology->allowed().empty());

  // In a thread of its own, because affinity belongs to the thread.
  std::thread([first = topology->allowed().front()] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<std::size_t>(first), &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    EXPECT_THAT(Topology::of_this_machine()->allowed(), ElementsAre(first));
  }).join();
}

}  // namespace
}  // namespace opsplit::daemon
