#include "tests/operators/cuda/cuda_case.hpp"

namespace opsplit::operators::cuda::testing {
namespace {

class SoftmaxOnGpu : public CudaKernelTest {};
INSTANTIATE_TEST_SUITE_P(Cuda, SoftmaxOnGpu, everywhere, name_of);

TEST_P(SoftmaxOnGpu, OverAnyAxis) {
  for (std::int64_t axis = -3; axis < 3; ++axis)
    expect_reference({"Softmax", {given({3, 5, 40})}, {{"axis", axis}}});
  expect_reference({"Softmax", {given({2, 1000})}});
}

TEST_P(SoftmaxOnGpu, OverAMatrixUntilOpset12) {
  expect_reference({"Softmax", {given({2, 3, 4})}, {}, 11});
  expect_reference({"Softmax", {given({2, 3, 4})}, {{"axis", std::int64_t{2}}}, 11});
}

}  // namespace
}  // namespace opsplit::operators::cuda::testing
