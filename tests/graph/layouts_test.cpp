#include "graph/layouts.hpp"

#include <gmock/gmock.h>

#include "tests/graph/model_builder.hpp"

namespace opsplit::graph {
namespace {

using testing::IsEmpty;
using testing::UnorderedElementsAre;

// But for those that the nodes of one type take.
std::vector<std::string> blocked(const ModelBuilder& model, Layout layout = Layout::nChw16c,
                                 std::string_view only_row_major = "") {
  const Graph graph = value_of(model.load());
  std::vector<bool> others;
  for (const Node& node : graph.nodes) others.push_back(node.op_type == only_row_major);
  const auto layouts = choose_layouts(graph, layout, others);
  std::vector<std::string> names;
  for (std::size_t id = 0; id < layouts.size(); ++id)
    if (layouts[id] != Layout::row_major) names.push_back(graph.values[id].name);
  return names;
}

TEST(Layouts, ImagesBetweenNodesThatTakeThemAreBlocked) {
  // r2 has a view, f is one, the rest are not images or belong to the client.
  EXPECT_THAT(blocked(small_cnn()), UnorderedElementsAre("c1", "r1", "p1", "n2"));
  EXPECT_THAT(blocked(small_cnn(), Layout::row_major), IsEmpty());
}

TEST(Layouts, NodesThatTakeNothingElseHaveRowMajorNeighbours) {
  ModelBuilder model;
  model.input("x", {1, 16, 4, 4}).output("y");
  model.node("Relu", {"x"}, {"a"}).node("Relu", {"a"}, {"b"}).node("Tanh", {"b"}, {"c"});
  model.node("Relu", {"c"}, {"d"}).node("Relu", {"d"}, {"y"});
  EXPECT_THAT(blocked(model), UnorderedElementsAre("a", "b", "c", "d"));
  EXPECT_THAT(blocked(model, Layout::nChw16c, "Tanh"), UnorderedElementsAre("a", "d"));
}

TEST(Layouts, ElementwiseOnlyWithoutBroadcasting) {
  ModelBuilder model;
  model.input("x", {1, 16, 4, 4}).input("v", {16, 1, 1}).output("y");
  model.node("Relu", {"x"}, {"a"}).node("Tanh", {"x"}, {"b"}).node("Add", {"a", "b"}, {"c"});
  model.node("Relu", {"c"}, {"d"}).node("Mul", {"d", "v"}, {"e"}).node("Relu", {"e"}, {"y"});
  EXPECT_THAT(blocked(model), UnorderedElementsAre("a", "b", "c"));
}

TEST(Layouts, ConcatOnlyOfWholeBlocks) {
  const auto concat = [](std::int64_t second, Layout layout) {
    ModelBuilder model;
    model.input("x", {1, 16, 4, 4}).input("z", {1, second, 4, 4}).output("y");
    model.node("Relu", {"x"}, {"a"}).node("Relu", {"z"}, {"b"});
    model.node("Concat", {"a", "b"}, {"c"}, {{"axis", std::int64_t{1}}}).node("Relu", {"c"}, {"y"});
    return blocked(model, layout);
  };
  EXPECT_THAT(concat(32, Layout::nChw16c), UnorderedElementsAre("a", "b", "c"));
  EXPECT_THAT(concat(24, Layout::nChw16c), IsEmpty());
  EXPECT_THAT(concat(24, Layout::nChw8c), UnorderedElementsAre("a", "b", "c"));
}

}  // namespace
}  // namespace opsplit::graph
