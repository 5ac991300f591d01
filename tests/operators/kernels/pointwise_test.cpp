// Activations, and operations of two or more tensors.
#include <gtest/gtest.h>

#include "tests/operators/kernel_case.hpp"

namespace opsplit::operators::testing {
namespace {

constexpr std::array layouts{Layout::row_major, Layout::nhwc, Layout::nChw8c, Layout::nChw16c};

TEST(Activation, EveryFunctionInEveryLayout) {
  for (const Layout layout : layouts)
    for (const char* op_type : {"Relu", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh",
                                "Elu", "Exp", "Abs", "Neg"})
      for (const Shape& shape : {Shape{2, 19, 5, 3}, Shape{1, 32, 4, 4}}) {
        KernelCase test{.op_type = op_type, .inputs = {Arrives{shape}}, .opset = 14};
        test.layout = layout;
        expect_equals_reference(test, 1e-5);
      }
}

TEST(Activation, ParametersAndRanks) {
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{1001}, Shape{2, 3, 1, 1, 2, 2, 1, 3}})
    for (const char* op_type : {"LeakyRelu", "Elu", "HardSigmoid"}) {
      KernelCase test{.op_type = op_type, .inputs = {Arrives{shape}}};
      test.attributes["alpha"] = 0.3F;
      expect_equals_reference(test);
    }
}

TEST(Activation, ErfIsComputedByTheReference) {
  expect_equals_reference({.op_type = "Erf", .inputs = {Arrives{{3, 4}}}});
}

TEST(Activation, ClipBoundsAsAttributesAndInputs) {
  KernelCase attributes{.op_type = "Clip", .inputs = {Arrives{{3, 40}}}, .opset = 6};
  attributes.attributes = {{"min", -0.25F}, {"max", 0.5F}};
  expect_equals_reference(attributes);
  const Known low = known_random({}, 1);
  for (const auto& inputs : {std::vector<CaseInput>{Arrives{{3, 40}}, low},
                             std::vector<CaseInput>{Arrives{{3, 40}}, Absent{}, low},
                             std::vector<CaseInput>{Arrives{{3, 40}}},
                             std::vector<CaseInput>{Arrives{{3, 40}}, Arrives{{}}}})
    expect_equals_reference({.op_type = "Clip", .inputs = inputs});
}

TEST(Activation, ClipBoundsTheWrongWayRoundGiveTheUpperOne) {
  KernelCase test{.op_type = "Clip", .inputs = {Arrives{{3, 40}}}, .opset = 6};
  test.attributes = {{"min", 0.5F}, {"max", -0.25F}};
  expect_equals_reference(test);
}

TEST(Binary, SameShapesInEveryLayout) {
  for (const Layout layout : layouts)
    for (const char* op_type : {"Add", "Sub", "Mul", "Max", "Min"})
      for (const Shape& shape : {Shape{2, 19, 5, 3}, Shape{1, 32, 4, 4}}) {
        KernelCase test{.op_type = op_type, .inputs = {Arrives{shape}, Arrives{shape}}};
        test.layout = layout;
        expect_equals_reference(test);
      }
}

TEST(Binary, Broadcasts) {
  struct Shapes {
    Shape a, b;
  };
  for (const char* op_type : {"Add", "Sub", "Mul"})
    for (const auto& [a, b] :
         {Shapes{{2, 3, 4}, {4}}, Shapes{{2, 3, 4}, {}}, Shapes{{2, 3, 4}, {3, 1}},
          Shapes{{4}, {2, 3, 4}}, Shapes{{2, 1, 4}, {1, 3, 1}}, Shapes{{}, {2, 2}}, Shapes{{}, {}},
          Shapes{{1, 8, 5, 5}, {1, 8, 1, 1}}, Shapes{{2, 8, 5, 5}, {2, 8, 1, 1}},
          Shapes{{2, 8, 5, 5}, {8, 1, 1}}, Shapes{{2, 3, 1, 2, 1, 2, 2, 2}, {2, 1, 2}}})
      expect_equals_reference({.op_type = op_type, .inputs = {Arrives{a}, Arrives{b}}});
}

TEST(Binary, AnImageAndOneValuePerChannelInEveryLayout) {
  for (const Layout layout : layouts)
    for (const std::int64_t channels : {16, 19}) {
      KernelCase test{.op_type = "Mul",
                      .inputs = {Arrives{{1, channels, 5, 5}}, Arrives{{1, channels, 1, 1}}}};
      test.layout = layout;
      expect_equals_reference(test);
    }
}

TEST(Binary, ManyOperands) {
  for (const char* op_type : {"Sum", "Max", "Min"})
    for (std::size_t count = 1; count <= 5; ++count) {
      KernelCase test{.op_type = op_type};
      for (std::size_t i = 0; i < count; ++i)
        test.inputs.push_back(Arrives{i % 2 == 0 ? Shape{3, 4, 5} : Shape{5}});
      expect_equals_reference(test);
      test.post_ops = {post_op(Activation{ActivationFunction::relu})};
      expect_equals_reference(test);
    }
}

TEST(Binary, Divides) {
  // A divisor away from zero.
  Tensor divisor = random_tensor({3, 5}, 8);
  for (float& value : divisor.values()) value = value < 0 ? value - 1 : value + 1;
  expect_equals_reference(
      {.op_type = "Div", .inputs = {Arrives{{2, 3, 5}}, Known{constant_of(divisor)}}});
  expect_equals_reference(
      {.op_type = "Div", .inputs = {Arrives{{5}}, Known{constant_of(divisor)}}});
}

}  // namespace
}  // namespace opsplit::operators::testing
