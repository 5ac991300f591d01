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

KernelCase transposed(const Shapes& shapes, bool bias = true) {
  KernelCase test{.op_type = "ConvTranspose",
                  .inputs = {Arrives{shapes.input}, known_random(shapes.weights)}};
  if (bias) test.inputs.push_back(known_random({shapes.weights[1] * shapes.groups}, 5));
  test.attributes["group"] = shapes.groups;
  return test;
}

TEST(TransposedConvolution, OddSizesInEveryLayout) {
  for (const Layout layout : layouts)
    for (const Shapes& shapes :
         {Shapes{{1, 3, 7, 5}, {3, 17, 3, 3}}, Shapes{{2, 16, 5, 6}, {16, 32, 2, 2}},
          Shapes{{1, 5, 6, 6}, {5, 1, 5, 3}}, Shapes{{1, 1, 1, 1}, {1, 1, 1, 1}},
          Shapes{{1, 12, 5, 5}, {12, 5, 3, 2}, 4}, Shapes{{1, 16, 4, 5}, {16, 1, 3, 3}, 16}})
      for (const bool bias : {true, false}) {
        KernelCase test = transposed(shapes, bias);
        test.layout = layout;
        expect_equals_reference(test);
      }
}

TEST(TransposedConvolution, StridesPadsDilationsAndOutputPadding) {
  for (const Layout layout : layouts)
    for (const Ints& strides : {Ints{1, 1}, Ints{2, 2}, Ints{3, 2}})
      for (const Ints& pads : {Ints{0, 0, 0, 0}, Ints{1, 2, 2, 1}})
        for (const Ints& dilations : {Ints{1, 1}, Ints{2, 1}})
          for (const Ints& beyond : {Ints{0, 0}, Ints{0, 1}}) {
            // Elements that no window reaches: the reference's work.
            if (beyond[1] > pads[3] && layout != Layout::row_major) continue;
            KernelCase test = transposed({{1, 6, 7, 6}, {6, 18, 3, 3}});
            test.layout = layout;
            test.attributes["strides"] = strides;
            test.attributes["pads"] = pads;
            test.attributes["dilations"] = dilations;
            test.attributes["output_padding"] = beyond;
            expect_equals_reference(test);
          }
}

// Windows side by side are products of matrices.
TEST(TransposedConvolution, Tiling) {
  for (const Layout layout : layouts)
    for (const Shapes& shapes :
         {Shapes{{1, 24, 9, 10}, {24, 24, 2, 2}}, Shapes{{2, 24, 9, 10}, {24, 1, 2, 2}},
          Shapes{{1, 7, 4, 3}, {7, 5, 3, 2}}})
      for (const bool bias : {true, false}) {
        KernelCase test = transposed(shapes, bias);
        test.layout = layout;
        test.attributes["strides"] = Ints{shapes.weights[2], shapes.weights[3]};
        expect_equals_reference(test);
        test.post_ops = {post_op(Activation{ActivationFunction::relu}),
                         post_op(Activation{ActivationFunction::sigmoid})};
        expect_equals_reference(test, 1e-4);
        test.operands = {Shape{1, shapes.weights[1], 1, 1}};
        test.post_ops = {post_op(Activation{ActivationFunction::relu}),
                         post_op(BinaryFunction::multiply, 0)};
        expect_equals_reference(test, 1e-4);
      }
}

TEST(TransposedConvolution, OneAndThreeSpatialAxes) {
  KernelCase line = transposed({{2, 5, 9}, {5, 4, 3}});
  line.attributes["strides"] = Ints{2};
  line.attributes["pads"] = Ints{1, 0};
  expect_equals_reference(line);
  expect_equals_reference(transposed({{1, 3, 3, 4, 5}, {3, 4, 2, 3, 3}}));
}

TEST(TransposedConvolution, WeightsThatArrive) {
  KernelCase test{.op_type = "ConvTranspose",
                  .inputs = {Arrives{{1, 4, 6, 6}}, Arrives{{4, 8, 2, 2}}, Arrives{{8}}}};
  test.attributes["strides"] = Ints{2, 2};
  expect_equals_reference(test);
}

TEST(TransposedConvolution, EmptyTensors) {
  expect_equals_reference(transposed({{0, 3, 5, 5}, {3, 4, 3, 3}}));
  // No input channels: only the bias is left.
  expect_equals_reference(transposed({{1, 0, 5, 5}, {0, 4, 3, 3}}));
}

}  // namespace
}  // namespace opsplit::operators::testing
