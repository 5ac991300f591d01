// Concat, Transpose, Slice, Gather, Pad, Split, and reductions.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "operators/kernels/reference.hpp"
#include "tests/operators/kernel_case.hpp"

namespace opsplit::operators::testing {
namespace {

using Ints = std::vector<std::int64_t>;

constexpr std::array layouts{Layout::row_major, Layout::nhwc, Layout::nChw8c, Layout::nChw16c};

TEST(Concat, EveryAxis) {
  for (std::int64_t axis = -3; axis < 3; ++axis) {
    KernelCase test{.op_type = "Concat"};
    for (const std::int64_t size : {2, 1, 0, 5}) {
      Shape shape{3, 4, 5};
      shape[static_cast<std::size_t>(axis < 0 ? axis + 3 : axis)] = size;
      test.inputs.push_back(Arrives{shape});
    }
    test.attributes["axis"] = axis;
    expect_equals_reference(test);
  }
}

TEST(Concat, ChannelsInEveryLayout) {
  for (const Layout layout : layouts)
    for (const std::int64_t batch : {1, 2}) {
      KernelCase test{.op_type = "Concat"};
      for (const std::int64_t channels : {16, 48, 32})
        test.inputs.push_back(Arrives{{batch, channels, 30, 29}});
      test.layout = layout;
      test.attributes["axis"] = std::int64_t{1};
      expect_equals_reference(test);
    }
}

TEST(Concat, RefusesBrokenBlocks) {
  const graph::Node node = make_node("Concat", {{"axis", std::int64_t{1}}}, {0, 1}, {2});
  KernelSpec spec{.node = &node, .opset = 13};
  for (int i = 0; i < 2; ++i)
    spec.inputs.push_back({.type = {float32, Shape{1, 8, 2, 2}}, .layout = Layout::nChw16c});
  spec.outputs = {{.type = {float32, Shape{1, 16, 2, 2}}, .layout = Layout::nChw16c}};
  HeapWeights weights;
  EXPECT_FALSE(make_kernel(spec, {&weights, std::make_shared<Scratchpad>()}));
}

TEST(Transpose, EveryPermutationOfThreeAxes) {
  Ints permutation{0, 1, 2};
  do {
    KernelCase test{.op_type = "Transpose", .inputs = {Arrives{{3, 1, 7}}}};
    test.attributes["perm"] = permutation;
    expect_equals_reference(test);
  } while (std::next_permutation(permutation.begin(), permutation.end()));
}

TEST(Transpose, OtherRanks) {
  for (const Shape& shape : {Shape{}, Shape{5}, Shape{2, 3}, Shape{2, 3, 4, 5, 1, 2}})
    expect_equals_reference({.op_type = "Transpose", .inputs = {Arrives{shape}}});
  KernelCase shuffle{.op_type = "Transpose", .inputs = {Arrives{{1, 4, 7, 5, 6}}}};
  shuffle.attributes["perm"] = Ints{0, 2, 1, 3, 4};
  expect_equals_reference(shuffle);
}

// What has no kernel but the reference is compared with values worked out by hand.
class ByHand : public ::testing::Test {
 protected:
  static std::vector<float> run(const graph::Node& node, const std::vector<TensorView>& inputs,
                                const Shape& output) {
    Tensor result({float32, output}, Layout::row_major);
    const MutableTensorView view = result.mutable_view();
    const auto done = reference::evaluate(node, 13, inputs, {&view, 1});
    if (!done) return {};
    return {result.values().begin(), result.values().end()};
  }
  static Tensor counting(const Shape& shape) {
    Tensor tensor({float32, shape}, Layout::row_major);
    std::iota(tensor.values().begin(), tensor.values().end(), 0.0F);
    return tensor;
  }
  static TensorView view_of(const graph::Constant& constant) {
    return {constant.type, Layout::row_major, constant.bytes.data()};
  }
};

TEST_F(ByHand, Slice) {
  const Tensor x = counting({3, 4});
  const auto starts = constant_of(Ints{0, -1});
  const auto ends = constant_of(Ints{2, -100});
  const auto axes = constant_of(Ints{0, 1});
  const auto steps = constant_of(Ints{1, -2});
  EXPECT_EQ(run(make_node("Slice"),
                {x.view(), view_of(starts), view_of(ends), view_of(axes), view_of(steps)}, {2, 2}),
            (std::vector<float>{3, 1, 7, 5}));
}

TEST_F(ByHand, SliceNeverLeavesItsInput) {
  const Tensor x = counting({3, 4});
  for (const std::int64_t start : {INT64_MIN, std::int64_t{-1000}, std::int64_t{1000}, INT64_MAX})
    for (const std::int64_t step : {INT64_MIN, std::int64_t{-1}, std::int64_t{1}, INT64_MAX}) {
      const auto starts = constant_of(Ints{start});
      const auto axes = constant_of(Ints{1});
      const auto steps = constant_of(Ints{step});
      // Whatever it gives: no access outside (the sanitizers watch).
      run(make_node("Slice"),
          {x.view(), view_of(starts), view_of(starts), view_of(axes), view_of(steps)}, {3, 4});
    }
}

TEST_F(ByHand, Gather) {
  const Tensor x = counting({2, 3});
  const auto indices = constant_of(Ints{2, -3, 0});
  graph::Node node = make_node("Gather");
  node.attributes["axis"] = std::int64_t{1};
  EXPECT_EQ(run(node, {x.view(), view_of(indices)}, {2, 3}),
            (std::vector<float>{2, 0, 0, 5, 3, 3}));
  for (const std::int64_t outside : {std::int64_t{3}, std::int64_t{-4}, INT64_MAX, INT64_MIN}) {
    const auto hostile = constant_of(Ints{0, outside, 0});
    EXPECT_TRUE(run(node, {x.view(), view_of(hostile)}, {2, 3}).empty()) << outside;
  }
}

TEST_F(ByHand, Pad) {
  const Tensor x = counting({2, 2});
  const auto pads = constant_of(Ints{1, 0, 0, 1});
  EXPECT_EQ(run(make_node("Pad"), {x.view(), view_of(pads)}, {3, 3}),
            (std::vector<float>{0, 0, 0, 0, 1, 0, 2, 3, 0}));
  const auto hostile = constant_of(Ints{INT64_MIN, 0, INT64_MIN, 1});
  EXPECT_TRUE(run(make_node("Pad"), {x.view(), view_of(hostile)}, {3, 3}).empty());
}

TEST_F(ByHand, Reduce) {
  const Tensor x = counting({2, 3});
  graph::Node node = make_node("ReduceMean");
  EXPECT_EQ(run(node, {x.view()}, {1, 1}), (std::vector<float>{2.5F}));
  node.attributes["axes"] = Ints{-1};
  EXPECT_EQ(run(node, {x.view()}, {2, 1}), (std::vector<float>{1, 4}));
  node.op_type = "ReduceSum";
  EXPECT_EQ(run(node, {x.view()}, {2}), (std::vector<float>{3, 12}));
  node.op_type = "ReduceMax";
  EXPECT_EQ(run(node, {x.view()}, {2}), (std::vector<float>{2, 5}));
}

TEST_F(ByHand, Split) {
  const Tensor x = counting({2, 3});
  Tensor a({float32, Shape{2, 1}}, Layout::row_major);
  Tensor b({float32, Shape{2, 2}}, Layout::row_major);
  graph::Node node = make_node("Split");
  node.attributes["axis"] = std::int64_t{1};
  const TensorView input = x.view();
  const std::array outputs{a.mutable_view(), b.mutable_view()};
  ASSERT_TRUE(reference::evaluate(node, 13, {&input, 1}, outputs));
  EXPECT_EQ(std::vector<float>(a.values().begin(), a.values().end()), (std::vector<float>{0, 3}));
  EXPECT_EQ(std::vector<float>(b.values().begin(), b.values().end()),
            (std::vector<float>{1, 2, 4, 5}));
}

}  // namespace
}  // namespace opsplit::operators::testing
