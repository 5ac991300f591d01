#include "graph/simplify.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "tests/graph/model_builder.hpp"

namespace opsplit::graph {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr std::size_t channels = 3;

// Computes, in double, networks of 1x1 convolutions and per-channel operations on one pixel, whose
// channels are the only dimension that matters.
std::vector<double> evaluate(const Graph& graph, const Floats& pixel) {
  std::map<ValueId, std::vector<double>> values;
  values[graph.inputs[0]] = {pixel.begin(), pixel.end()};
  const auto get = [&](ValueId id) {
    if (!graph.is_constant(id)) return values.at(id);
    const auto constant = graph.value(id).constant->as<float>();
    std::vector<double> numbers(constant.begin(), constant.end());
    return numbers.size() == 1 ? std::vector<double>(channels, numbers[0]) : numbers;
  };
  for (const Node& node : graph.nodes) {
    std::vector<double> out = get(node.inputs[0]);
    const std::vector<double> x = out;
    const auto second = node.inputs.size() > 1 ? get(node.inputs[1]) : out;
    for (std::size_t c = 0; c < channels; ++c) {
      if (node.op_type == "Conv") {
        out[c] = node.inputs.size() > 2 ? get(node.inputs[2])[c] : 0;
        for (std::size_t i = 0; i < channels; ++i) out[c] += second[c * channels + i] * x[i];
      } else if (node.op_type == "ConvTranspose") {
        out[c] = node.inputs.size() > 2 ? get(node.inputs[2])[c] : 0;
        for (std::size_t i = 0; i < channels; ++i) out[c] += second[i * channels + c] * x[i];
      } else if (node.op_type == "HardSigmoid") {
        out[c] = std::clamp(node.real("alpha", 0) * x[c] + node.real("beta", 0), 0.0, 1.0);
      } else if (node.op_type == "Clip") {
        out[c] = std::clamp(x[c], second[c], get(node.inputs[2])[c]);
      } else if (node.op_type == "BatchNormalization") {
        const double deviation = std::sqrt(get(node.inputs[4])[c] + node.real("epsilon", 1e-5F));
        out[c] = second[c] * (x[c] - get(node.inputs[3])[c]) / deviation + get(node.inputs[2])[c];
      } else if (node.op_type == "Add") {
        out[c] = x[c] + second[c];
      } else if (node.op_type == "Sub") {
        out[c] = x[c] - second[c];
      } else if (node.op_type == "Mul") {
        out[c] = x[c] * second[c];
      } else if (node.op_type == "Div") {
        out[c] = x[c] / second[c];
      } else if (node.op_type == "Relu") {
        out[c] = std::max(x[c], 0.0);
      } else {
        throw std::runtime_error(node.op_type);
      }
    }
    values[node.outputs[0]] = out;
  }
  return values.at(graph.outputs[0]);
}

// A model on one pixel x with random constants: w (a 1x1 convolution), and per channel p, q, r, s
// (positive) of shape (C), and u of shape (C,1,1).
class Affine : public testing::Test {
 protected:
  Affine() {
    std::mt19937 random(7);
    std::uniform_real_distribution<float> uniform(0.5F, 2);
    const auto numbers = [&](std::size_t count) {
      Floats values(count);
      for (float& value : values) value = uniform(random);
      return values;
    };
    model_.input("x", {1, 3, 1, 1});
    model_.floats("w", {3, 3, 1, 1}, numbers(9)).floats("u", {3, 1, 1}, numbers(3));
    model_.floats("one", {}, {1.25F});
    for (const char* name : {"p", "q", "r", "s"}) model_.floats(name, {3}, numbers(3));
  }

  // The operations that are left; checks that they compute what all of them did.
  std::vector<std::string> simplified(const std::string& output) {
    model_.output(output);
    Graph graph = value_of(model_.infer());
    const Floats pixel{0.5F, -1, 2};
    const auto expected = evaluate(graph, pixel);
    EXPECT_TRUE(simplify(graph));
    EXPECT_EQ(graph.value(graph.outputs.back()).name, output);
    const auto found = evaluate(graph, pixel);
    for (std::size_t c = 0; c < channels; ++c)
      EXPECT_NEAR(found[c], expected[c], 1e-5 * (1 + std::abs(expected[c])));
    return op_types(graph);
  }

  ModelBuilder model_;
};

TEST_F(Affine, BatchNormalizationGoesIntoConv) {
  model_.node("Conv", {"x", "w"}, {"c"})
      .node("BatchNormalization", {"c", "p", "q", "r", "s"}, {"y"}, {{"epsilon", 0.1F}});
  EXPECT_THAT(simplified("y"), ElementsAre("Conv"));
}

TEST_F(Affine, ConvWithBias) {
  model_.node("Conv", {"x", "w", "p"}, {"c"})
      .node("BatchNormalization", {"c", "p", "q", "r", "s"}, {"y"});
  EXPECT_THAT(simplified("y"), ElementsAre("Conv"));
}

TEST_F(Affine, IntoTransposedConvolution) {
  model_.node("ConvTranspose", {"x", "w"}, {"c"})
      .node("Add", {"c", "u"}, {"a"})
      .node("BatchNormalization", {"a", "p", "q", "r", "s"}, {"y"});
  EXPECT_THAT(simplified("y"), ElementsAre("ConvTranspose"));
}

TEST_F(Affine, HardSwishSpelledOut) {
  model_.floats("zero", {}, {0}).floats("three", {}, {3}).floats("six", {}, {6});
  model_.node("Conv", {"x", "w"}, {"c"})
      .node("Add", {"c", "three"}, {"a"})
      .node("Clip", {"a", "zero", "six"}, {"b"})
      .node("Mul", {"c", "b"}, {"m"})
      .node("Div", {"m", "six"}, {"y"});
  EXPECT_THAT(simplified("y"), ElementsAre("Conv", "HardSigmoid", "Mul"));
}

TEST_F(Affine, HardSigmoidSpelledOut) {
  model_.floats("zero", {}, {0}).floats("two", {}, {2}).floats("part", {}, {0.25F});
  model_.floats("four", {}, {4}).node("Add", {"two", "x"}, {"a"});
  model_.node("Clip", {"a", "zero", "four"}, {"b"}).node("Mul", {"part", "b"}, {"y"});
  EXPECT_THAT(simplified("y"), ElementsAre("HardSigmoid"));
}

TEST_F(Affine, AClipThatIsNoHardSigmoidStays) {
  model_.floats("zero", {}, {0}).floats("three", {}, {3}).floats("six", {}, {6});
  model_.node("Add", {"x", "three"}, {"a"})
      .node("Clip", {"a", "zero", "six"}, {"b"})
      .node("Mul", {"x", "b"}, {"m"})
      .node("Div", {"m", "three"}, {"y"});
  EXPECT_THAT(simplified("y"), ElementsAre("Add", "Clip", "Mul", "Div"));
}

TEST_F(Affine, AClipByANumberWithoutAnInverseStays) {
  model_.floats("zero", {}, {0}).floats("three", {}, {3}).floats("tiny", {}, {1e-39F});
  model_.node("Add", {"x", "three"}, {"a"})
      .node("Clip", {"a", "zero", "tiny"}, {"b"})
      .node("Div", {"b", "tiny"}, {"y"});
  EXPECT_THAT(simplified("y"), ElementsAre("Add", "Clip", "Div"));
}

TEST(Simplify, ExcitationOfAnImageIsOnePass) {
  ModelBuilder model;
  model.input("x", {1, 16, 4, 4}).output("y");
  model.node("GlobalAveragePool", {"x"}, {"p"}).node("Sigmoid", {"p"}, {"s"});
  model.node("Mul", {"x", "s"}, {"m"}).node("Add", {"x", "m"}, {"y"});
  Graph graph = value_of(model.infer());
  EXPECT_TRUE(simplify(graph));
  EXPECT_THAT(op_types(graph), ElementsAre("GlobalAveragePool", "Sigmoid", "Add", "Mul"));
  EXPECT_EQ(graph.type(graph.nodes[2].outputs[0]).shape, (Shape{1, 16, 1, 1}));
}

TEST_F(Affine, AWholeChainGoesIntoConv) {
  model_.node("Conv", {"x", "w"}, {"c"})
      .node("BatchNormalization", {"c", "p", "q", "r", "s"}, {"n"});
  model_.node("Mul", {"n", "u"}, {"m"})
      .node("Sub", {"m", "one"}, {"d"})
      .node("Sub", {"u", "d"}, {"e"});
  model_.node("Div", {"e", "u"}, {"f"}).node("Add", {"u", "f"}, {"y"});
  EXPECT_THAT(simplified("y"), ElementsAre("Conv"));
}

TEST_F(Affine, MulAndAddGoIntoBatchNormalization) {  // densenet
  model_.ints("axes", {1, 2});
  model_.node("Unsqueeze", {"p", "axes"}, {"p3"}).node("Unsqueeze", {"q", "axes"}, {"q3"});
  model_.node("BatchNormalization", {"x", "p", "q", "r", "s"}, {"n"})
      .node("Mul", {"p3", "n"}, {"m"});
  model_.node("Add", {"m", "q3"}, {"a"}).node("Relu", {"a"}, {"f"}).node("Conv", {"f", "w"}, {"y"});
  EXPECT_THAT(simplified("y"), ElementsAre("BatchNormalization", "Relu", "Conv"));
}

TEST_F(Affine, StaysWhereSomeoneElseReads) {
  model_.node("Conv", {"x", "w"}, {"c"})
      .node("Mul", {"c", "u"}, {"m"})
      .node("Add", {"m", "c"}, {"y"});
  EXPECT_THAT(simplified("y"), ElementsAre("Conv", "Mul", "Add"));
}

TEST_F(Affine, StaysWhereTheModelGivesItOut) {
  model_.node("Conv", {"x", "w"}, {"c"}).node("Mul", {"c", "u"}, {"y"}).output("y");
  EXPECT_THAT(simplified("c"), ElementsAre("Conv", "Mul"));
}

TEST_F(Affine, ConstantDividedByConvStays) {
  model_.node("Conv", {"x", "w"}, {"c"}).node("Div", {"u", "c"}, {"y"});
  EXPECT_THAT(simplified("y"), ElementsAre("Conv", "Div"));
}

TEST_F(Affine, WeightsThatTwoConvolutionsShareAreNotTouched) {
  model_.node("Conv", {"x", "w"}, {"c"})
      .node("Mul", {"c", "u"}, {"m"})
      .node("Conv", {"m", "w"}, {"y"});
  EXPECT_THAT(simplified("y"), ElementsAre("Conv", "Conv"));
}

TEST(Simplify, OnlyWhatHasOneNumberPerChannelIsFolded) {
  ModelBuilder model;
  model.input("x", {1, 3, 1, 3}).output("y").floats("w", {3, 3, 1, 1}, 1).floats("columns", {3}, 2);
  model.node("Conv", {"x", "w"}, {"c"}).node("Mul", {"c", "columns"}, {"y"});
  EXPECT_THAT(op_types(value_of(model.load())), ElementsAre("Conv", "Mul"));
  ModelBuilder wider;  // the constant makes the output larger
  wider.input("x", {1, 3, 1, 1}).output("y").floats("w", {3, 3, 1, 1}, 1).floats("rows", {3, 2}, 2);
  wider.node("Conv", {"x", "w"}, {"c"}).node("Add", {"c", "rows"}, {"y"});
  EXPECT_THAT(op_types(value_of(wider.load())), ElementsAre("Conv", "Add"));
}

TEST(Simplify, ViewsOfViewsBecomeOne) {
  ModelBuilder model;
  model.input("x", {2, 3, 4}).output("y").ints("s", {6, 4}).ints("a", {0});
  model.node("Relu", {"x"}, {"r"})
      .node("Reshape", {"r", "s"}, {"v"})
      .node("Unsqueeze", {"v", "a"}, {"u"});
  model.node("Flatten", {"u"}, {"f"}, {}, "last").node("Tanh", {"f"}, {"y"});
  const Graph graph = value_of(model.load());
  ASSERT_THAT(op_types(graph), ElementsAre("Relu", "Reshape", "Tanh"));
  EXPECT_EQ(graph.nodes[1].name, "last");
  EXPECT_EQ(type_of(graph, "f").shape, (Shape{1, 24}));
  EXPECT_EQ(graph.value(graph.nodes[1].inputs[0]).name, "r");
}

TEST(Simplify, ThereAndBackIsNothing) {
  ModelBuilder model;
  model.input("x", {2, 3}).output("y").ints("s", {6}).ints("t", {2, 3});
  model.node("Relu", {"x"}, {"r"})
      .node("Reshape", {"r", "s"}, {"v"})
      .node("Reshape", {"v", "t"}, {"w"});
  model.node("Tanh", {"w"}, {"y"});
  EXPECT_THAT(op_types(value_of(model.load())), ElementsAre("Relu", "Tanh"));
}

TEST(Simplify, IdentityAndDropoutGo) {
  ModelBuilder model(11);
  model.input("x", {2}).output("y").node("Identity", {"x"}, {"a"}).node("Relu", {"a"}, {"b"});
  model.node("Dropout", {"b"}, {"c", "mask"}, {{"ratio", 0.5F}}).node("Sum", {"c"}, {"d"});
  model.node("Cast", {"d"}, {"e"}, {{"to", std::int64_t{1}}}).node("Tanh", {"e"}, {"y"});
  const Graph graph = value_of(model.load());
  EXPECT_THAT(op_types(graph), ElementsAre("Relu", "Tanh"));
  EXPECT_EQ(graph.values.size(), 3U);
}

TEST(Simplify, OutputsKeepTheirNames) {
  ModelBuilder model;
  model.input("x", {2}).output("y").output("z").output("same").node("Relu", {"x"}, {"r"});
  model.node("Identity", {"r"}, {"y"}).node("Tanh", {"r"}, {"z"}).node("Identity", {"y"}, {"same"});
  const Graph graph = value_of(model.load());
  // Relu now computes y; `same` stays a second name for it.
  EXPECT_THAT(op_types(graph), ElementsAre("Relu", "Tanh", "Reshape"));
  EXPECT_EQ(graph.value(graph.nodes[0].outputs[0]).name, "y");
  EXPECT_EQ(graph.value(graph.nodes[1].inputs[0]).name, "y");
  EXPECT_EQ(graph.value(graph.outputs[2]).name, "same");
}

TEST(Simplify, AnOutputThatIsAnInputStaysAView) {
  ModelBuilder model;
  model.input("x", {2})
      .output("y")
      .output("z")
      .node("Identity", {"x"}, {"y"})
      .node("Relu", {"x"}, {"z"});
  EXPECT_THAT(op_types(value_of(model.load())), ElementsAre("Identity", "Relu"));
}

TEST(Simplify, SumOfTwoIsAdd) {
  ModelBuilder model;
  model.input("x", {2})
      .output("y")
      .output("z")
      .node("Sum", {"x", "x"}, {"y"})
      .node("Sum", {"x", "x", "y"}, {"z"});
  EXPECT_THAT(op_types(value_of(model.load())), ElementsAre("Add", "Sum"));
}

TEST(Simplify, RemovesWhatNoOutputNeeds) {
  ModelBuilder model;
  model.input("x", {2}).output("y").floats("c", {2}, 1).node("Relu", {"x"}, {"y"});
  model.node("Add", {"x", "c"}, {"dead"}).node("Tanh", {"dead"}, {"deader"});
  const Graph graph = value_of(model.load());
  EXPECT_THAT(op_types(graph), ElementsAre("Relu"));
  EXPECT_EQ(graph.find("c"), no_value);
}

TEST(Simplify, WhereThereIsNothingToRunAnOutputIsCopied) {
  ModelBuilder model;
  model.input("x", {2, 3}).output("y").output("z");
  model.node("Flatten", {"x"}, {"y"}, {{"axis", std::int64_t{0}}}).node("Identity", {"x"}, {"z"});
  const Graph graph = value_of(model.load());
  EXPECT_THAT(op_types(graph), ElementsAre("Flatten", "Identity", "Expand"));
  EXPECT_EQ(graph.value(graph.nodes.back().outputs[0]).name, "y");
}

TEST(Simplify, ConstantOutputsAreCopied) {
  ModelBuilder model;
  model.input("x", {2, 3}).output("s").output("y");
  model.node("Shape", {"x"}, {"s"}).node("Relu", {"x"}, {"y"});
  const Graph graph = value_of(model.load());
  EXPECT_THAT(op_types(graph), ElementsAre("Relu", "Expand"));
  EXPECT_FALSE(graph.is_constant(graph.outputs[0]));
  EXPECT_EQ(graph.value(graph.outputs[0]).name, "s");
}

// The copy comes last, and convolutions want constant weights.
TEST(Simplify, WhoReadsAConstantOutputReadsTheConstant) {
  ModelBuilder model;
  model.input("x", {1, 3, 4, 4}).output("y").output("w").floats("w", {2, 3, 1, 1}, 1);
  model.node("Conv", {"x", "w"}, {"y"});
  const Graph graph = value_of(model.load());
  ASSERT_THAT(op_types(graph), ElementsAre("Conv", "Expand"));
  EXPECT_TRUE(graph.is_constant(graph.nodes[0].inputs[1]));
  EXPECT_EQ(graph.value(graph.nodes[1].outputs[0]).name, "w");
}

TEST(Simplify, WhoReadsACopiedViewReadsTheView) {
  ModelBuilder model(14);
  model.input("x", {0, 3}).output("y").output("z").ints("none", {3, 0}).ints("flat", {0});
  const Attributes zeros{{"allowzero", std::int64_t{1}}};
  model.node("Reshape", {"x", "none"}, {"y"}, zeros).node("Reshape", {"y", "flat"}, {"z"}, zeros);
  const Graph graph = value_of(model.load());
  ASSERT_THAT(op_types(graph), ElementsAre("Reshape", "Reshape", "Expand"));
  EXPECT_EQ(graph.nodes[1].inputs[0], graph.nodes[0].outputs[0]);
  EXPECT_EQ(graph.value(graph.nodes[2].outputs[0]).name, "y");
}

}  // namespace
}  // namespace opsplit::graph
