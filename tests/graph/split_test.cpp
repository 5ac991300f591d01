#include "graph/split.hpp"

#include <gmock/gmock.h>

#include "tests/graph/model_builder.hpp"

namespace opsplit::graph {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

std::vector<std::string> names(const std::vector<OperatorNodes>& operators) {
  std::vector<std::string> result;
  for (const OperatorNodes& op : operators) result.push_back(op.name);
  return result;
}

TEST(ParseSplit, ReadsWhatItWrites) {
  for (const char* text : {"fused", "by-type", "per-node", "stages:1", "stages:64"})
    EXPECT_EQ(to_string(value_of(parse_split(text))), text);
}

TEST(ParseSplit, SaysWhatThereIs) {
  for (const char* text : {"", "fuse", "stages", "stages:", "stages:0", "stages:-1", "stages:4x",
                           "stages:99999999999", "by hand"})
    EXPECT_THAT(error_of(parse_split(text)),
                HasSubstr("there are fused, by-type, per-node and stages:N"))
        << text;
}

TEST(Split, FusedIsOneTask) {
  const Graph graph =
      value_of(small_cnn().load());  // conv relu pool conv relu flatten gemm softmax
  const auto operators = value_of(split(graph, Fused{}));
  EXPECT_THAT(names(operators), ElementsAre("fused"));
  EXPECT_THAT(operators[0].tasks, ElementsAre(ElementsAre(0, 1, 2, 3, 4, 6, 7)));
}

TEST(Split, ByTypeHasAnOperatorPerTypeAndATaskPerNode) {
  const Graph graph = value_of(small_cnn().load());
  const auto operators = value_of(split(graph, ByType{}));
  EXPECT_THAT(names(operators), ElementsAre("conv", "relu", "maxpool", "gemm", "softmax"));
  EXPECT_THAT(operators[0].tasks, ElementsAre(ElementsAre(0), ElementsAre(3)));
}

TEST(Split, PerNodeMakesNamesThatAreUniqueAndHarmless) {
  ModelBuilder model;
  model.input("x", {1}).output("d");
  model.node("Relu", {"x"}, {"a"}, {}, "Block/Relu:1")
      .node("Relu", {"a"}, {"b"}, {}, "block/relu:1");
  model.node("Tanh", {"b"}, {"c"}, {}, std::string(80, 'n'))
      .node("Tanh", {"c"}, {"d"}, {}, std::string(81, 'n'));
  const auto operators = value_of(split(value_of(model.load()), PerNode{}));
  EXPECT_THAT(names(operators), ElementsAre("block_relu_1", "block_relu_1_2", std::string(64, 'n'),
                                            std::string(62, 'n') + "_2"));
  EXPECT_THAT(operators[3].tasks, ElementsAre(ElementsAre(3)));
}

TEST(Split, RefusesAGraphWithNothingToRun) {
  ModelBuilder model;
  model.input("x", {2, 3}).output("y").node("Flatten", {"x"}, {"y"});
  EXPECT_THAT(error_of(split(value_of(model.infer()), Fused{})), HasSubstr("nothing to run"));
}

TEST(Cost, CountsOperationsAndTheBytesOfWeightsOrAllBytes) {
  ModelBuilder model;
  model.input("x", {1, 64, 32, 32}).output("y").floats("w", {128, 32, 5, 5}, 1);
  model.node("Conv", {"x", "w"}, {"c"}, {{"group", std::int64_t{2}}}).node("Relu", {"c"}, {"y"});
  const Graph graph = value_of(model.load());
  EXPECT_EQ(cost(graph, graph.nodes[0]), 2.0 * 128 * 28 * 28 * 32 * 25 + 10.0 * 4 * 128 * 32 * 25);
  EXPECT_EQ(cost(graph, graph.nodes[1]), 10.0 * 2 * 128 * 28 * 28 * 4);
}

TEST(Cost, WinogradHalvesConvolutionsThatItIsFor) {
  const auto cost_of_3x3 = [](std::int64_t stride) {
    ModelBuilder model;
    model.input("x", {1, 32, 33, 33}).output("y").floats("w", {64, 32, 3, 3}, 1);
    model.node("Conv", {"x", "w"}, {"y"}, {{"strides", Ints{stride, stride}}});
    const Graph graph = value_of(model.load());
    return cost(graph, graph.nodes[0]);
  };
  constexpr double weights = 10.0 * 4 * 64 * 32 * 9;
  EXPECT_EQ(cost_of_3x3(1), 1.0 * 64 * 31 * 31 * 32 * 9 + weights);
  EXPECT_EQ(cost_of_3x3(2), 2.0 * 64 * 16 * 16 * 32 * 9 + weights);
}

TEST(Cost, AMatrixByAVectorIsBoundByMemory) {
  const auto cost_of_rows = [](std::int64_t rows) {
    ModelBuilder model;
    model.input("x", {rows, 1000})
        .output("y")
        .floats("w", {1000, 500}, 1)
        .node("MatMul", {"x", "w"}, {"y"});
    const Graph graph = value_of(model.load());
    return cost(graph, graph.nodes[0]);
  };
  constexpr double weights = 10.0 * 4 * 1000 * 500;
  EXPECT_EQ(cost_of_rows(1), 2.0 * 1000 * 500 + weights);
  EXPECT_EQ(cost_of_rows(512), 2.0 * 512 * 1000 * 500 + weights);
}

}  // namespace
}  // namespace opsplit::graph
