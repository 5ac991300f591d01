#include "tests/operators/cuda/cuda_case.hpp"

namespace opsplit::operators::cuda::testing {
namespace {

class Dense : public CudaKernelTest {};
INSTANTIATE_TEST_SUITE_P(Cuda, Dense, everywhere, name_of);

TEST_P(Dense, GemmTransposedScaledAndWithAddends) {
  for (const std::int64_t a : {0, 1})
    for (const std::int64_t b : {0, 1})
      for (const CaseInput& c :
           {absent(), known({7}), given({5, 1}), given({5, 7}), given({}), given({1, 7})})
        expect_reference({"Gemm",
                          {given(a == 1 ? Shape{9, 5} : Shape{5, 9}),
                           known(b == 1 ? Shape{7, 9} : Shape{9, 7}), c},
                          {{"transA", a}, {"transB", b}, {"alpha", 0.5F}, {"beta", 1.5F}}},
                         1e-4);
}

TEST_P(Dense, GemmWithPostOps) {
  expect_reference(
      {.op_type = "Gemm",
       .inputs = {given({3, 9}), known({9, 8}), known({8})},
       .post_ops = {post_op(Activation{ActivationFunction::relu}), post_op(BinaryFunction::add, 0)},
       .operands = {{3, 8}}},
      1e-4);
}

TEST_P(Dense, MatMulOfVectorsAndMatrices) {
  expect_reference({"MatMul", {given({4, 6}), given({6, 5})}}, 1e-4);
  expect_reference({"MatMul", {given({6}), given({6, 5})}}, 1e-4);
  expect_reference({"MatMul", {given({4, 6}), given({6})}}, 1e-4);
  expect_reference({"MatMul", {given({6}), given({6})}}, 1e-4);
  expect_reference({"MatMul", {given({1, 64}), known({64, 33})}}, 1e-4);
}

TEST_P(Dense, MatMulInBatches) {
  for (const auto& [a, b] : std::vector<std::pair<Shape, Shape>>{
           {{3, 4, 6}, {6, 5}},              // one b for all
           {{4, 6}, {3, 6, 5}},              // one a for all
           {{3, 4, 6}, {3, 6, 5}},           // each its own
           {{2, 3, 4, 6}, {2, 3, 6, 5}},     // two axes as one
           {{2, 3, 4, 6}, {3, 6, 5}},        // b again for each of the outer batches
           {{2, 1, 4, 6}, {1, 3, 6, 5}},     // both repeated
           {{2, 3, 4, 6}, {2, 1, 6, 5}},     // b again for each of the inner ones
           {{2, 1, 3, 4, 6}, {5, 3, 6, 2}},  // three
           {{1, 1, 4, 6}, {1, 6, 5}}}) {
    SCOPED_TRACE(to_string(a) + " " + to_string(b));
    expect_reference({"MatMul", {given(a), given(b)}}, 1e-4);
  }
}

TEST_P(Dense, MatMulWithPostOps) {
  expect_reference({.op_type = "MatMul",
                    .inputs = {given({2, 4, 6}), known({6, 8})},
                    .post_ops = {post_op(BinaryFunction::add, 0),
                                 post_op(Activation{ActivationFunction::sigmoid})},
                    .operands = {{8}}},
                   1e-4);
}

}  // namespace
}  // namespace opsplit::operators::cuda::testing
