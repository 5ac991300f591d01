#include "graph/topological.hpp"

#include <gmock/gmock.h>

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

}  // namespace
}  // namespace opsplit::graph
