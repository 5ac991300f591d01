#include "graph/given_shapes.hpp"

#include <gmock/gmock.h>
#include <onnx/onnx_pb.h>

#include "tests/graph/model_builder.hpp"

namespace opsplit::graph {
namespace {

using testing::EndsWith;
using testing::HasSubstr;

// y = x + z; both have a symbolic batch.
ModelBuilder two_inputs() {
  ModelBuilder model;
  model.input("x", {"N", 3}).input("z", {"N", 3}).output("y").node("Add", {"x", "z"}, {"y"});
  return model;
}

TEST(BindInputs, TakesSizesFromTheUser) {
  const Graph graph = value_of(two_inputs().infer({{"x", {2, 3}}, {"z", {2, 3}}}));
  EXPECT_EQ(type_of(graph, "y"), (TensorType{float32, {2, 3}}));
}

TEST(BindInputs, ASymbolKnownFromOneInputIsKnownInAnother) {
  EXPECT_EQ(type_of(value_of(two_inputs().infer({{"z", {5, 3}}})), "x").shape, (Shape{5, 3}));
}

TEST(BindInputs, AsksForWhatIsMissing) {
  EXPECT_THAT(
      error_of(two_inputs().infer()),
      EndsWith("input 'x': size 'N' of Nx3 is not known: say --shape x=... with a number for "
               "each dimension"));
  ModelBuilder anonymous;
  anonymous.input("x", {"", 3}).output("y").node("Relu", {"x"}, {"y"});
  EXPECT_THAT(error_of(anonymous.infer()), HasSubstr("input 'x': size '?' of ?x3 is not known"));
  ModelBuilder negative;  // -1 for "any", as some exporters write it
  negative.input("x", {-1, 3}).output("y").node("Relu", {"x"}, {"y"});
  EXPECT_THAT(error_of(negative.infer()), HasSubstr("size '?' of ?x3"));
  ModelBuilder unranked;
  unranked.input("x", {}).output("y").node("Relu", {"x"}, {"y"});
  unranked.proto()
      .mutable_graph()
      ->mutable_input(0)
      ->mutable_type()
      ->mutable_tensor_type()
      ->clear_shape();
  EXPECT_THAT(error_of(unranked.infer()),
              HasSubstr("input 'x': the model gives no shape: say --shape x="));
  EXPECT_EQ(type_of(value_of(unranked.infer({{"x", {4}}})), "y").shape, (Shape{4}));
}

TEST(BindInputs, RefusesContradictions) {
  EXPECT_THAT(error_of(two_inputs().infer({{"x", {2, 4}}})),
              EndsWith("input 'x': the model says Nx3, --shape says 2x4"));
  EXPECT_THAT(error_of(two_inputs().infer({{"x", {2}}})),
              HasSubstr("the model says Nx3, --shape says 2"));
  EXPECT_THAT(error_of(two_inputs().infer({{"x", {2, 3}}, {"z", {4, 3}}})),
              EndsWith("input 'z': --shape makes 'N' 4, but 2 for input 'x'"));
  EXPECT_THAT(error_of(two_inputs().infer({{"x", {0, 3}}})), HasSubstr("sizes must be at least 1"));
  EXPECT_THAT(error_of(two_inputs().infer({{"q", {1}}})),
              EndsWith("--shape q=...: no such input or output, the model has: x, z, y"));
}

TEST(BindInputs, RefusesShapesThatOverflow) {
  const std::int64_t large = std::int64_t{1} << 61;
  EXPECT_THAT(error_of(two_inputs().infer({{"x", {large, 3}}})), HasSubstr("value 'x'"));
  ModelBuilder zero;  // nothing to store, but strides that overflow
  zero.input("x", {large, 8, 0}).output("y").node("Flatten", {"x"}, {"y"});
  EXPECT_THAT(error_of(zero.infer()), HasSubstr("value 'x'"));
}

// y = |where x is not 0|, and z = x.
ModelBuilder finds() {
  ModelBuilder model;
  model.input("x", {2, 5}).output("y").output("z").node("NonZero", {"x"}, {"n"}, {}, "find");
  return std::move(model.node("Abs", {"n"}, {"y"}).node("Relu", {"x"}, {"z"}));
}

TEST(BoundOutputs, TakesTheLargestSizesFromTheUser) {
  const Graph graph = value_of(finds().load({{"y", {2, 10}}}));
  EXPECT_EQ(type_of(graph, "y"), (TensorType{int64, {2, 10}}));
}

TEST(BoundOutputs, AsksForThem) {
  EXPECT_THAT(error_of(finds().load()),
              EndsWith("node 'find' (NonZero): its size follows from data only: how large output "
                       "'y' of the model gets is not known: say --shape y=... with the largest "
                       "size of each dimension"));
}

TEST(BoundOutputs, RefusesContradictionsAndWhatHasASize) {
  EXPECT_THAT(error_of(finds().load({{"y", {3, 10}}})),
              EndsWith("output 'y': it is 2x?, --shape says 3x10"));
  EXPECT_THAT(error_of(finds().load({{"y", {10}}})),
              EndsWith("output 'y': it is 2x?, --shape says 10"));
  EXPECT_THAT(error_of(finds().load({{"y", {2, 0}}})), HasSubstr("sizes must be at least 1"));
  EXPECT_THAT(error_of(finds().load({{"y", {2, std::int64_t{1} << 62}}})), HasSubstr("output 'y'"));
  EXPECT_THAT(error_of(finds().load({{"y", {2, 10}}, {"z", {2, 4}}})),
              EndsWith("output 'z': it is 2x5, --shape says 2x4"));
  const Graph graph = value_of(finds().load({{"y", {2, 10}}, {"z", {2, 9}}}));
  EXPECT_EQ(type_of(graph, "z"), (TensorType{float32, {2, 5}}));
}

}  // namespace
}  // namespace opsplit::graph
