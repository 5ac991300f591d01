// Softmax, LRN, BatchNormalization.
#include <gtest/gtest.h>

#include "tests/operators/kernel_case.hpp"

namespace opsplit::operators::testing {
namespace {

constexpr std::array layouts{Layout::row_major, Layout::nhwc, Layout::nChw8c, Layout::nChw16c};

TEST(Softmax, AxesBeforeAndSinceOpset13) {
  for (const std::int64_t opset : {9, 11, 13})
    for (const Shape& shape : {Shape{3, 10}, Shape{2, 5, 3, 4}, Shape{1, 1000}, Shape{7}})
      for (std::int64_t axis = -static_cast<std::int64_t>(shape.rank());
           axis < static_cast<std::int64_t>(shape.rank()); ++axis) {
        KernelCase test{.op_type = "Softmax", .inputs = {Arrives{shape}}, .opset = opset};
        test.attributes["axis"] = axis;
        expect_equals_reference(test, 1e-6);
      }
}

TEST(Softmax, DefaultAxis) {
  for (const std::int64_t opset : {9, 13})
    expect_equals_reference({.op_type = "Softmax", .inputs = {Arrives{{2, 5, 3}}}, .opset = opset},
                            1e-6);
}

TEST(Lrn, SizesInEveryLayout) {
  for (const Layout layout : layouts)
    for (const std::int64_t size : {1, 3, 5, 4})
      for (const std::int64_t channels : {3, 16, 32, 50}) {
        if (size % 2 == 0 && layout != Layout::row_major) continue;  // the reference computes it
        KernelCase test{.op_type = "LRN", .inputs = {Arrives{{1, channels, 6, 5}}}};
        test.layout = layout;
        test.attributes = {{"size", size}, {"alpha", 0.9F}, {"beta", 0.75F}, {"bias", 2.0F}};
        expect_equals_reference(test);
      }
}

TEST(BatchNormalization, EveryLayoutAndRank) {
  for (const Layout layout : layouts)
    for (const Shape& shape : {Shape{2, 19, 5, 6}, Shape{1, 32, 7, 7}, Shape{3, 5}, Shape{2, 4, 9},
                               Shape{1, 3, 2, 3, 4}}) {
      Tensor variance = random_tensor({shape[1]}, 4);
      for (float& value : variance.values()) value = 0.1F + value * value;
      KernelCase test{.op_type = "BatchNormalization", .inputs = {Arrives{shape}}};
      for (const std::uint32_t seed : {1, 2, 3})
        test.inputs.push_back(known_random({shape[1]}, seed));
      test.inputs.push_back(Known{constant_of(variance)});
      test.layout = layout;
      test.attributes["epsilon"] = 0.01F;
      expect_equals_reference(test);
      test.post_ops = {post_op(Activation{ActivationFunction::relu})};
      expect_equals_reference(test);
    }
}

TEST(BatchNormalization, ParametersThatArrive) {
  KernelCase test{.op_type = "BatchNormalization", .inputs = {Arrives{{2, 3, 4, 5}}}};
  for (int parameter = 0; parameter < 4; ++parameter) test.inputs.push_back(Arrives{{3}});
  test.attributes["epsilon"] = 2.0F;  // the variance that arrives may be negative
  test.post_ops = {post_op(Activation{ActivationFunction::relu})};
  expect_equals_reference(test);
}

}  // namespace
}  // namespace opsplit::operators::testing
