#include <gmock/gmock.h>

#include <algorithm>
#include <random>

#include "graph/split_steps.hpp"
#include "tests/graph/model_builder.hpp"

namespace opsplit::graph {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A chain of per-element nodes whose costs are those of x of these many elements: each node is a
// Concat with a constant or a Slice that changes the size.
Graph chain(const Ints& sizes) {
  Graph graph;
  const auto value = [&](const std::string& name, std::int64_t size) {
    Value v;
    v.name = name;
    v.dtype = float32;
    v.type = TensorType{float32, {size}};
    return graph.add_value(std::move(v));
  };
  ValueId previous = value("x", sizes[0]);
  graph.inputs = {previous};
  for (std::size_t i = 1; i < sizes.size(); ++i) {
    const ValueId next = value("v" + std::to_string(i), sizes[i]);
    graph.nodes.push_back({"n" + std::to_string(i), "Slice", {previous}, {next}, {}});
    previous = next;
  }
  graph.outputs = {previous};
  return graph;
}

double cost_of(const Graph& graph, const NodeIds& nodes) {
  double sum = 0;
  for (const auto id : nodes) sum += cost(graph, graph.nodes[static_cast<std::size_t>(id)]);
  return sum;
}

double largest(const Graph& graph, const std::vector<NodeIds>& stages) {
  double result = 0;
  for (const NodeIds& stage : stages) result = std::max(result, cost_of(graph, stage));
  return result;
}

// By trying every way to cut.
double best_maximum(const Graph& graph, std::size_t first, int stages) {
  const std::size_t count = graph.nodes.size();
  double best = 1e300;
  double piece = 0;
  for (std::size_t end = first + 1; end <= count; ++end) {
    piece += cost(graph, graph.nodes[end - 1]);
    if (stages == 1 ? end == count : end < count)
      best =
          std::min(best, std::max(piece, stages == 1 ? 0 : best_maximum(graph, end, stages - 1)));
  }
  return best;
}

TEST(Stages, AreContiguousCompleteAndBalanced) {
  std::mt19937 random(1);
  for (int round = 0; round < 50; ++round) {
    Ints sizes(2 + random() % 11);
    for (auto& size : sizes) size = 1 + static_cast<std::int64_t>(random() % 1000);
    const Graph graph = chain(sizes);
    for (int count = 1; count <= static_cast<int>(graph.nodes.size()); ++count) {
      const auto stages = value_of(cut_into_stages(graph, count));
      ASSERT_EQ(stages.size(), static_cast<std::size_t>(count));
      NodeIds all;
      for (const NodeIds& stage : stages) {
        EXPECT_FALSE(stage.empty());
        all.insert(all.end(), stage.begin(), stage.end());
      }
      EXPECT_EQ(all, run_nodes(graph));
      EXPECT_LE(largest(graph, stages), 1.0500001 * best_maximum(graph, 0, count));
    }
  }
}

TEST(Stages, AmongEqualCutsThatWithFewerBytesIsTaken) {
  // Both cuts around the narrow place in the middle are within 5 % of each other.
  const Graph graph = chain({10000, 10000, 10000, 1, 10000, 10000, 10000});
  EXPECT_THAT(value_of(cut_into_stages(graph, 2)),
              ElementsAre(ElementsAre(0, 1, 2), ElementsAre(3, 4, 5)));
}

TEST(Stages, MoreThanThereAreNodesIsAnError) {
  EXPECT_THAT(error_of(cut_into_stages(chain({1, 1, 1}), 3)),
              HasSubstr("stages:3: the model has 2 nodes to run, say stages:1 to stages:2"));
  EXPECT_FALSE(cut_into_stages(chain({1, 1}), 0));
}

}  // namespace
}  // namespace opsplit::graph
