#include "graph/ops/op.hpp"

#include <gmock/gmock.h>

#include "tests/graph/model_builder.hpp"

namespace opsplit::graph {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const auto yes = std::int64_t{1};
const auto no = std::int64_t{0};

// The type of `op`'s first output, for float inputs x (and z) of these shapes, and int constants.
struct OpCase {
  std::string op;
  std::vector<Ints> inputs;
  Attributes attributes = {};
  std::vector<Ints> constants = {};
  std::int64_t opset = 13;
};

Result<TensorType> type_of_op(const OpCase& c) {
  ModelBuilder model(c.opset);
  std::vector<std::string> names;
  for (const Ints& dims : c.inputs) {
    names.push_back("x" + std::to_string(names.size()));
    model.input(names.back(), {dims.begin(), dims.end()});
  }
  for (const Ints& values : c.constants) {
    names.push_back("c" + std::to_string(names.size()));
    model.ints(names.back(), values);
  }
  model.output("y").node(c.op, names, {"y"}, c.attributes, "n");
  OPSPLIT_TRY(const Graph graph, model.infer());
  return type_of(graph, "y");
}

Shape shape_of_op(const OpCase& c) { return value_of(type_of_op(c)).shape; }
std::string error_of_op(const OpCase& c) { return error_of(type_of_op(c)); }

TEST(Ops, FindKnowsEveryOperationByItsExactName) {
  for (const char* name : {"Abs", "Conv", "LRN", "LeakyRelu", "Upsample", "Unsqueeze", "PRelu"})
    EXPECT_NE(ops::find(name), nullptr) << name;
  for (const char* name : {"", "conv", "Con", "Convv", "If", "Zzz"})
    EXPECT_EQ(ops::find(name), nullptr) << name;
}

TEST(Ops, ElementwiseBroadcast) {
  EXPECT_EQ(shape_of_op({"Add", {{2, 3, 4}, {3, 1}}}), (Shape{2, 3, 4}));
  EXPECT_EQ(shape_of_op({"Mul", {{4}, {2, 1, 1}}}), (Shape{2, 1, 4}));
  EXPECT_EQ(shape_of_op({"Max", {{2, 1}, {1, 3}, {1}}}), (Shape{2, 3}));
  EXPECT_EQ(shape_of_op({"Sub", {{}, {2}}}), (Shape{2}));
  EXPECT_THAT(error_of_op({"Div", {{2, 3}, {2}}}),
              HasSubstr("node 'n' (Div): shapes 2x3 and 2 do not broadcast"));
  EXPECT_THAT(error_of_op({"PRelu", {{2, 1}, {3}}}), HasSubstr("does not broadcast to 2x1"));
}

TEST(Ops, TypesMustMatch) {
  ModelBuilder model;
  model.input("x", {2}).input("i", {2}, int64).output("y").node("Add", {"x", "i"}, {"y"}, {}, "n");
  EXPECT_THAT(error_of(model.infer()), HasSubstr("input 1 is int64, input 0 is float32"));
  ModelBuilder whole;
  whole.input("i", {2}, int64).output("y").node("Sigmoid", {"i"}, {"y"});
  EXPECT_THAT(error_of(whole.infer()), HasSubstr("must be of a floating type"));
}

TEST(Ops, Gemm) {
  EXPECT_EQ(shape_of_op({"Gemm", {{2, 3}, {3, 4}}}), (Shape{2, 4}));
  EXPECT_EQ(shape_of_op({"Gemm", {{3, 2}, {4, 3}, {4}}, {{"transA", yes}, {"transB", yes}}}),
            (Shape{2, 4}));
  EXPECT_THAT(error_of_op({"Gemm", {{2, 3}, {4, 3}}}),
              HasSubstr("multiplies 2x3 by 4x3: inner sizes differ"));
  EXPECT_THAT(error_of_op({"Gemm", {{2, 3}, {3, 4}, {3}}}),
              HasSubstr("input 2 (3) does not broadcast to the product's 2x4"));
  EXPECT_THAT(error_of_op({"Gemm", {{1, 2, 3}, {3, 4}}}), HasSubstr("both must be matrices"));
}

TEST(Ops, MatMul) {
  EXPECT_EQ(shape_of_op({"MatMul", {{2, 3}, {3, 4}}}), (Shape{2, 4}));
  EXPECT_EQ(shape_of_op({"MatMul", {{5, 1, 2, 3}, {6, 3, 4}}}), (Shape{5, 6, 2, 4}));
  EXPECT_EQ(shape_of_op({"MatMul", {{3}, {3, 4}}}), (Shape{4}));
  EXPECT_EQ(shape_of_op({"MatMul", {{2, 3}, {3}}}), (Shape{2}));
  EXPECT_EQ(shape_of_op({"MatMul", {{3}, {3}}}), Shape{});
  EXPECT_THAT(error_of_op({"MatMul", {{2, 3}, {2, 3}}}), HasSubstr("multiplies 2x3 by 2x3"));
  EXPECT_THAT(error_of_op({"MatMul", {{}, {2}}}), HasSubstr("multiplies scalar by 2"));
}

TEST(Ops, Reshape) {
  EXPECT_EQ(shape_of_op({"Reshape", {{2, 3, 4}}, {}, {{0, -1}}}), (Shape{2, 12}));
  EXPECT_EQ(shape_of_op({"Reshape", {{2, 3}}, {}, {{6}}}), (Shape{6}));
  EXPECT_EQ(shape_of_op({"Reshape", {{1}}, {}, {{}}}), Shape{});
  EXPECT_EQ(shape_of_op({"Reshape", {{2, 0}}, {{"allowzero", yes}}, {{0, 7}}, 14}), (Shape{0, 7}));
  EXPECT_THAT(error_of_op({"Reshape", {{2, 3}}, {}, {{4, -1}}}),
              HasSubstr("cannot reshape 2x3 to 4x1"));
  EXPECT_THAT(error_of_op({"Reshape", {{2, 3}}, {}, {{-1, -1}}}), HasSubstr("negative"));
  EXPECT_THAT(error_of_op({"Reshape", {{2, 3}}, {}, {{2, 3, 0}}}), HasSubstr("no such dimension"));
  EXPECT_THAT(error_of_op({"Reshape", {{2, 3}}, {}, {{INT64_MAX, INT64_MAX}}}),
              HasSubstr("63 bits"));
  EXPECT_THAT(error_of_op({"Reshape", {{2, 3}, {2}}}),
              HasSubstr("shape (input 1) must be constant"));
}

TEST(Ops, FlattenSqueezeUnsqueeze) {
  EXPECT_EQ(shape_of_op({"Flatten", {{2, 3, 4}}}), (Shape{2, 12}));
  EXPECT_EQ(shape_of_op({"Flatten", {{2, 3, 4}}, {{"axis", no}}}), (Shape{1, 24}));
  EXPECT_EQ(shape_of_op({"Flatten", {{2, 3, 4}}, {{"axis", std::int64_t{3}}}}), (Shape{24, 1}));
  EXPECT_EQ(shape_of_op({"Flatten", {{2, 3, 4}}, {{"axis", std::int64_t{-1}}}}), (Shape{6, 4}));
  EXPECT_THAT(error_of_op({"Flatten", {{2}}, {{"axis", std::int64_t{2}}}}),
              HasSubstr("axis 2 does not exist in rank 1"));
  EXPECT_EQ(shape_of_op({"Squeeze", {{1, 3, 1}}}), (Shape{3}));
  EXPECT_EQ(shape_of_op({"Squeeze", {{1, 3, 1}}, {}, {{-1}}}), (Shape{1, 3}));
  EXPECT_EQ(shape_of_op({"Squeeze", {{1, 3, 1}}, {{"axes", Ints{0}}}, {}, 11}), (Shape{3, 1}));
  EXPECT_THAT(error_of_op({"Squeeze", {{1, 3}}, {}, {{1}}}),
              HasSubstr("squeezes axis 1 of 1x3, which is not 1"));
  EXPECT_EQ(shape_of_op({"Unsqueeze", {{3, 4}}, {}, {{0, -1}}}), (Shape{1, 3, 4, 1}));
  EXPECT_EQ(shape_of_op({"Unsqueeze", {{3}}, {{"axes", Ints{1, 2}}}, {}, 7}), (Shape{3, 1, 1}));
  EXPECT_THAT(error_of_op({"Unsqueeze", {{3}}, {}, {{0, 0}}}), HasSubstr("axis 0 is named twice"));
  EXPECT_THAT(error_of_op({"Unsqueeze", {{3}}, {}, {{0, 1, 2, 3, 4, 5, 6, 7}}}),
              HasSubstr("rank 9"));
}

TEST(Ops, Reduce) {
  EXPECT_EQ(shape_of_op({"ReduceMean", {{2, 3, 4}}, {{"axes", Ints{-1, 0}}}}), (Shape{1, 3, 1}));
  EXPECT_EQ(shape_of_op({"ReduceMean", {{2, 3, 4}}, {{"axes", Ints{1}}, {"keepdims", no}}}),
            (Shape{2, 4}));
  EXPECT_EQ(shape_of_op({"ReduceSum", {{2, 3, 4}}, {}, {{2}}}), (Shape{2, 3, 1}));
  EXPECT_EQ(shape_of_op({"ReduceMax", {{2, 3}}}), (Shape{1, 1}));
  EXPECT_EQ(shape_of_op({"ReduceSum", {{2, 3}}, {{"noop_with_empty_axes", yes}}}), (Shape{2, 3}));
  EXPECT_THAT(error_of_op({"ReduceMax", {{2, 3}}, {{"axes", Ints{2}}}}),
              HasSubstr("axis 2 does not exist"));
}

TEST(Ops, Normalization) {
  EXPECT_EQ(shape_of_op({"BatchNormalization", {{1, 3, 2}, {3}, {3}, {3}, {3}}}), (Shape{1, 3, 2}));
  EXPECT_THAT(error_of_op({"BatchNormalization", {{1, 3, 2}, {3}, {3}, {2}, {3}}}),
              HasSubstr("input 3 is 2, must have one number for each of 3"));
  EXPECT_THAT(
      error_of_op(
          {"BatchNormalization", {{1, 3}, {3}, {3}, {3}, {3}}, {{"training_mode", yes}}, {}, 14}),
      HasSubstr("training_mode is set"));
  EXPECT_THAT(error_of_op({"LRN", {{1, 3, 2}}, {{"size", no}}}), HasSubstr("size 0"));
  EXPECT_EQ(shape_of_op({"Softmax", {{2, 3}}, {{"axis", std::int64_t{-2}}}}), (Shape{2, 3}));
  EXPECT_THAT(error_of_op({"Softmax", {{2}}, {}, {}, 11}),
              HasSubstr("axis 1 does not exist in rank 1"));
}

TEST(Ops, CastAndClip) {
  EXPECT_EQ(value_of(type_of_op({"Cast", {{2}}, {{"to", std::int64_t{7}}}})).dtype, int64);
  EXPECT_THAT(error_of_op({"Cast", {{2}}, {{"to", std::int64_t{8}}}}), HasSubstr("element type 8"));
  EXPECT_EQ(shape_of_op({"Clip", {{2, 3}, {}, {1}}}), (Shape{2, 3}));
  EXPECT_THAT(error_of_op({"Clip", {{2, 3}, {2}}}), HasSubstr("bound (input 1)"));
}

TEST(Ops, NodesThatDependOnNothingAreRunWhereTheyAreNotEvaluated) {
  ModelBuilder model;
  model.input("x", {1}).output("y").floats("c", {1, 1, 3, 3}, 1);
  model.node("GlobalMaxPool", {"c"}, {"p"}, {}, "pool").node("Add", {"x", "p"}, {"y"});
  EXPECT_EQ(op_types(value_of(model.infer())), (std::vector<std::string>{"GlobalMaxPool", "Add"}));
}

}  // namespace
}  // namespace opsplit::graph
