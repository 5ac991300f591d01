#include "graph/ops/fold.hpp"

#include <gmock/gmock.h>

#include <cmath>

#include "graph/onnx_types.hpp"
#include "tests/graph/model_builder.hpp"

namespace opsplit::graph {
namespace {

using testing::ElementsAre;
using testing::FloatNear;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pointwise;

// Evaluates what the model computes from constants alone: its output "y", which is then a constant.
Constant evaluate(ModelBuilder& model) {
  model.input("unused", {1}).output("y");
  const Graph graph = value_of(model.infer());
  EXPECT_THAT(graph.nodes, IsEmpty());
  const auto& constant = graph.value(graph.find("y")).constant;
  if (!constant) throw std::runtime_error("y is not a constant");
  EXPECT_EQ(constant->type, type_of(graph, "y"));
  return *constant;
}

Floats floats(const Constant& constant) {
  return {constant.as<float>().begin(), constant.as<float>().end()};
}
Ints ints(const Constant& constant) {
  return {constant.as<std::int64_t>().begin(), constant.as<std::int64_t>().end()};
}

Floats counted(std::size_t count) {
  Floats values;
  for (std::size_t i = 0; i < count; ++i) values.push_back(static_cast<float>(i));
  return values;
}

TEST(Fold, ConstantOfEachKind) {
  const auto constant = [](const std::string& name, const Attribute& value) {
    ModelBuilder model;
    model.node("Constant", {}, {"y"}, {{name, value}});
    return evaluate(model);
  };
  EXPECT_THAT(floats(constant("value", float_constant({2}, {3, 4}))), ElementsAre(3, 4));
  EXPECT_THAT(floats(constant("value_float", 1.5F)), ElementsAre(1.5F));
  EXPECT_THAT(floats(constant("value_floats", Floats{1, 2})), ElementsAre(1, 2));
  EXPECT_THAT(ints(constant("value_int", std::int64_t{7})), ElementsAre(7));
  EXPECT_THAT(ints(constant("value_ints", Ints{7, 8})), ElementsAre(7, 8));
  EXPECT_EQ(constant("value_int", std::int64_t{7}).type.shape, Shape{});
}

TEST(Fold, ConstantOfShape) {
  ModelBuilder model;
  model.ints("s", {2, 3})
      .node("ConstantOfShape", {"s"}, {"y"}, {{"value", float_constant({1}, {0.5F})}});
  const Constant filled = evaluate(model);
  EXPECT_EQ(filled.type, (TensorType{float32, {2, 3}}));
  EXPECT_EQ(floats(filled), Floats(6, 0.5F));
  ModelBuilder zeros;
  zeros.ints("s", {2}).node("ConstantOfShape", {"s"}, {"y"});
  EXPECT_EQ(floats(evaluate(zeros)), Floats(2, 0));
  ModelBuilder large;
  large.input("x", {1})
      .output("y")
      .ints("s", {1 << 30, 1 << 30, 1 << 30})
      .node("ConstantOfShape", {"s"}, {"y"}, {}, "big");
  EXPECT_THAT(error_of(large.infer()),
              HasSubstr("node 'big' (ConstantOfShape): shape 1073741824x"));
}

TEST(Fold, ShapeOfAnInputIsKnown) {
  ModelBuilder model(15);
  model.input("x", {2, 3, 5}).output("y").ints("two", {2});
  model.node("Shape", {"x"}, {"s"}, {{"start", std::int64_t{-2}}});
  model.node("Mul", {"s", "two"}, {"y"});
  const Graph graph = value_of(model.infer());
  EXPECT_EQ(ints(*graph.value(graph.find("y")).constant), (Ints{6, 10}));
}

TEST(Fold, ShapeArithmeticMakesAReshape) {  // as PyTorch exports x.view(x.size(0), -1)
  ModelBuilder model;
  model.input("x", {"N", 3, 4}).output("y").ints("zero", {0}).ints("rest", {-1}).ints("axis", {0});
  model.node("Shape", {"x"}, {"s"}).node("Gather", {"s", "zero"}, {"n"});
  model.node("Concat", {"n", "rest"}, {"t"}, {{"axis", std::int64_t{0}}})
      .node("Reshape", {"x", "t"}, {"y"});
  const Graph graph = value_of(model.infer({{"x", {2, 3, 4}}}));
  EXPECT_THAT(op_types(graph), ElementsAre("Reshape"));
  EXPECT_EQ(type_of(graph, "y").shape, (Shape{2, 12}));
}

TEST(Fold, ViewsKeepTheBytes) {
  ModelBuilder model;
  model.floats("c", {2, 3}, counted(6)).ints("s", {3, 2}).ints("a", {0});
  model.node("Reshape", {"c", "s"}, {"r"})
      .node("Unsqueeze", {"r", "a"}, {"u"})
      .node("Squeeze", {"u"}, {"q"});
  model.node("Identity", {"q"}, {"i"}).node("Flatten", {"i"}, {"y"});
  EXPECT_EQ(floats(evaluate(model)), counted(6));
}

TEST(Fold, Transpose) {
  ModelBuilder model;
  model.floats("c", {2, 3, 4}, counted(24))
      .node("Transpose", {"c"}, {"y"}, {{"perm", Ints{2, 0, 1}}});
  const Constant result = evaluate(model);
  for (std::size_t i = 0; i < 4; ++i)
    for (std::size_t j = 0; j < 2; ++j)
      for (std::size_t k = 0; k < 3; ++k)
        EXPECT_EQ(result.as<float>()[i * 6 + j * 3 + k], static_cast<float>(j * 12 + k * 4 + i));
}

TEST(Fold, SliceForwardsAndBackwards) {
  const auto slice = [](const Ints& starts, const Ints& ends, const Ints& axes, const Ints& steps) {
    ModelBuilder model;
    model.floats("c", {3, 4}, counted(12))
        .ints("s", starts)
        .ints("e", ends)
        .ints("a", axes)
        .ints("t", steps);
    model.node("Slice", {"c", "s", "e", "a", "t"}, {"y"});
    return floats(evaluate(model));
  };
  EXPECT_THAT(slice({1}, {2}, {0}, {1}), ElementsAre(4, 5, 6, 7));
  EXPECT_THAT(slice({-1, 0}, {INT64_MIN, 4}, {0, 1}, {-2, 3}), ElementsAre(8, 11, 0, 3));
  EXPECT_THAT(slice({3}, {1}, {1}, {1}), IsEmpty());
}

TEST(Fold, ConcatSplitGather) {
  ModelBuilder concat;
  concat.floats("a", {2, 1}, {1, 2}).floats("b", {2, 2}, {3, 4, 5, 6});
  concat.node("Concat", {"a", "b"}, {"y"}, {{"axis", std::int64_t{1}}});
  EXPECT_THAT(floats(evaluate(concat)), ElementsAre(1, 3, 4, 2, 5, 6));

  ModelBuilder split;
  split.floats("c", {2, 3}, counted(6))
      .ints("s", {1, 2})
      .node("Split", {"c", "s"}, {"l", "y"}, {{"axis", std::int64_t{1}}});
  EXPECT_THAT(floats(evaluate(split)), ElementsAre(1, 2, 4, 5));

  ModelBuilder gather;
  gather.floats("c", {2, 3}, counted(6))
      .ints("i", {-1, 0})
      .node("Gather", {"c", "i"}, {"y"}, {{"axis", std::int64_t{1}}});
  EXPECT_THAT(floats(evaluate(gather)), ElementsAre(2, 0, 5, 3));

  ModelBuilder outside;
  outside.input("x", {1})
      .output("y")
      .floats("c", {2, 3}, counted(6))
      .ints("i", {2})
      .node("Gather", {"c", "i"}, {"y"}, {}, "g");
  EXPECT_THAT(error_of(outside.infer()),
              HasSubstr("node 'g' (Gather): index 2 is out of range for 2x3"));
}

TEST(Fold, ArithmeticBroadcasts) {
  const auto fold = [](const std::string& op) {
    ModelBuilder model;
    model.floats("a", {2, 1}, {8, -2}).floats("b", {2}, {2, 4}).node(op, {"a", "b"}, {"y"});
    return floats(evaluate(model));
  };
  EXPECT_THAT(fold("Add"), ElementsAre(10, 12, 0, 2));
  EXPECT_THAT(fold("Sub"), ElementsAre(6, 4, -4, -6));
  EXPECT_THAT(fold("Mul"), ElementsAre(16, 32, -4, -8));
  EXPECT_THAT(fold("Div"), ElementsAre(4, 2, -1, -0.5));
  EXPECT_THAT(fold("Pow"), ElementsAre(64, 4096, 4, 16));
  EXPECT_THAT(fold("Min"), ElementsAre(2, 4, -2, -2));
  EXPECT_THAT(fold("Max"), ElementsAre(8, 8, 2, 4));
  ModelBuilder sum;
  sum.floats("a", {2}, {1, 2})
      .floats("b", {}, {10})
      .floats("c", {2, 1}, {100, 200})
      .node("Sum", {"a", "b", "c"}, {"y"});
  EXPECT_THAT(floats(evaluate(sum)), ElementsAre(111, 112, 211, 212));
}

TEST(Fold, IntegersWrapAndDoNotDivideByZero) {
  const auto fold = [](const std::string& op, std::int64_t a, std::int64_t b) {
    ModelBuilder model;
    model.ints("a", {a}).ints("b", {b}).node(op, {"a", "b"}, {"y"});
    return ints(evaluate(model)).at(0);
  };
  EXPECT_EQ(fold("Add", INT64_MAX, 1), INT64_MIN);
  EXPECT_EQ(fold("Mul", INT64_MIN, -1), INT64_MIN);
  EXPECT_EQ(fold("Div", INT64_MIN, -1), INT64_MIN);
  EXPECT_EQ(fold("Div", 7, -2), -3);
  ModelBuilder zero;
  zero.input("x", {1}).output("y").ints("a", {1}).ints("b", {0}).node("Div", {"a", "b"}, {"y"});
  EXPECT_THAT(error_of(zero.infer()), HasSubstr("divides by zero"));
}

TEST(Fold, UnaryFunctions) {
  const Floats in{0.25F, 1, 4};
  const std::map<std::string, float (*)(float)> functions{
      {"Sqrt", [](float x) { return std::sqrt(x); }},
      {"Exp", [](float x) { return std::exp(x); }},
      {"Log", [](float x) { return std::log(x); }},
      {"Tanh", [](float x) { return std::tanh(x); }},
      {"Erf", [](float x) { return std::erf(x); }},
      {"Sigmoid", [](float x) { return 1 / (1 + std::exp(-x)); }},
      {"Neg", [](float x) { return -x; }},
      {"Abs", [](float x) { return x; }},
      {"Relu", [](float x) { return x; }}};
  for (const auto& [op, function] : functions) {
    ModelBuilder model;
    model.floats("c", {3}, in).node(op, {"c"}, {"y"});
    Floats expected;
    for (const float x : in) expected.push_back(function(x));
    EXPECT_THAT(floats(evaluate(model)), Pointwise(FloatNear(1e-6F), expected)) << op;
  }
}

TEST(Fold, CastSaturates) {
  const auto cast = [](const Floats& from, DType to) {
    ModelBuilder model;
    model.floats("c", {static_cast<std::int64_t>(from.size())}, from);
    model.node("Cast", {"c"}, {"y"}, {{"to", std::int64_t{dtype_to_onnx(to)}}});
    return evaluate(model);
  };
  EXPECT_THAT(ints(cast({1.9F, -1.9F, 1e30F, -1e30F, NAN}, int64)),
              ElementsAre(1, -1, INT64_MAX, INT64_MIN, 0));
  EXPECT_THAT(cast({300, -1, 255}, uint8).as<std::uint8_t>(), ElementsAre(255, 0, 255));
  EXPECT_THAT(cast({0, -1, 0.5F}, bool8).as<std::uint8_t>(), ElementsAre(0, 1, 1));
  EXPECT_THAT(cast({1.5F}, float64).as<double>(), ElementsAre(1.5));
  EXPECT_THAT(cast({1.5F, -2}, float16).as<std::uint16_t>(), ElementsAre(0x3E00, 0xC000));
  EXPECT_THAT(cast({1.5F, -2}, bfloat16).as<std::uint16_t>(), ElementsAre(0x3FC0, 0xC000));
}

TEST(Fold, ComparisonsChooseBetweenConstants) {
  const auto chosen = [](const std::string& op) {
    ModelBuilder model(16);
    model.ints("a", {1, 2, 3}).ints("b", {2}).ints("minus", {-1});
    model.node(op, {"a", "b"}, {"holds"}).node("Where", {"holds", "a", "minus"}, {"y"});
    return ints(evaluate(model));
  };
  EXPECT_THAT(chosen("Equal"), ElementsAre(-1, 2, -1));
  EXPECT_THAT(chosen("Less"), ElementsAre(1, -1, -1));
  EXPECT_THAT(chosen("LessOrEqual"), ElementsAre(1, 2, -1));
  EXPECT_THAT(chosen("Greater"), ElementsAre(-1, -1, 3));
  EXPECT_THAT(chosen("GreaterOrEqual"), ElementsAre(-1, 2, 3));
}

TEST(Fold, EqualOfBoolComparesTruths) {
  ModelBuilder model;
  model.floats("f", {3}, {0, 1, 2}).floats("g", {3}, {0, 3, 0});
  model.node("Cast", {"f"}, {"a"}, {{"to", std::int64_t{dtype_to_onnx(bool8)}}});
  model.node("Cast", {"g"}, {"b"}, {{"to", std::int64_t{dtype_to_onnx(bool8)}}});
  model.node("Equal", {"a", "b"}, {"y"});
  EXPECT_THAT(evaluate(model).as<std::uint8_t>(), ElementsAre(1, 1, 0));
}

// It is computed with every request, like what does depend on an input.
TEST(Fold, LeavesWhatItDoesNotEvaluate) {
  ModelBuilder model;
  model.input("unused", {1}).output("y").floats("c", {2}, 1);
  model.node("Cast", {"c"}, {"h"}, {{"to", std::int64_t{dtype_to_onnx(float16)}}});
  model.node("Add", {"h", "h"}, {"y"});
  EXPECT_THAT(op_types(value_of(model.infer())), ElementsAre("Add"));
}

TEST(Fold, WhatIsNoNumberStaysNone) {
  for (const std::string op : {"Max", "Min"})
    for (const bool first : {true, false}) {
      ModelBuilder model;
      model.floats("nan", {1}, {NAN}).floats("one", {1}, {1});
      model.node(op, {first ? "nan" : "one", first ? "one" : "nan"}, {"y"});
      EXPECT_TRUE(std::isnan(floats(evaluate(model))[0])) << op;
    }
  ModelBuilder relu;
  relu.floats("nan", {1}, {NAN}).node("Relu", {"nan"}, {"y"});
  EXPECT_TRUE(std::isnan(floats(evaluate(relu))[0]));
}

TEST(Fold, RangeAndSize) {
  ModelBuilder model;
  model.ints("from", {7}).ints("to", {0}).ints("step", {-3});
  model.node("Range", {"from", "to", "step"}, {"y"});
  EXPECT_THAT(ints(evaluate(model)), ElementsAre(7, 4, 1));
  ModelBuilder size;
  size.input("x", {2, 3, 5}).node("Size", {"x"}, {"y"});
  EXPECT_THAT(ints(evaluate(size)), ElementsAre(30));
}

}  // namespace
}  // namespace opsplit::graph
