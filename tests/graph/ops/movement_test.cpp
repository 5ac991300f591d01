#include <gmock/gmock.h>

#include "graph/ops/slice.hpp"
#include "tests/graph/model_builder.hpp"

namespace opsplit::graph {
namespace {

using testing::HasSubstr;

// x of this shape through one node with these attributes and constant inputs.
Result<Graph> through(const std::string& op, const Ints& in, const Attributes& attributes,
                      const std::vector<Ints>& constants = {}, std::int64_t opset = 13,
                      const std::vector<std::string>& outputs = {"y"}) {
  ModelBuilder model(opset);
  model.input("x", {in.begin(), in.end()});
  std::vector<std::string> names{"x"};
  for (const Ints& values : constants) {
    names.push_back("c" + std::to_string(names.size()));
    model.ints(names.back(), values);
  }
  model.node(op, names, outputs, attributes, "n");
  for (const auto& output : outputs) model.output(output);
  return model.infer();
}

Shape y(const Result<Graph>& graph) { return type_of(value_of(graph), "y").shape; }

TEST(Slice, ClampsLikePython) {
  const auto sliced = [](Ints starts, Ints ends, Ints axes, Ints steps) {
    return y(through("Slice", {10, 6}, {}, {starts, ends, axes, steps}));
  };
  EXPECT_EQ(sliced({2}, {5}, {0}, {1}), (Shape{3, 6}));
  EXPECT_EQ(sliced({-3}, {INT64_MAX}, {0}, {1}), (Shape{3, 6}));
  EXPECT_EQ(sliced({0}, {-1}, {-1}, {1}), (Shape{10, 5}));
  EXPECT_EQ(sliced({1}, {100}, {0}, {4}), (Shape{3, 6}));
  EXPECT_EQ(sliced({-1}, {INT64_MIN}, {0}, {-1}), (Shape{10, 6}));
  EXPECT_EQ(sliced({8}, {1}, {0}, {-3}), (Shape{3, 6}));
  // Where ONNX differs from Python: backwards, a start before the first element means the first.
  EXPECT_EQ(sliced({-20}, {-20}, {0}, {-1}), (Shape{1, 6}));
  EXPECT_EQ(sliced({5}, {2}, {0}, {1}), (Shape{0, 6}));
  EXPECT_EQ(sliced({1, 1}, {3, 2}, {1, 0}, {1, 1}), (Shape{1, 2}));
  EXPECT_EQ(y(through("Slice", {10, 6}, {{"starts", Ints{1}}, {"ends", Ints{3}}}, {}, 9)),
            (Shape{2, 6}));
}

TEST(Slice, RefusesWhatDoesNotFit) {
  EXPECT_THAT(error_of(through("Slice", {10}, {}, {{0}, {1}, {0}, {0}})), HasSubstr("step 0"));
  EXPECT_THAT(error_of(through("Slice", {10}, {}, {{0}, {1, 2}})), HasSubstr("differ in length"));
  EXPECT_THAT(error_of(through("Slice", {10}, {}, {{0}, {1}, {1}})),
              HasSubstr("axis 1 does not exist"));
  EXPECT_THAT(error_of(through("Slice", {10, 2}, {}, {{0, 0}, {1, 1}, {0, -2}})),
              HasSubstr("named twice"));
}

TEST(Transpose, PermutesTheShape) {
  EXPECT_EQ(y(through("Transpose", {2, 3, 4}, {{"perm", Ints{2, 0, 1}}})), (Shape{4, 2, 3}));
  EXPECT_EQ(y(through("Transpose", {2, 3, 4}, {})), (Shape{4, 3, 2}));
  for (const Ints& bad : {Ints{0, 1}, Ints{0, 0, 1}, Ints{0, 1, 3}, Ints{0, 1, -1}})
    EXPECT_THAT(error_of(through("Transpose", {2, 3, 4}, {{"perm", bad}})),
                HasSubstr("perm is not"));
}

TEST(Concat, AddsUpOneAxis) {
  ModelBuilder model;
  model.input("a", {2, 3}).input("b", {2, 5}).output("y");
  model.node("Concat", {"a", "b"}, {"y"}, {{"axis", std::int64_t{-1}}});
  EXPECT_EQ(y(model.infer()), (Shape{2, 8}));
  ModelBuilder bad;
  bad.input("a", {2, 3}).input("b", {3, 3}).output("y");
  bad.node("Concat", {"a", "b"}, {"y"}, {{"axis", std::int64_t{1}}});
  EXPECT_THAT(error_of(bad.infer()),
              HasSubstr("input 1 is 3x3, which does not fit 2x3 along axis 1"));
}

TEST(Split, EqualAndGivenParts) {
  const Graph equal =
      value_of(through("Split", {2, 6}, {{"axis", std::int64_t{1}}}, {}, 13, {"y", "z", "w"}));
  EXPECT_EQ(type_of(equal, "w").shape, (Shape{2, 2}));
  const Graph given = value_of(through("Split", {5}, {}, {{1, 4}}, 13, {"y", "z"}));
  EXPECT_EQ(type_of(given, "z").shape, (Shape{4}));
  const Graph uneven =
      value_of(through("Split", {5}, {{"num_outputs", std::int64_t{2}}}, {}, 18, {"y", "z"}));
  EXPECT_EQ(type_of(uneven, "y").shape, (Shape{3}));
  EXPECT_EQ(type_of(uneven, "z").shape, (Shape{2}));
  EXPECT_THAT(error_of(through("Split", {5}, {}, {}, 13, {"y", "z"})),
              HasSubstr("cannot split 5 into 2"));
  EXPECT_THAT(error_of(through("Split", {5}, {}, {{1, 5}}, 13, {"y", "z"})),
              HasSubstr("do not make up 5"));
  EXPECT_THAT(error_of(through("Split", {5}, {}, {{5}}, 13, {"y", "z"})),
              HasSubstr("1 parts for 2 outputs"));
}

TEST(Gather, InsertsTheIndicesShape) {
  EXPECT_EQ(y(through("Gather", {5, 7}, {{"axis", std::int64_t{1}}}, {{0, 6, 2}})), (Shape{5, 3}));
  EXPECT_THAT(error_of(through("Gather", {5}, {{"axis", std::int64_t{1}}}, {{0}})),
              HasSubstr("axis 1"));
}

TEST(Pad, AddsAndCrops) {
  EXPECT_EQ(y(through("Pad", {2, 3}, {}, {{0, 1, 2, -2}})), (Shape{4, 2}));
  EXPECT_EQ(y(through("Pad", {2, 3}, {{"pads", Ints{1, 1, 1, 1}}}, {}, 10)), (Shape{4, 5}));
  EXPECT_THAT(error_of(through("Pad", {2, 3}, {}, {{0, 1}})),
              HasSubstr("pads has 2 numbers, needs 4"));
  EXPECT_THAT(error_of(through("Pad", {2, 3}, {}, {{-3, 0, 0, 0}})),
              HasSubstr("do not fit 2 of axis 0"));
  EXPECT_THAT(error_of(through("Pad", {2, 3}, {}, {{INT64_MAX, 0, 1, 0}})),
              HasSubstr("do not fit"));
}

TEST(Resize, TakesScalesOrSizes) {
  ModelBuilder scales;
  scales.input("x", {1, 1, 3, 5}).output("y").floats("s", {4}, Floats{1, 1, 2, 1.5F});
  scales.node("Resize", {"x", "", "s"}, {"y"});
  EXPECT_EQ(y(scales.infer()), (Shape{1, 1, 6, 7}));
  ModelBuilder sizes;
  sizes.input("x", {1, 1, 3, 5}).output("y").ints("s", {1, 1, 9, 9});
  sizes.node("Resize", {"x", "", "", "s"}, {"y"});
  EXPECT_EQ(y(sizes.infer()), (Shape{1, 1, 9, 9}));
  EXPECT_EQ(y(through("Upsample", {1, 1, 3, 5}, {{"scales", Floats{1, 1, 2, 2}}}, {}, 7)),
            (Shape{1, 1, 6, 10}));
  EXPECT_THAT(error_of(through("Upsample", {2}, {{"scales", Floats{-1}}}, {}, 7)),
              HasSubstr("axis 0 of 2 would have -2 elements"));
  EXPECT_THAT(error_of(through("Upsample", {2}, {{"scales", Floats{1e30F}}}, {}, 7)),
              HasSubstr("axis 0 of 2 would have 2e+30 elements"));
}

TEST(Resize, SomeAxesAndOneScaleForAll) {
  const auto sizes = [](const Attributes& attributes) {
    ModelBuilder model;
    model.input("x", {1, 1, 2, 4}).output("y").ints("s", {7, 8});
    model.node("Resize", {"x", "", "", "s"}, {"y"}, attributes);
    return model.infer();
  };
  const Attribute axes = Ints{2, 3};
  EXPECT_EQ(y(sizes({{"axes", axes}})), (Shape{1, 1, 7, 8}));
  EXPECT_EQ(y(sizes({{"axes", Ints{3, -2}}})), (Shape{1, 1, 8, 7}));
  const auto policy = [&](const char* name) {
    return y(sizes({{"axes", axes}, {"keep_aspect_ratio_policy", std::string(name)}}));
  };
  EXPECT_EQ(policy("not_larger"), (Shape{1, 1, 4, 8}));
  EXPECT_EQ(policy("not_smaller"), (Shape{1, 1, 7, 14}));
  EXPECT_THAT(error_of(sizes({})), HasSubstr("2 sizes for 4 axes"));
}

TEST(Resize, RefusesWhatItDoesNotHave) {
  const auto with = [](const char* name, const Attribute& value) {
    return error_of(
        through("Upsample", {1, 1, 3, 5}, {{"scales", Floats{1, 1, 2, 2}}, {name, value}}, {}, 7));
  };
  EXPECT_THAT(with("mode", std::string("cubic")), HasSubstr("mode cubic is not supported"));
  EXPECT_THAT(with("antialias", std::int64_t{1}), HasSubstr("antialias is not supported"));
}

}  // namespace
}  // namespace opsplit::graph
