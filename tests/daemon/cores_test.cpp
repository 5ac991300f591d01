#include "daemon/cores.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <limits>
#include <random>
#include <set>

namespace opsplit::daemon {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr auto latency = Objective::latency;
constexpr auto throughput = Objective::throughput;
constexpr auto one_core = "core:1 pu:1";
constexpr auto four_cores = "core:4 pu:1";
constexpr auto two_sockets = "[numa] pack:2 [numa] core:16 pu:2";  // CPUs 0,1: one core
constexpr auto eight_nodes = "numa:8 core:4 pu:1";

Topology machine(std::string_view description) {
  auto topology = Topology::synthetic(description);
  EXPECT_TRUE(topology) << topology.error().message;
  return *topology;
}

Result<std::vector<CoreAssignment>> assign(const Topology& topology,
                                           const std::vector<CoreDemand>& operators,
                                           Objective objective) {
  return assign_cores(topology, topology.allowed(), operators, objective);
}

// "0-3 x4!" is four threads on CPUs 0 to 3, exclusively.
std::string text(const CoreAssignment& assignment) {
  return fmt::format("{} x{}{}", to_string(assignment.cpus), assignment.threads,
                     assignment.exclusive ? "!" : "");
}

std::vector<std::string> assigned(std::string_view description,
                                  const std::vector<CoreDemand>& operators, Objective objective) {
  const auto result = assign(machine(description), operators, objective);
  if (!result) return {result.error().message};
  std::vector<std::string> texts;
  for (const CoreAssignment& assignment : *result) texts.push_back(text(assignment));
  return texts;
}

CoreDemand op(std::string name, double cost, std::optional<CoreRequest> request = {}) {
  return {std::move(name), cost, 1, std::move(request)};
}

TEST(CoreRequestTest, NumbersAndListsAreToldApart) {
  EXPECT_EQ(parse_core_request("2"), CoreRequest(2));
  EXPECT_EQ(parse_core_request("0-1"), CoreRequest(CpuSet{0, 1}));
  EXPECT_EQ(parse_core_request("2-2"), CoreRequest(CpuSet{2}));
  for (const char* text : {"0-1", "0,2-3", "2-2", "7"})
    EXPECT_EQ(to_string(*parse_core_request(text)), text);
  for (const char* text : {"", "0", "-1", "many", "1.5", "99999999999"})
    EXPECT_FALSE(parse_core_request(text)) << text;
}

TEST(ObjectiveTest, NamesGoThereAndBack) {
  for (const Objective objective : {latency, throughput})
    EXPECT_EQ(objective_from_string(to_string(objective)), objective);
  EXPECT_EQ(objective_from_string("speed"), std::nullopt);
}

TEST(AssignCoresTest, OneCoreIsSharedByAll) {
  for (const Objective objective : {latency, throughput}) {
    EXPECT_THAT(assigned(one_core, {op("conv", 9)}, objective), ElementsAre("0 x1!"));
    EXPECT_THAT(assigned(one_core, {op("conv", 9), op("dense", 1)}, objective),
                ElementsAre("0 x1", "0 x1"));
    EXPECT_THAT(assigned(one_core, {op("conv", 9, 1), op("dense", 1)}, objective),
                ElementsAre("0 x1", "0 x1"));
  }
}

TEST(AssignCoresTest, LatencySharesEverything) {
  EXPECT_THAT(assigned(four_cores, {op("conv", 9), op("dense", 1)}, latency),
              ElementsAre("0-3 x4", "0-3 x4"));
  EXPECT_THAT(assigned(four_cores, {op("all", 9)}, latency), ElementsAre("0-3 x4!"));
}

TEST(AssignCoresTest, LatencyTakesOneThreadOfEachCore) {
  const auto result = assign(machine(two_sockets), {op("all", 1)}, latency);
  ASSERT_TRUE(result);
  EXPECT_EQ((*result)[0].threads, 32);
  EXPECT_EQ((*result)[0].cpus.size(), 32u);
  for (const int cpu : (*result)[0].cpus) EXPECT_EQ(cpu % 2, 0);
}

TEST(AssignCoresTest, ThroughputDividesByCost) {
  EXPECT_THAT(assigned(four_cores, {op("conv", 3), op("dense", 1)}, throughput),
              ElementsAre("0-2 x3!", "3 x1!"));
  EXPECT_THAT(
      assigned(four_cores, {op("tiny", 0), op("conv", 1e9), op("nan", 0.0 / 0.0)}, throughput),
      ElementsAre("2 x1!", "0-1 x2!", "3 x1!"));
}

TEST(AssignCoresTest, ThroughputKeepsWithinNumaNodes) {
  // 16 cores each: 10 + 6 fill one node, 12 + 4 the other.
  EXPECT_THAT(assigned(two_sockets, {op("a", 4), op("b", 12), op("c", 10), op("d", 6)}, throughput),
              ElementsAre("24,26,28,30 x4!", "0,2,4,6,8,10,12,14,16,18,20,22 x12!",
                          "32,34,36,38,40,42,44,46,48,50 x10!", "52,54,56,58,60,62 x6!"));
  // Larger than a node: whole nodes, and the rest within one more.
  EXPECT_THAT(assigned(eight_nodes, {op("a", 26), op("b", 3), op("c", 3)}, throughput),
              ElementsAre("0-25 x26!", "28-30 x3!", "26-27,31 x3!"));
}

TEST(AssignCoresTest, MoreOperatorsThanCoresShareAllOfThemWithAThreadEach) {
  EXPECT_THAT(assigned("core:2 pu:1", {op("a", 1), op("b", 5), op("c", 2), op("d", 2)}, throughput),
              ElementsAre("0-1 x1", "0-1 x1", "0-1 x1", "0-1 x1"));
  // Whoever shares a core may use both its threads.
  EXPECT_THAT(assigned("core:2 pu:2", {op("a", 1), op("b", 5), op("c", 2)}, throughput),
              ElementsAre("0-3 x1", "0-3 x1", "0-3 x1"));
  // Those that were asked for are not among them.
  EXPECT_THAT(
      assigned("core:3 pu:1", {op("a", 1, 1), op("b", 5), op("c", 2), op("d", 1)}, throughput),
      ElementsAre("0 x1!", "1-2 x1", "1-2 x1", "1-2 x1"));
}

TEST(AssignCoresTest, ListsAreTakenAsTheyAre) {
  EXPECT_THAT(assigned(four_cores, {op("conv", 1, CpuSet{1, 2}), op("a", 1), op("b", 1)}, latency),
              ElementsAre("1-2 x2!", "0,3 x2", "0,3 x2"));
  // Both threads of a core, one thread of another: two cores.
  EXPECT_THAT(assigned("core:4 pu:2", {op("conv", 1, CpuSet{0, 1, 3})}, latency),
              ElementsAre("0-1,3 x2!"));
  // The sibling of a listed thread is not given to anybody else.
  EXPECT_THAT(assigned("core:2 pu:2", {op("conv", 1, CpuSet{1}), op("a", 1)}, latency),
              ElementsAre("1 x1!", "2 x1!"));
  EXPECT_THAT(assigned(four_cores, {op("a", 1, CpuSet{0, 1}), op("b", 1, CpuSet{1, 2})}, latency),
              ElementsAre("0-1 x2", "1-2 x2"));
  // Lists that leave nothing: who asked for nothing shares everything.
  EXPECT_THAT(assigned("core:2 pu:1", {op("a", 1, CpuSet{0, 1}), op("b", 1)}, latency),
              ElementsAre("0-1 x2", "0-1 x2"));
}

TEST(AssignCoresTest, ListsThatCannotBeGivenSayWhy) {
  EXPECT_THAT(assigned(four_cores, {op("conv", 1, CpuSet{2, 3, 4, 5})}, latency),
              ElementsAre(AllOf(HasSubstr("operator conv"), HasSubstr("4-5 do not exist"),
                                HasSubstr("this machine has 0-3"))));
  const auto forbidden =
      assign_cores(machine(four_cores), {0, 1},
                   std::vector<CoreDemand>{op("conv", 1, CpuSet{1, 2, 3})}, latency);
  EXPECT_THAT(forbidden.error().message,
              AllOf(HasSubstr("2-3 are forbidden"), HasSubstr("allows 0-1")));
  EXPECT_THAT(assigned(four_cores, {op("conv", 1, CpuSet{})}, latency),
              ElementsAre(HasSubstr("empty")));
}

TEST(AssignCoresTest, NumbersAreExclusiveWherePossible) {
  EXPECT_THAT(assigned(four_cores, {op("a", 1, 1), op("b", 1), op("c", 1)}, latency),
              ElementsAre("0 x1!", "1-3 x3", "1-3 x3"));
  EXPECT_THAT(assigned(four_cores, {op("a", 1, 1), op("b", 1, 3)}, latency),
              ElementsAre("3 x1!", "0-2 x3!"));
  // All four would leave nothing for b, so that they are shared.
  EXPECT_THAT(assigned(four_cores, {op("a", 1, 4), op("b", 1)}, latency),
              ElementsAre("0-3 x4", "0-3 x4"));
  EXPECT_THAT(assigned(four_cores, {op("a", 1, 3), op("b", 1, 2)}, latency),
              ElementsAre("0-2 x3", "0,3 x2"));
  EXPECT_THAT(assigned(four_cores, {op("a", 1, 5)}, latency),
              ElementsAre(AllOf(HasSubstr("operator a: cores: 5"), HasSubstr("4 physical cores"))));
  EXPECT_THAT(assigned(four_cores, {op("a", 1, 0)}, latency), ElementsAre(HasSubstr("at least 1")));
}

TEST(AssignCoresTest, NumbersKeepWithinNumaNodes) {
  // 4 cores each. After a, node 0 is full; b and c fit into node 1 together.
  EXPECT_THAT(assigned(eight_nodes, {op("b", 1, 2), op("a", 1, 4), op("c", 1, 2)}, latency),
              ElementsAre("4-5 x2!", "0-3 x4!", "6-7 x2!"));
  EXPECT_THAT(assigned(eight_nodes, {op("list", 1, CpuSet{1}), op("a", 1, 3)}, latency),
              ElementsAre("1 x1!", "0,2-3 x3!"));
}

TEST(AssignCoresTest, OnlyAllowedCoresAreUsed) {
  const Topology topology = machine("core:4 pu:2");
  const std::vector<CoreDemand> operators{op("a", 1), op("b", 1)};
  const auto result = assign_cores(topology, {3, 4, 5, 99}, operators, throughput);
  ASSERT_TRUE(result);
  EXPECT_EQ(text((*result)[0]), "3 x1!");
  EXPECT_EQ(text((*result)[1]), "4 x1!");
  EXPECT_THAT(assign_cores(topology, {}, operators, latency).error().message,
              HasSubstr("none of this machine's cores"));
}

TEST(AssignCoresTest, InstancesShareWhatTheirOperatorHas) {
  std::vector<CoreDemand> operators{op("a", 1)};
  operators[0].instances = 2;
  EXPECT_THAT(assigned(four_cores, operators, throughput), ElementsAre("0-3 x2!"));
  EXPECT_THAT(assigned(four_cores, operators, latency), ElementsAre("0-3 x4"));
  EXPECT_THAT(assigned(one_core, operators, throughput), ElementsAre("0 x1"));
}

// Each machine, both objectives, with cores to oneself and shared.
TEST(AssignCoresTest, OneCoreHasNothingToGiveToOneselfButToTheOnlyOne) {
  for (const Objective objective : {latency, throughput}) {
    EXPECT_THAT(assigned(one_core, {op("a", 1, 1)}, objective), ElementsAre("0 x1!"));
    EXPECT_THAT(assigned(one_core, {op("a", 1, CpuSet{0})}, objective), ElementsAre("0 x1!"));
    EXPECT_THAT(assigned(one_core, {op("a", 1, 1), op("b", 1, 1)}, objective),
                ElementsAre("0 x1", "0 x1"));
    EXPECT_THAT(assigned(one_core, {op("a", 1, CpuSet{0}), op("b", 1)}, objective),
                ElementsAre("0 x1", "0 x1"));
  }
}

TEST(AssignCoresTest, TwoSocketsExclusiveAndShared) {
  const std::string node_0 = "0,2,4,6,8,10,12,14,16,18,20,22,24,26,28,30";
  const std::string node_1 = "32,34,36,38,40,42,44,46,48,50,52,54,56,58,60,62";
  // A socket to oneself; the others share the other one, or have half of it each.
  EXPECT_THAT(assigned(two_sockets, {op("a", 1, 16), op("b", 1), op("c", 1)}, latency),
              ElementsAre(node_0 + " x16!", node_1 + " x16", node_1 + " x16"));
  EXPECT_THAT(
      assigned(two_sockets, {op("a", 1, 16), op("b", 1), op("c", 1)}, throughput),
      ElementsAre(node_0 + " x16!", "32,34,36,38,40,42,44,46 x8!", "48,50,52,54,56,58,60,62 x8!"));
  // Both threads of a core by a list: nobody else gets a part of that core.
  EXPECT_THAT(assigned(two_sockets, {op("a", 1, CpuSet{0, 1}), op("b", 1, 31)}, latency),
              ElementsAre("0-1 x1!", testing::StartsWith("2,4,6,")));
  // More than there is is shared.
  EXPECT_THAT(assigned(two_sockets, {op("a", 1, 32), op("b", 1, 1)}, throughput),
              ElementsAre(testing::EndsWith(" x32"), "0 x1"));
  // More operators than cores.
  const auto mingled =
      assigned(two_sockets, std::vector<CoreDemand>(33, op("many", 1)), throughput);
  EXPECT_EQ(std::count(mingled.begin(), mingled.end(), "0-63 x1"), 33);
}

TEST(AssignCoresTest, EightNodesExclusiveAndShared) {
  // Latency: what nobody asks for is shared across nodes; a request stays within one.
  EXPECT_THAT(assigned(eight_nodes, {op("a", 1, 4), op("b", 1), op("c", 1)}, latency),
              ElementsAre("0-3 x4!", "4-31 x28", "4-31 x28"));
  EXPECT_THAT(assigned(eight_nodes, {op("a", 1), op("b", 1)}, latency),
              ElementsAre("0-31 x32", "0-31 x32"));
  // Throughput: a node each.
  EXPECT_THAT(assigned(eight_nodes, std::vector<CoreDemand>(8, op("even", 1)), throughput),
              ElementsAre("0-3 x4!", "4-7 x4!", "8-11 x4!", "12-15 x4!", "16-19 x4!", "20-23 x4!",
                          "24-27 x4!", "28-31 x4!"));
  EXPECT_THAT(assigned(eight_nodes, {op("a", 1, CpuSet{2, 3}), op("b", 3), op("c", 1)}, throughput),
              ElementsAre("2-3 x2!", "0-1,4-23 x22!", "24-31 x8!"));
  // Lists that overlap are shared.
  EXPECT_THAT(
      assigned(eight_nodes, {op("a", 1, CpuSet{0, 4}), op("b", 1, CpuSet{4, 8})}, throughput),
      ElementsAre("0,4 x2", "4,8 x2"));
}

TEST(AssignCoresTest, NoOperatorsNoAssignments) {
  EXPECT_TRUE(assigned(four_cores, {}, throughput).empty());
  EXPECT_TRUE(assigned(four_cores, {}, latency).empty());
}

// Whatever is asked, an answer keeps the promises of the header.
TEST(AssignCoresTest, RandomDemands) {
  std::mt19937 random(7);
  for (int round = 0; round < 3000; ++round) {
    const char* const machines[] = {one_core, four_cores, two_sockets, eight_nodes, "core:2 pu:2"};
    const Topology topology = machine(machines[random() % 5]);
    CpuSet allowed;
    for (const int cpu : topology.allowed())
      if (random() % 4 != 0) allowed.push_back(cpu);
    std::vector<CoreDemand> operators(random() % 12);
    for (CoreDemand& demand : operators) {
      demand.name = "op";
      demand.cost = static_cast<double>(random() % 1000);
      demand.instances = 1 + static_cast<int>(random() % 3);
      if (random() % 4 == 0) demand.request = 1 + static_cast<int>(random() % 6);
      if (random() % 6 == 0 && !allowed.empty())
        demand.request = CpuSet{allowed[random() % allowed.size()]};
    }
    const Objective objective = random() % 2 == 0 ? latency : throughput;
    const auto result = assign_cores(topology, allowed, operators, objective);
    if (!result) continue;
    ASSERT_EQ(result->size(), operators.size());
    std::vector<std::set<int>> cores(operators.size());
    for (std::size_t i = 0; i < operators.size(); ++i) {
      const CoreAssignment& mine = (*result)[i];
      ASSERT_FALSE(mine.cpus.empty());
      ASSERT_TRUE(std::is_sorted(mine.cpus.begin(), mine.cpus.end()));
      ASSERT_TRUE(
          std::includes(allowed.begin(), allowed.end(), mine.cpus.begin(), mine.cpus.end()));
      for (const Cpu& cpu : topology.cpus())
        if (std::binary_search(mine.cpus.begin(), mine.cpus.end(), cpu.id))
          cores[i].insert(cpu.core);
      ASSERT_GE(mine.threads, 1);
      ASSERT_LE(static_cast<std::size_t>(mine.threads), cores[i].size());
      const auto& request = operators[i].request;
      if (request && std::holds_alternative<int>(*request)) {
        ASSERT_EQ(cores[i].size(), static_cast<std::size_t>(std::get<int>(*request)));
      }
    }
    for (std::size_t i = 0; i < operators.size(); ++i)
      for (std::size_t j = 0; j < operators.size(); ++j) {
        if (i == j || !(*result)[i].exclusive) continue;
        for (const int core : cores[i]) ASSERT_FALSE(cores[j].contains(core));
      }
  }
}

}  // namespace
}  // namespace opsplit::daemon
