#include "graph/ops/window.hpp"

#include <gmock/gmock.h>

#include "tests/graph/model_builder.hpp"

namespace opsplit::graph {
namespace {

using testing::HasSubstr;

struct WindowCase {
  std::string what;
  Ints in;
  Attributes attributes;
  Shape out;
};

void PrintTo(const WindowCase& c, std::ostream* out) { *out << c.what; }

class PoolShape : public testing::TestWithParam<WindowCase> {};

// Expected shapes: ONNX Runtime's.
TEST_P(PoolShape, IsOnnxRuntimes) {
  const auto& [what, in, attributes, out] = GetParam();
  ModelBuilder model(19);
  model.input("x", {in.begin(), in.end()})
      .output("y")
      .node("AveragePool", {"x"}, {"y"}, attributes);
  const Graph graph = value_of(model.infer());
  EXPECT_EQ(type_of(graph, "y").shape, out) << what;
  EXPECT_FALSE(graph.nodes[0].has("auto_pad"));
}

const auto one = std::int64_t{1};
INSTANTIATE_TEST_SUITE_P(
    Pools, PoolShape,
    testing::Values(
        WindowCase{"plain", {1, 2, 7, 5}, {{"kernel_shape", Ints{3, 2}}}, {1, 2, 5, 4}},
        WindowCase{"strides",
                   {1, 2, 7, 6},
                   {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 3}}},
                   {1, 2, 3, 2}},
        WindowCase{"pads",
                   {1, 2, 7, 7},
                   {{"kernel_shape", Ints{3, 3}}, {"pads", Ints{1, 0, 2, 1}}},
                   {1, 2, 8, 6}},
        WindowCase{"dilation",
                   {1, 1, 9, 9},
                   {{"kernel_shape", Ints{3, 3}}, {"dilations", Ints{2, 4}}},
                   {1, 1, 5, 1}},
        WindowCase{"ceil",
                   {1, 1, 6, 7},
                   {{"kernel_shape", Ints{3, 3}}, {"strides", Ints{2, 2}}, {"ceil_mode", one}},
                   {1, 1, 3, 3}},
        WindowCase{"ceil, a window larger than the input",
                   {1, 1, 5, 5},
                   {{"kernel_shape", Ints{7, 5}}, {"strides", Ints{3, 3}}, {"ceil_mode", one}},
                   {1, 1, 1, 1}},
        WindowCase{"ceil, no window in the padding",
                   {1, 1, 2, 2},
                   {{"kernel_shape", Ints{1, 1}}, {"strides", Ints{2, 2}}, {"ceil_mode", one}},
                   {1, 1, 1, 1}},
        WindowCase{
            "same upper",
            {1, 1, 5, 6},
            {{"kernel_shape", Ints{3, 3}}, {"strides", Ints{2, 2}}, {"auto_pad", "SAME_UPPER"}},
            {1, 1, 3, 3}},
        WindowCase{
            "same lower",
            {1, 1, 4, 4},
            {{"kernel_shape", Ints{1, 3}}, {"strides", Ints{2, 3}}, {"auto_pad", "SAME_LOWER"}},
            {1, 1, 2, 2}},
        WindowCase{"valid",
                   {1, 1, 5, 5},
                   {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}, {"auto_pad", "VALID"}},
                   {1, 1, 2, 2}},
        WindowCase{"one dimension", {2, 3, 10}, {{"kernel_shape", Ints{4}}}, {2, 3, 7}},
        WindowCase{"three dimensions",
                   {1, 1, 4, 5, 6},
                   {{"kernel_shape", Ints{2, 2, 2}}},
                   {1, 1, 3, 4, 5}}));

TEST(Window, MakesPaddingExplicit) {
  ModelBuilder model;
  model.input("x", {1, 1, 6, 6}).output("y").floats("w", {1, 1, 3, 4}, 1);
  model.node("Conv", {"x", "w"}, {"y"}, {{"auto_pad", "SAME_UPPER"}, {"strides", Ints{2, 1}}});
  EXPECT_EQ(value_of(model.infer()).nodes[0].integers("pads"), (Ints{0, 1, 1, 2}));
  model = ModelBuilder();
  model.input("x", {1, 1, 6, 6}).output("y").floats("w", {1, 1, 3, 4}, 1);
  model.node("Conv", {"x", "w"}, {"y"}, {{"auto_pad", "SAME_LOWER"}, {"strides", Ints{2, 1}}});
  EXPECT_EQ(value_of(model.infer()).nodes[0].integers("pads"), (Ints{1, 2, 0, 1}));
}

Result<Graph> conv(const Ints& in, const Ints& weights, const Attributes& attributes,
                   const Ints& bias = {}, const std::string& op = "Conv") {
  ModelBuilder model;
  model.input("x", {in.begin(), in.end()}).output("y").floats("w", weights, 1);
  std::vector<std::string> inputs{"x", "w"};
  if (!bias.empty()) {
    model.floats("b", bias, 1);
    inputs.emplace_back("b");
  }
  model.node(op, inputs, {"y"}, attributes, "c");
  return model.infer();
}

TEST(Conv, ShapesOfGroupsAndTranspose) {
  EXPECT_EQ(
      type_of(value_of(conv({1, 6, 5, 5}, {4, 3, 3, 3}, {{"group", std::int64_t{2}}}, {4})), "y")
          .shape,
      (Shape{1, 4, 3, 3}));
  EXPECT_EQ(
      type_of(value_of(conv({2, 8, 5, 5}, {8, 1, 1, 1}, {{"group", std::int64_t{8}}})), "y").shape,
      (Shape{2, 8, 5, 5}));
  EXPECT_EQ(
      type_of(
          value_of(conv(
              {1, 4, 5, 5}, {4, 3, 2, 2},
              {{"group", std::int64_t{2}}, {"strides", Ints{2, 2}}, {"output_padding", Ints{1, 0}}},
              {6}, "ConvTranspose")),
          "y")
          .shape,
      (Shape{1, 6, 11, 10}));
}

TEST(Conv, TransposedPaddingFollowsFromTheOutput) {
  const auto padded = [](const Attributes& attributes) {
    const Graph graph = value_of(conv({1, 4, 5, 5}, {4, 3, 3, 3}, attributes, {}, "ConvTranspose"));
    const Node& node = graph.nodes[0];
    EXPECT_FALSE(node.has("auto_pad") || node.has("output_shape"));
    return std::tuple(type_of(graph, "y").shape, node.integers("pads"),
                      node.integers("output_padding"));
  };
  const Attribute strides = Ints{2, 2};
  EXPECT_EQ(padded({{"strides", strides}, {"auto_pad", std::string("SAME_UPPER")}}),
            std::tuple(Shape{1, 3, 10, 10}, Ints{0, 0, 1, 1}, Ints{0, 0}));
  EXPECT_EQ(padded({{"strides", strides}, {"auto_pad", std::string("SAME_LOWER")}}),
            std::tuple(Shape{1, 3, 10, 10}, Ints{1, 1, 0, 0}, Ints{0, 0}));
  EXPECT_EQ(padded({{"strides", strides}, {"output_shape", Ints{8, 12}}}),
            std::tuple(Shape{1, 3, 8, 12}, Ints{2, 0, 1, 0}, Ints{0, 1}));
}

TEST(Conv, RefusesAttributesThatDoNotFit) {
  const auto error = [](const Ints& in, const Ints& weights, const Attributes& attributes,
                        const Ints& bias = {}) {
    const std::string message = error_of(conv(in, weights, attributes, bias));
    EXPECT_THAT(message, HasSubstr("node 'c' (Conv): "));
    return message;
  };
  const Ints in{1, 4, 5, 5};
  const Ints weights{2, 4, 3, 3};
  EXPECT_THAT(error(in, weights, {{"strides", Ints{0, 1}}}),
              HasSubstr("strides holds 0, must be from 1"));
  EXPECT_THAT(error(in, weights, {{"strides", Ints{1}}}),
              HasSubstr("strides has 1 numbers, input 1x4x5x5 needs 2"));
  EXPECT_THAT(error(in, weights, {{"dilations", Ints{1, -1}}}), HasSubstr("dilations holds -1"));
  EXPECT_THAT(error(in, weights, {{"pads", Ints{-1, 0, 0, 0}}}), HasSubstr("pads holds -1"));
  EXPECT_THAT(error(in, weights, {{"pads", Ints{INT64_MAX, 0, 0, 0}}}),
              HasSubstr("pads holds 9223372036854775807"));
  EXPECT_THAT(error(in, weights, {{"kernel_shape", Ints{3, 4}}}),
              HasSubstr("kernel_shape does not match"));
  EXPECT_THAT(error(in, weights, {{"group", std::int64_t{3}}}),
              HasSubstr("group 3 does not divide 4 channels"));
  EXPECT_THAT(error(in, weights, {{"group", std::int64_t{0}}}), HasSubstr("group 0"));
  EXPECT_THAT(error(in, weights, {{"group", std::int64_t{4}}}),
              HasSubstr("group 4 does not divide 2"));
  EXPECT_THAT(error(in, {2, 3, 3, 3}, {}), HasSubstr("for 3 input channels, there are 4"));
  EXPECT_THAT(error(in, {2, 4, 3}, {}), HasSubstr("needs rank 4"));
  EXPECT_THAT(error(in, {2, 4, 6, 3}, {}), HasSubstr("does not fit into 5 + 0 + 0"));
  EXPECT_THAT(error(in, weights, {{"dilations", Ints{3, 1}}}),
              HasSubstr("(dilation 3) does not fit"));
  EXPECT_THAT(error(in, weights, {}, {3}),
              HasSubstr("bias is 3, must have one number for each of 2"));
  EXPECT_THAT(error(in, weights, {{"auto_pad", "MAYBE"}}), HasSubstr("auto_pad must be"));
  EXPECT_THAT(error({5, 5}, weights, {}), HasSubstr("must have a batch, channels"));
}

TEST(Pool, RefusesWindowsOfPaddingOnly) {
  ModelBuilder model;
  model.input("x", {1, 1, 5, 5}).output("y");
  model.node("MaxPool", {"x"}, {"y"}, {{"kernel_shape", Ints{2, 2}}, {"pads", Ints{2, 0, 0, 0}}});
  EXPECT_THAT(error_of(model.infer()), HasSubstr("windows would hold nothing but padding"));
  ModelBuilder none;
  none.input("x", {1, 1, 5, 5}).output("y").node("MaxPool", {"x"}, {"y"});
  EXPECT_THAT(error_of(none.infer()), HasSubstr("has no kernel_shape"));
}

}  // namespace
}  // namespace opsplit::graph
