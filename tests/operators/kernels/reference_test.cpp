// The reference against values worked out by hand: kernels can only be as right as it is.
#include "operators/kernels/reference.hpp"

#include <gtest/gtest.h>

#include "tests/operators/tensors.hpp"

namespace opsplit::operators::testing {
namespace {

using Ints = std::vector<std::int64_t>;
using Floats = std::vector<float>;

Tensor tensor(const Shape& shape, const Floats& values) {
  Tensor result({float32, shape}, Layout::row_major);
  std::copy(values.begin(), values.end(), result.values().begin());
  return result;
}

Floats evaluate(const graph::Node& what, const std::vector<Tensor>& inputs, const Shape& output,
                std::int64_t opset = 13) {
  std::vector<TensorView> views;
  for (const Tensor& input : inputs) views.push_back(input.view());
  Tensor result({float32, output}, Layout::row_major);
  const MutableTensorView view = result.mutable_view();
  const auto done = reference::evaluate(what, opset, views, {&view, 1});
  EXPECT_TRUE(done) << done.error().message;
  return {result.values().begin(), result.values().end()};
}

std::vector<Tensor> list(Tensor first) {
  std::vector<Tensor> result;
  result.push_back(std::move(first));
  return result;
}
std::vector<Tensor> list(Tensor first, Tensor second) {
  auto result = list(std::move(first));
  result.push_back(std::move(second));
  return result;
}

TEST(Reference, Convolution) {
  // Padded on the left and below; the kernel is not flipped.
  EXPECT_EQ(
      evaluate(make_node("Conv", {{"pads", Ints{0, 1, 1, 0}}}),
               list(tensor({1, 1, 2, 2}, {1, 2, 3, 4}), tensor({1, 1, 2, 2}, {1, 10, 100, 1000})),
               {1, 1, 2, 2}),
      (Floats{10 + 3000, 1 + 20 + 300 + 4000, 30, 3 + 40}));
}

TEST(Reference, GroupedConvolution) {
  EXPECT_EQ(evaluate(make_node("Conv", {{"group", std::int64_t{2}}}),
                     list(tensor({1, 2, 1, 2}, {1, 2, 3, 4}), tensor({2, 1, 1, 1}, {10, 100})),
                     {1, 2, 1, 2}),
            (Floats{10, 20, 300, 400}));
}

TEST(Reference, Pools) {
  const auto x = [] { return list(tensor({1, 1, 3, 3}, {1, 2, 3, 4, 5, 6, 7, 8, 9})); };
  const Ints two{2, 2};
  EXPECT_EQ(
      evaluate(make_node("MaxPool",
                         {{"kernel_shape", two}, {"strides", two}, {"ceil_mode", std::int64_t{1}}}),
               x(), {1, 1, 2, 2}),
      (Floats{5, 6, 8, 9}));
  EXPECT_EQ(
      evaluate(make_node("AveragePool",
                         {{"kernel_shape", two}, {"strides", two}, {"pads", Ints{1, 1, 0, 0}}}),
               x(), {1, 1, 2, 2}),
      (Floats{1, 2.5F, 5.5F, 7}));
  EXPECT_EQ(evaluate(make_node("AveragePool", {{"kernel_shape", two},
                                               {"strides", two},
                                               {"pads", Ints{1, 1, 0, 0}},
                                               {"count_include_pad", std::int64_t{1}}}),
                     x(), {1, 1, 2, 2}),
            (Floats{0.25F, 1.25F, 2.75F, 7}));
  EXPECT_EQ(evaluate(make_node("GlobalAveragePool"), x(), {1, 1, 1, 1}), (Floats{5}));
}

TEST(Reference, Lrn) {
  // Of three channels the middle one sees all, the others two.
  const Floats y = evaluate(
      make_node("LRN",
                {{"size", std::int64_t{3}}, {"alpha", 3.0F}, {"beta", 1.0F}, {"bias", 1.0F}}),
      list(tensor({1, 3, 1, 1}, {1, 2, 3})), {1, 3, 1, 1});
  EXPECT_FLOAT_EQ(y[0], 1.0F / 6);
  EXPECT_FLOAT_EQ(y[1], 2.0F / 15);
  EXPECT_FLOAT_EQ(y[2], 3.0F / 14);
}

TEST(Reference, SoftmaxOfOldFlattens) {
  const Floats old =
      evaluate(make_node("Softmax"), list(tensor({1, 2, 2}, {0, 0, 0, 0})), {1, 2, 2}, 9);
  EXPECT_EQ(old, (Floats{0.25F, 0.25F, 0.25F, 0.25F}));
  const Floats now =
      evaluate(make_node("Softmax"), list(tensor({1, 2, 2}, {0, 0, 0, 0})), {1, 2, 2}, 13);
  EXPECT_EQ(now, (Floats{0.5F, 0.5F, 0.5F, 0.5F}));
}

TEST(Reference, PowersAndSlopes) {
  EXPECT_EQ(evaluate(make_node("Pow"), list(tensor({3}, {1, 2, 3}), tensor({1}, {2})), {3}),
            (Floats{1, 4, 9}));
  EXPECT_EQ(evaluate(make_node("PRelu"), list(tensor({3}, {-1, 2, -3}), tensor({1}, {0.5F})), {3}),
            (Floats{-0.5F, 2, -1.5F}));
}

TEST(Reference, Gemm) {
  EXPECT_EQ(evaluate(make_node("Gemm", {{"transB", std::int64_t{1}}, {"alpha", 2.0F}}),
                     list(tensor({1, 2}, {1, 2}), tensor({2, 2}, {1, 10, 100, 1000})), {1, 2}),
            (Floats{42, 4200}));
}

TEST(Reference, RefusesWhatDoesNotFit) {
  const auto refuses = [](const graph::Node& what, const std::vector<Shape>& shapes,
                          const Shape& output) {
    std::vector<Tensor> inputs;
    std::vector<TensorView> views;
    for (const Shape& shape : shapes)
      inputs.emplace_back(TensorType{float32, shape}, Layout::row_major);
    for (const Tensor& input : inputs) views.push_back(input.view());
    Tensor result({float32, output}, Layout::row_major);
    const MutableTensorView view = result.mutable_view();
    return !reference::evaluate(what, 13, views, {&view, 1});
  };
  EXPECT_TRUE(refuses(make_node("Conv"), {{1, 2, 4, 4}, {1, 3, 3, 3}}, {1, 1, 2, 2}));
  EXPECT_TRUE(refuses(make_node("Conv"), {{1, 1, 4, 4}, {1, 1, 3, 3}}, {1, 1, 9, 9}));
  EXPECT_TRUE(refuses(make_node("Conv", {{"strides", Ints{0, 0}}}), {{1, 1, 4, 4}, {1, 1, 3, 3}},
                      {1, 1, 2, 2}));
  EXPECT_TRUE(refuses(make_node("Conv", {{"group", std::int64_t{0}}}), {{1, 1, 4, 4}, {1, 1, 3, 3}},
                      {1, 1, 2, 2}));
  EXPECT_TRUE(
      refuses(make_node("MaxPool", {{"kernel_shape", Ints{3}}}), {{1, 1, 4, 4}}, {1, 1, 2, 2}));
  EXPECT_TRUE(refuses(make_node("Gemm"), {{2, 3}, {4, 5}}, {2, 5}));
  EXPECT_TRUE(refuses(make_node("MatMul"), {{2, 3}, {3, 5}}, {2, 6}));
  EXPECT_TRUE(refuses(make_node("Add"), {{2, 3}, {3, 2}}, {2, 3}));
  EXPECT_TRUE(refuses(make_node("Add"), {{2, 3}}, {2, 3}));
  EXPECT_TRUE(refuses(make_node("Concat", {{"axis", std::int64_t{5}}}), {{2, 3}}, {2, 3}));
  EXPECT_TRUE(refuses(make_node("Concat", {{"axis", std::int64_t{0}}}), {{2, 3}, {3, 3}}, {4, 3}));
  EXPECT_TRUE(refuses(make_node("Transpose", {{"perm", Ints{0, 0}}}), {{2, 2}}, {2, 2}));
  EXPECT_TRUE(refuses(make_node("Transpose", {{"perm", Ints{-1, 7}}}), {{2, 2}}, {2, 2}));
  EXPECT_TRUE(refuses(make_node("Softmax", {{"axis", std::int64_t{2}}}), {{2, 2}}, {2, 2}));
  EXPECT_TRUE(refuses(make_node("NoSuchOperation"), {{2, 2}}, {2, 2}));
}

}  // namespace
}  // namespace opsplit::operators::testing
