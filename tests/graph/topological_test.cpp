#include "graph/topological.hpp"

#include <gmock/gmock.h>

#include <set>

namespace opsplit::graph {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

TEST(TopologicalOrder, TakesTheSmallestWhereThereIsAChoice) {
  EXPECT_THAT(topological_order({}).vertices, IsEmpty());
  EXPECT_THAT(topological_order({{}, {}, {}}).vertices, ElementsAre(0, 1, 2));
  EXPECT_THAT(topological_order({{}, {0, 0}, {1}, {}}).vertices, ElementsAre(2, 1, 0, 3));
}

TEST(TopologicalOrder, FindsACycle) {
  EXPECT_THAT(topological_order({{0}}).cycle, ElementsAre(0));
  // 0 -> 1 -> 2 -> 1, and 2 -> 3: only 1 and 2 go round.
  const Order order = topological_order({{1}, {2}, {1, 3}, {}});
  EXPECT_THAT(order.cycle, UnorderedElementsAre(1, 2));
  EXPECT_THAT(order.vertices, ElementsAre(0));
}

TEST(StrongComponents, AreThoseThatGoRoundTogether) {
  EXPECT_THAT(strong_components({}), IsEmpty());
  // 0 -> 1 -> 2 -> 1, 2 -> 3 -> 4 -> 3, and 5 alone.
  const auto found = strong_components({{1}, {2}, {1, 3, 3}, {4}, {3}, {}});
  EXPECT_EQ(found[1], found[2]);
  EXPECT_EQ(found[3], found[4]);
  EXPECT_EQ((std::set<std::int32_t>{found[0], found[1], found[3], found[5]}).size(), 4U);
}

}  // namespace
}  // namespace opsplit::graph
