#include <gtest/gtest.h>

#include "tests/operators/kernel_case.hpp"

namespace opsplit::operators::testing {
namespace {

using Ints = std::vector<std::int64_t>;

constexpr std::array layouts{Layout::row_major, Layout::nhwc, Layout::nChw8c, Layout::nChw16c};

struct Shapes {
  Shape input, weights;
  std::int64_t groups = 1;
};

KernelCase convolution(const Shapes& shapes, bool bias = true) {
  KernelCase test{.op_type = "Conv",
                  .inputs = {Arrives{shapes.input}, known_random(shapes.weights)}};
  if (bias) test.inputs.push_back(known_random({shapes.weights[0]}, 5));
  test.attributes["group"] = shapes.groups;
  return test;
}

TEST(Convolution, OddSizesInEveryLayout) {
  for (const Layout layout : layouts)
    for (const Shapes& shapes :
         {Shapes{{1, 3, 13, 11}, {17, 3, 3, 3}}, Shapes{{2, 16, 7, 9}, {32, 16, 1, 1}},
          Shapes{{1, 5, 6, 6}, {1, 5, 5, 3}}, Shapes{{1, 1, 1, 1}, {1, 1, 1, 1}},
          Shapes{{3, 33, 5, 4}, {7, 33, 2, 2}}})
      for (const bool bias : {true, false}) {
        KernelCase test = convolution(shapes, bias);
        test.layout = layout;
        expect_equals_reference(test);
      }
}

TEST(Convolution, StridesPadsAndDilations) {
  for (const Layout layout : layouts)
    for (const Ints& strides : {Ints{1, 1}, Ints{2, 1}, Ints{3, 2}})
      for (const Ints& pads : {Ints{0, 0, 0, 0}, Ints{1, 2, 2, 0}, Ints{0, 0, 1, 1}})
        for (const Ints& dilations : {Ints{1, 1}, Ints{2, 3}}) {
          KernelCase test = convolution({{1, 6, 13, 15}, {18, 6, 3, 3}});
          test.layout = layout;
          test.attributes["strides"] = strides;
          test.attributes["pads"] = pads;
          test.attributes["dilations"] = dilations;
          expect_equals_reference(test);
        }
}

TEST(Convolution, PadsBeyondTheWindow) {
  for (const Layout layout : layouts) {
    KernelCase test = convolution({{1, 4, 5, 5}, {16, 4, 2, 2}});
    test.layout = layout;
    test.attributes["pads"] = Ints{3, 2, 4, 3};
    expect_equals_reference(test);
  }
}

TEST(Convolution, AutoPad) {
  for (const char* pad : {"SAME_UPPER", "SAME_LOWER", "VALID"})
    for (const std::int64_t stride : {1, 2, 3}) {
      KernelCase test = convolution({{1, 4, 10, 7}, {8, 4, 4, 3}});
      test.attributes["auto_pad"] = std::string(pad);
      test.attributes["strides"] = Ints{stride, stride};
      expect_equals_reference(test);
    }
}

TEST(Convolution, Groups) {
  for (const Layout layout : layouts)
    for (const Shapes& shapes :
         {Shapes{{1, 12, 9, 9}, {20, 3, 3, 3}, 4}, Shapes{{1, 32, 6, 5}, {32, 16, 1, 1}, 2},
          Shapes{{1, 24, 7, 7}, {112, 6, 1, 1}, 4},
          // Depthwise, in whole blocks and not, and with two outputs per input.
          Shapes{{2, 32, 8, 8}, {32, 1, 3, 3}, 32}, Shapes{{1, 19, 8, 7}, {19, 1, 3, 3}, 19},
          Shapes{{1, 6, 8, 8}, {12, 1, 3, 3}, 6}}) {
      KernelCase test = convolution(shapes);
      test.layout = layout;
      test.attributes["strides"] = Ints{2, 1};
      test.attributes["pads"] = Ints{1, 1, 1, 1};
      expect_equals_reference(test);
    }
}

TEST(Convolution, OneAndThreeSpatialAxes) {
  KernelCase line = convolution({{2, 5, 17}, {4, 5, 3}});
  line.attributes["strides"] = Ints{2};
  line.attributes["pads"] = Ints{1, 0};
  expect_equals_reference(line);
  KernelCase volume = convolution({{1, 3, 5, 6, 7}, {4, 3, 2, 3, 3}});
  volume.attributes["dilations"] = Ints{1, 2, 1};
  expect_equals_reference(volume);
}

TEST(Convolution, WeightsThatArrive) {
  KernelCase test{.op_type = "Conv",
                  .inputs = {Arrives{{1, 4, 6, 6}}, Arrives{{8, 2, 3, 3}}, Arrives{{8}}}};
  test.attributes["group"] = std::int64_t{2};
  expect_equals_reference(test);
}

TEST(Convolution, PostOps) {
  const Activation relu{ActivationFunction::relu};
  const Activation clip{ActivationFunction::clip, -0.5F, 0.75F};
  const Activation hard_swish{ActivationFunction::hard_swish, 1.0F / 6.0F, 0.5F};
  const Activation hard_sigmoid{ActivationFunction::hard_sigmoid, 0.2F, 0.5F};
  const Activation sigmoid{ActivationFunction::sigmoid};
  const PostOp add = post_op(BinaryFunction::add, 0);
  const PostOp multiply = post_op(BinaryFunction::multiply, 0);
  for (const Layout layout : layouts)
    for (const Shapes& shapes :
         {Shapes{{1, 16, 7, 6}, {19, 16, 1, 1}}, Shapes{{1, 8, 7, 6}, {32, 8, 2, 2}},
          Shapes{{1, 32, 7, 6}, {32, 1, 3, 3}, 32}}) {
      KernelCase test = convolution(shapes);
      test.layout = layout;
      const std::int64_t height = 7 - shapes.weights[2] + 1;
      const std::int64_t width = 6 - shapes.weights[3] + 1;
      const Shape output{1, shapes.weights[0], height, width};
      const Shape per_channel{1, shapes.weights[0], 1, 1};
      test.operands = {output, per_channel};
      for (const auto& ops : {std::vector{post_op(relu)}, std::vector{post_op(clip)},
                              std::vector{post_op(hard_swish)}, std::vector{post_op(hard_sigmoid)},
                              std::vector{add, post_op(relu)},
                              std::vector{post_op(sigmoid), add, multiply, post_op(relu)}}) {
        test.post_ops = ops;
        expect_equals_reference(test, 1e-4);
      }
    }
}

TEST(Convolution, EmptyTensors) {
  expect_equals_reference(convolution({{0, 3, 5, 5}, {4, 3, 3, 3}}));
  // No input channels: only the bias is left.
  expect_equals_reference(convolution({{1, 0, 5, 5}, {4, 0, 3, 3}}));
}

TEST(Convolution, LayoutsAreOnesThatTheKernelTakes) {
  for (const Shapes& shapes :
       {Shapes{{1, 3, 32, 32}, {16, 3, 3, 3}}, Shapes{{1, 16, 8, 8}, {32, 16, 1, 1}},
        Shapes{{1, 24, 8, 8}, {112, 6, 1, 1}, 4}, Shapes{{1, 24, 8, 8}, {24, 1, 3, 3}, 24}})
    for (const Layout preferred : layouts) {
      const auto weights = known_random(shapes.weights);
      const graph::Node node = make_node("Conv", {{"group", shapes.groups}}, {0, 1}, {2});
      const std::int64_t shrink = shapes.weights[2] - 1;
      KernelSpec spec{.node = &node, .opset = 13};
      spec.inputs = {{.type = {float32, shapes.input}},
                     {.type = weights.constant.type, .constant = &weights.constant}};
      spec.outputs = {{.type = {float32, Shape{1, shapes.weights[0], shapes.input[2] - shrink,
                                               shapes.input[3] - shrink}}}};
      const auto [src, dst] = convolution_layouts(spec, preferred);
      spec.inputs[0].layout = src;
      spec.outputs[0].layout = dst;
      HeapWeights store;
      const auto kernel = make_kernel(spec, {&store, std::make_shared<Scratchpad>()});
      EXPECT_TRUE(kernel) << kernel.error().message;
    }
}

}  // namespace
}  // namespace opsplit::operators::testing
