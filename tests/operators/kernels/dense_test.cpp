#include <gtest/gtest.h>

#include "tests/operators/kernel_case.hpp"

namespace opsplit::operators::testing {
namespace {

TEST(Gemm, TransposesScalesAndAddends) {
  for (const std::int64_t transpose_a : {0, 1})
    for (const std::int64_t transpose_b : {0, 1})
      for (const float alpha : {1.0F, 0.5F})
        for (const float beta : {1.0F, 2.0F})
          for (const Shape& addend : {Shape{}, Shape{7}, Shape{1, 7}, Shape{5, 1}, Shape{5, 7}})
            for (const bool known : {true, false}) {
              const Shape a = transpose_a != 0 ? Shape{9, 5} : Shape{5, 9};
              const Shape b = transpose_b != 0 ? Shape{7, 9} : Shape{9, 7};
              KernelCase test{.op_type = "Gemm", .inputs = {Arrives{a}}};
              if (known)
                test.inputs.insert(test.inputs.end(), {known_random(b), known_random(addend, 3)});
              else
                test.inputs.insert(test.inputs.end(), {Arrives{b}, Arrives{addend}});
              test.attributes = {{"transA", transpose_a},
                                 {"transB", transpose_b},
                                 {"alpha", alpha},
                                 {"beta", beta}};
              expect_equals_reference(test);
            }
}

TEST(Gemm, OneRowAndNoAddend) {
  for (const std::int64_t columns : {1, 3, 16, 1000}) {
    KernelCase test{.op_type = "Gemm",
                    .inputs = {Arrives{{1, 33}}, known_random({columns, 33}), Absent{}}};
    test.attributes["transB"] = std::int64_t{1};
    expect_equals_reference(test);
  }
}

TEST(Gemm, PostOps) {
  KernelCase test{.op_type = "Gemm",
                  .inputs = {Arrives{{3, 33}}, known_random({33, 20}), known_random({20}, 4)}};
  test.operands = {Shape{3, 20}, Shape{20}};
  test.post_ops = {post_op(BinaryFunction::add, 0), post_op(Activation{ActivationFunction::relu}),
                   post_op(BinaryFunction::multiply, 0)};
  expect_equals_reference(test);
  test.attributes["beta"] = 0.5F;  // the slow way: each post-op is a pass of its own
  expect_equals_reference(test);
}

TEST(MatMul, ShapesOfNumpy) {
  struct Shapes {
    Shape a, b;
  };
  for (const auto& [a, b] :
       {Shapes{{3, 4}, {4, 5}}, Shapes{{4}, {4, 5}}, Shapes{{3, 4}, {4}}, Shapes{{4}, {4}},
        Shapes{{2, 3, 4}, {4, 5}}, Shapes{{2, 3, 4}, {2, 4, 5}}, Shapes{{2, 1, 3, 4}, {6, 4, 5}},
        Shapes{{3, 4}, {2, 4, 5}}, Shapes{{2, 3, 4}, {4}}, Shapes{{4}, {2, 4, 5}},
        Shapes{{1, 3, 4}, {1, 4, 5}}, Shapes{{2, 6, 3, 1}, {2, 6, 1, 5}}})
    for (const bool known : {true, false}) {
      KernelCase test{.op_type = "MatMul", .inputs = {Arrives{a}}};
      test.inputs.push_back(known ? CaseInput(known_random(b)) : CaseInput(Arrives{b}));
      expect_equals_reference(test);
    }
}

TEST(MatMul, PostOps) {
  for (const Shape& operand : {Shape{5}, Shape{2, 3, 5}, Shape{3, 1}})
    for (const bool known : {true, false}) {
      KernelCase test{.op_type = "MatMul", .inputs = {Arrives{{2, 3, 4}}}};
      test.inputs.push_back(known ? CaseInput(known_random({4, 5})) : CaseInput(Arrives{{4, 5}}));
      test.operands = {operand};
      test.post_ops = {post_op(BinaryFunction::add, 0),
                       post_op(Activation{ActivationFunction::relu})};
      expect_equals_reference(test);
    }
}

TEST(MatMul, NothingToAddUpIsZero) {
  expect_equals_reference({.op_type = "MatMul", .inputs = {Arrives{{3, 0}}, Arrives{{0, 5}}}});
}

}  // namespace
}  // namespace opsplit::operators::testing
