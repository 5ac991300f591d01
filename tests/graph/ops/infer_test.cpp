// Type rules of what ONNX's backend tests prove to be computed right: here, what they refuse.
#include "graph/ops/infer.hpp"

#include <gmock/gmock.h>

#include "tests/graph/model_builder.hpp"

namespace opsplit::graph {
namespace {

using testing::HasSubstr;

struct Input {
  Ints dims;
  DType dtype = float32;
};

// Inputs that arrive, x0, x1 ..., then constants.
struct Case {
  std::string op;
  std::vector<Input> inputs;
  Attributes attributes = {};
  std::vector<Ints> constants = {};
  std::int64_t opset = 18;
};

Result<Graph> inferred(const Case& test) {
  ModelBuilder model(test.opset);
  std::vector<std::string> names;
  for (const Input& input : test.inputs) {
    names.push_back("x" + std::to_string(names.size()));
    model.input(names.back(), {input.dims.begin(), input.dims.end()}, input.dtype);
  }
  for (const Ints& values : test.constants) {
    names.push_back("c" + std::to_string(names.size()));
    model.ints(names.back(), values);
  }
  model.node(test.op, names, {"y"}, test.attributes, "n").output("y");
  return model.infer();
}

TensorType y(const Case& test) { return type_of(value_of(inferred(test)), "y"); }
std::string why(const Case& test) { return error_of(inferred(test)); }

TEST(Infer, BoolComesOfComparisonsAndOfQuestions) {
  EXPECT_EQ(y({"Less", {{{2, 1}, int32}, {{3}, int32}}}), (TensorType{bool8, {2, 3}}));
  EXPECT_EQ(y({"And", {{{2}, bool8}, {{1}, bool8}}}), (TensorType{bool8, {2}}));
  EXPECT_EQ(y({"IsNaN", {{{2}}}}), (TensorType{bool8, {2}}));
  EXPECT_EQ(y({"Where", {{{2, 1}, bool8}, {{3}, int8}, {{}, int8}}}), (TensorType{int8, {2, 3}}));
  EXPECT_THAT(why({"Less", {{{2}, int32}, {{2}, int64}}}), HasSubstr("must be the same"));
  EXPECT_THAT(why({"Or", {{{2}}, {{2}}}}), HasSubstr("must be bool"));
  EXPECT_THAT(why({"BitwiseAnd", {{{2}}, {{2}}}}), HasSubstr("must be of integers"));
  EXPECT_THAT(why({"Where", {{{2}, bool8}, {{2}, int8}, {{2}, int16}}}),
              HasSubstr("chooses between"));
}

TEST(Infer, ANormHasAtLeastOnePower) {
  EXPECT_THAT(
      why({"LpPool", {{{1, 1, 4, 4}}}, {{"kernel_shape", Ints{2, 2}}, {"p", std::int64_t{0}}}}),
      HasSubstr("p 0: must be at least 1"));
}

TEST(Infer, Arrangement) {
  EXPECT_EQ(y({"Expand", {{{3, 1}}}, {}, {{2, 1, 4}}}), (TensorType{float32, {2, 3, 4}}));
  EXPECT_THAT(why({"Expand", {{{3}}}, {}, {{2}}}), HasSubstr("do not broadcast"));
  EXPECT_EQ(y({"Tile", {{{3, 2}}}, {}, {{2, 0}}}), (TensorType{float32, {6, 0}}));
  EXPECT_THAT(why({"Tile", {{{3}}}, {}, {{-1}}}), HasSubstr("-1 repeats"));
  EXPECT_THAT(why({"Tile", {{{3}}}, {}, {{INT64_MAX}}}), HasSubstr("repeats of axis 0"));
  EXPECT_THAT(why({"Tile", {{{3}}}, {}, {{1, 1}}}), HasSubstr("2 numbers"));
  const Attributes two{{"blocksize", std::int64_t{2}}};
  EXPECT_EQ(y({"DepthToSpace", {{{1, 8, 2, 3}}}, two}), (TensorType{float32, {1, 2, 4, 6}}));
  EXPECT_EQ(y({"SpaceToDepth", {{{1, 2, 4, 6}}}, two}), (TensorType{float32, {1, 8, 2, 3}}));
  EXPECT_THAT(why({"DepthToSpace", {{{1, 6, 2, 3}}}, two}), HasSubstr("4 does not divide 6"));
  EXPECT_THAT(why({"SpaceToDepth", {{{1, 6, 2, 3}}}, two}), HasSubstr("2 does not divide 3"));
  EXPECT_THAT(why({"SpaceToDepth", {{{1, 6, 2, 3}}}}), HasSubstr("blocksize 0"));
  EXPECT_THAT(why({"Trilu", {{{3}}}}), HasSubstr("matrices"));
  EXPECT_EQ(y({"EyeLike", {{{2, 3}}}, {{"dtype", std::int64_t{7}}}}), (TensorType{int64, {2, 3}}));
  EXPECT_THAT(why({"EyeLike", {{{2, 3}}}, {{"dtype", std::int64_t{8}}}}),
              HasSubstr("element type 8"));
  EXPECT_EQ(y({"ReverseSequence", {{{4, 2}}, {{2}, int64}}}), (TensorType{float32, {4, 2}}));
  EXPECT_THAT(why({"ReverseSequence", {{{4, 2}}, {{4}, int64}}}), HasSubstr("must be int64 2"));
}

TEST(Infer, RangeCountsItsSteps) {
  const auto count = [](std::int64_t from, std::int64_t to, std::int64_t step) {
    ModelBuilder model;
    model.ints("from", {from}).ints("to", {to}).ints("step", {step}).input("x", {1}).output("y");
    model.node("Range", {"from", "to", "step"}, {"y"});
    return model.infer().map([](const Graph& graph) { return type_of(graph, "y").shape[0]; });
  };
  EXPECT_EQ(value_of(count(0, 5, 2)), 3);
  EXPECT_EQ(value_of(count(5, 0, -2)), 3);
  EXPECT_EQ(value_of(count(5, 0, 2)), 0);
  EXPECT_THAT(error_of(count(0, 5, 0)), HasSubstr("delta is 0"));
  EXPECT_THAT(error_of(count(INT64_MIN, INT64_MAX, 1)), HasSubstr("would have"));
}

TEST(Infer, Indexing) {
  EXPECT_EQ(y({"GatherElements", {{{4, 2}}, {{3, 2}, int64}}}), (TensorType{float32, {3, 2}}));
  EXPECT_THAT(why({"GatherElements", {{{4, 2}}, {{3, 3}, int64}}}), HasSubstr("do not fit"));
  EXPECT_THAT(why({"GatherElements", {{{4, 2}}, {{3}, int64}}}), HasSubstr("do not fit"));
  EXPECT_THAT(why({"GatherElements", {{{4, 2}}, {{3, 2}}}}), HasSubstr("must be int64 or int32"));
  EXPECT_EQ(y({"GatherND", {{{4, 2, 5}}, {{3, 1}, int64}}}), (TensorType{float32, {3, 2, 5}}));
  EXPECT_EQ(y({"GatherND", {{{4, 2, 5}}, {{4, 3, 1}, int64}}, {{"batch_dims", std::int64_t{1}}}}),
            (TensorType{float32, {4, 3, 5}}));
  EXPECT_THAT(why({"GatherND", {{{4, 2}}, {{3, 3}, int64}}}), HasSubstr("do not fit"));
  EXPECT_THAT(why({"GatherND", {{{4, 2}}, {{3, 1}, int64}}, {{"batch_dims", std::int64_t{-1}}}}),
              HasSubstr("do not fit"));
  EXPECT_EQ(y({"ScatterND", {{{4, 2}}, {{3, 1}, int64}, {{3, 2}}}}), (TensorType{float32, {4, 2}}));
  EXPECT_THAT(why({"ScatterND", {{{4, 2}}, {{3, 1}, int64}, {{3, 1}}}}), HasSubstr("must be 3x2"));
  EXPECT_THAT(
      why({"ScatterElements", {{{4}}, {{1}, int64}, {{1}}}, {{"reduction", std::string("?")}}}),
      HasSubstr("unknown reduction"));
}

TEST(Infer, Ranking) {
  EXPECT_EQ(y({"ArgMax", {{{4, 2}}}, {{"axis", std::int64_t{-1}}, {"keepdims", std::int64_t{0}}}}),
            (TensorType{int64, {4}}));
  EXPECT_EQ(y({"TopK", {{{4, 2}}}, {{"axis", std::int64_t{0}}}, {{3}}}),
            (TensorType{float32, {3, 2}}));
  EXPECT_THAT(why({"TopK", {{{4, 2}}}, {}, {{3}}}), HasSubstr("k does not fit axis 1"));
  EXPECT_THAT(why({"TopK", {{{4, 2}}}, {}, {{-1}}}), HasSubstr("k does not fit"));
  EXPECT_THAT(why({"CumSum", {{{4, 2}}}, {}, {{2}}}), HasSubstr("axis 2 does not exist"));
}

TEST(Infer, NormalizationsByGroups) {
  EXPECT_EQ(y({"LayerNormalization", {{{4, 2}}, {{2}}}}), (TensorType{float32, {4, 2}}));
  EXPECT_THAT(why({"LayerNormalization", {{{4, 2}}, {{4, 2}}}}), HasSubstr("must broadcast to 2"));
  const Attributes two{{"num_groups", std::int64_t{2}}};
  EXPECT_EQ(y({"GroupNormalization", {{{1, 4, 3}}, {{4}}, {{4}}}, two, {}, 21}),
            (TensorType{float32, {1, 4, 3}}));
  EXPECT_EQ(y({"GroupNormalization", {{{1, 4, 3}}, {{2}}, {{2}}}, two, {}, 18}),
            (TensorType{float32, {1, 4, 3}}));
  EXPECT_THAT(why({"GroupNormalization", {{{1, 4, 3}}, {{2}}, {{2}}}, two, {}, 21}),
              HasSubstr("must have 4"));
  EXPECT_THAT(why({"GroupNormalization", {{{1, 3, 3}}, {{3}}, {{3}}}, two, {}, 21}),
              HasSubstr("does not divide 3"));
}

TEST(Infer, Losses) {
  const std::string op = "NegativeLogLikelihoodLoss";
  EXPECT_EQ(y({op, {{{2, 5, 3}}, {{2, 3}, int64}}}), (TensorType{float32, {}}));
  EXPECT_EQ(y({op, {{{2, 5, 3}}, {{2, 3}, int64}, {{5}}}, {{"reduction", std::string("none")}}}),
            (TensorType{float32, {2, 3}}));
  EXPECT_THAT(why({op, {{{2, 5, 3}}, {{2, 5}, int64}}}), HasSubstr("must be int64 or int32 2x3"));
  EXPECT_THAT(why({op, {{{2, 5}}, {{2}, int64}, {{4}}}}), HasSubstr("one for each of 5"));
}

TEST(Infer, Quantization) {
  EXPECT_EQ(y({"QuantizeLinear", {{{2, 3}}, {{}}, {{}, int8}}}), (TensorType{int8, {2, 3}}));
  EXPECT_EQ(y({"QuantizeLinear", {{{2, 3}}, {{3}}}}), (TensorType{uint8, {2, 3}}));
  EXPECT_THAT(why({"QuantizeLinear", {{{2, 3}}, {{2}}}}), HasSubstr("input 1 is float32 2"));
  EXPECT_EQ(y({"DequantizeLinear", {{{2, 6}, uint8}, {{2, 3}}}, {{"block_size", std::int64_t{2}}}}),
            (TensorType{float32, {2, 6}}));
  EXPECT_THAT(
      why({"DequantizeLinear", {{{2, 6}, uint8}, {{2, 2}}}, {{"block_size", std::int64_t{2}}}}),
      HasSubstr("does not fit"));
}

TEST(Infer, GridSample) {
  EXPECT_EQ(y({"GridSample", {{{1, 3, 8, 9}}, {{1, 2, 4, 2}}}}),
            (TensorType{float32, {1, 3, 2, 4}}));
  EXPECT_THAT(why({"GridSample", {{{1, 3, 8, 9}}, {{1, 2, 4, 3}}}}), HasSubstr("does not fit"));
  EXPECT_THAT(why({"GridSample", {{{1, 3, 8}}, {{1, 2, 1}}}, {{"mode", std::string("?")}}}),
              HasSubstr("unknown mode"));
}

TEST(Infer, PadModes) {
  EXPECT_EQ(y({"Pad", {{{3}}}, {{"mode", std::string("wrap")}}, {{1, 2}}}),
            (TensorType{float32, {6}}));
  EXPECT_THAT(why({"Pad", {{{3}}}, {{"mode", std::string("?")}}, {{1, 2}}}),
              HasSubstr("unknown mode"));
  EXPECT_THAT(why({"Pad", {{{0}}}, {{"mode", std::string("edge")}}, {{1, 2}}}),
              HasSubstr("nothing to repeat"));
}

}  // namespace
}  // namespace opsplit::graph
