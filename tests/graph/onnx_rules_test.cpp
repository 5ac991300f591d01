#include <gmock/gmock.h>
#include <onnx/onnx_pb.h>

#include "graph/model.hpp"
#include "graph/planner.hpp"
#include "tests/graph/model_builder.hpp"

namespace opsplit::graph {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// The larger of each pair, and where it was: opsplit does not say where.
ModelBuilder larger_ones() {
  ModelBuilder model;
  model.input("x", {1, 1, 2, 6}).output("y").output("where");
  const Ints pair{1, 2};
  model.node("MaxPool", {"x"}, {"y", "where"}, {{"kernel_shape", pair}, {"strides", pair}}, "top");
  return model;
}

TEST(ForeignNode, HasTypesByOnnxsOwnRules) {
  const Graph graph = value_of(larger_ones().load());
  EXPECT_EQ(type_of(graph, "y"), (TensorType{float32, {1, 1, 2, 3}}));
  EXPECT_EQ(type_of(graph, "where"), (TensorType{int64, {1, 1, 2, 3}}));
  EXPECT_TRUE(is_foreign(graph.nodes[0]));
}

TEST(ForeignNode, WhatOnnxFindsWrongIsSaid) {
  ModelBuilder model;
  model.input("x", {2, 5}).output("y").node("Det", {"x"}, {"y"}, {}, "area");
  const std::string error = error_of(model.load());
  EXPECT_THAT(error, HasSubstr("node 'area' (Det): ONNX finds: "));
  EXPECT_EQ(error.find('\n'), error.npos);
}

// Each would end this process, or read beyond what it has: libonnx does not look.
TEST(ForeignNode, WhatOnnxDoesNotCheckIsChecked) {
  ModelBuilder pool = larger_ones();
  pool.last_node().mutable_attribute(1)->set_ints(0, 0);
  EXPECT_THAT(error_of(pool.load()), HasSubstr("node 'top' (MaxPool): strides must be 1"));

  for (const Ints& weights : {Ints{1, 1, 3, 3, 3}, Ints{1, 1}}) {
    ModelBuilder convolution;
    convolution.input("x", {1, 1, 5, 5}, uint8).input("w", {weights.begin(), weights.end()}, uint8);
    convolution.output("y").node("ConvInteger", {"x", "w"}, {"y"}, {}, "c");
    EXPECT_THAT(error_of(convolution.load()), HasSubstr("node 'c' (ConvInteger): weights 1x1"));
  }
}

ModelBuilder of_another_domain() {
  ModelBuilder model;
  model.other_domain("com.example", 2).input("x", {"n", 5}).output("y");
  model.node("Relu", {"x"}, {"a"}).node("Frobnicate", {"a"}, {"b"}, {{"alpha", 2.0F}}, "odd");
  model.last_node().set_domain("com.example");
  model.node("Relu", {"b"}, {"y"});
  return model;
}

TEST(ForeignNode, HasTheDeclaredTypesWhereOnnxHasNoRule) {
  EXPECT_THAT(error_of(of_another_domain().load({{"x", {4, 5}}})),
              HasSubstr("node 'odd' (com.example.Frobnicate): "));
  const Graph graph =
      value_of(of_another_domain().declared("b", {"n", 7}, float32).load({{"x", {4, 5}}}));
  EXPECT_EQ(type_of(graph, "b"), (TensorType{float32, {4, 7}}));
  EXPECT_EQ(type_of(graph, "y"), (TensorType{float32, {4, 7}}));
}

TEST(ForeignNode, ASymbolThatNoInputHasIsNoShape) {
  EXPECT_THAT(error_of(of_another_domain().declared("b", {"m", 7}).load({{"x", {4, 5}}})),
              HasSubstr("node 'odd' (com.example.Frobnicate): "));
}

// opsplit has nearest and linear; ONNX has cubic, too.
TEST(ForeignNode, MayBeOneThatOpsplitOnlyKnowsInOtherWays) {
  ModelBuilder model;
  model.input("x", {1, 1, 4, 4}).floats("scales", {4}, {1, 1, 2, 2}).output("y");
  model.node("Resize", {"x", "", "scales"}, {"y"}, {{"mode", std::string("cubic")}}, "big");
  const Graph graph = value_of(model.load());
  EXPECT_EQ(graph.nodes[0].op_type, "ai.onnx.Resize");
  EXPECT_EQ(named_op_type(graph.nodes[0]), "Resize");
  EXPECT_EQ(type_of(graph, "y"), (TensorType{float32, {1, 1, 8, 8}}));
}

// opsplit has a kernel for float32 only.
TEST(ForeignNode, HasExplicitPaddingWhereOpsplitKnowsItsWindow) {
  ModelBuilder model;
  model.input("x", {1, 1, 5, 5}, float16).input("w", {1, 1, 2, 2}, float16).output("y");
  model.node("Conv", {"x", "w"}, {"y"},
             {{"auto_pad", std::string("SAME_UPPER")}, {"strides", Ints{2, 1}}});
  const Graph graph = value_of(model.load());
  EXPECT_EQ(graph.nodes[0].op_type, "ai.onnx.Conv");
  EXPECT_FALSE(graph.nodes[0].has("auto_pad"));
  EXPECT_THAT(graph.nodes[0].integers("pads"), ElementsAre(0, 0, 1, 1));
  EXPECT_EQ(type_of(graph, "y"), (TensorType{float16, {1, 1, 3, 5}}));
}

// A wrong model stays opsplit's to refuse.
TEST(ForeignNode, IsNotOneThatIsWrong) {
  ModelBuilder model;
  model.input("x", {1, 3, 4, 4}).floats("w", {2, 5, 1, 1}, 1).output("y");
  model.node("Conv", {"x", "w"}, {"y"}, {}, "c");
  EXPECT_THAT(error_of(model.load()), testing::Not(HasSubstr("ONNX finds")));
}

TEST(ForeignNode, IsTheSameInAPartAndInAStoredGraph) {
  const Graph graph =
      value_of(of_another_domain().declared("b", {"n", 7}, float32).load({{"x", {4, 5}}}));
  const TempFolder folder;
  const Plan plan = value_of(make_plan(graph, Fused{}, {}));
  ASSERT_TRUE(write_parts(graph, plan, folder.path()));
  Graph part = value_of(import_part(folder.path() / "fused.onnx", folder.path()));
  ASSERT_TRUE(infer_shapes(part, {}));
  EXPECT_EQ(part.nodes[1].op_type, "com.example.Frobnicate");
  EXPECT_EQ(type_of(part, "b"), (TensorType{float32, {4, 7}}));
  EXPECT_EQ(part.other_opsets.at("com.example"), 2);
}

TEST(ForeignNode, ByTypeItHasAnOperatorOfItsOwn) {
  const Graph graph =
      value_of(of_another_domain().declared("b", {"n", 7}, float32).load({{"x", {4, 5}}}));
  const Plan plan = value_of(make_plan(graph, ByType{}, {}));
  std::vector<std::string> names;
  for (const PlannedOperator& op : plan.operators) names.push_back(op.name);
  EXPECT_THAT(names, ElementsAre("relu", "frobnicate"));
}

TEST(ForeignNode, ItsTensorsAreRowMajor) {
  ModelBuilder model;
  model.input("x", {1, 16, 4, 4}).floats("w", {16, 16, 1, 1}, 1).output("y");
  model.floats("scales", {4}, {1, 1, 2, 2}).node("Conv", {"x", "w"}, {"a"});
  model.node("Resize", {"a", "", "scales"}, {"b"}, {{"mode", std::string("cubic")}});
  model.node("Conv", {"b", "w"}, {"y"});
  const Graph graph = value_of(model.load());
  const Plan plan = value_of(make_plan(graph, ByType{}, {.blocked = Layout::nChw16c}));
  for (const PlannedTensor& tensor : plan.tensors)
    EXPECT_EQ(tensor.layout, Layout::row_major) << tensor.name;
}

}  // namespace
}  // namespace opsplit::graph
