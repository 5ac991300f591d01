#include <gmock/gmock.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "tests/operators/cuda/cuda_case.hpp"

namespace opsplit::operators::cuda::testing {
namespace {

using ::testing::HasSubstr;

class Movement : public CudaKernelTest {};
INSTANTIATE_TEST_SUITE_P(Cuda, Movement, everywhere, name_of);

TEST_P(Movement, ConcatAlongEveryAxis) {
  for (std::int64_t axis = 0; axis < 3; ++axis) {
    SCOPED_TRACE(axis);
    CudaCase test{"Concat", {}, {{"axis", axis}}};
    for (const std::int64_t size : {8, 0, 3, 16}) {  // packs, nothing, no packs
      Shape shape{2, 4, 8};
      shape[static_cast<std::size_t>(axis)] = size;
      test.inputs.push_back(given(shape));
    }
    expect_reference(test);
  }
  expect_reference(
      {"Concat", {given({2, 8, 4, 4}), given({2, 16, 4, 4})}, {{"axis", std::int64_t{1}}}});
}

TEST_P(Movement, TransposeByAnyPermutation) {
  std::mt19937 random(3);
  for (int i = 0; i < 20; ++i) {
    Ints permutation(1 + random() % 5);
    std::iota(permutation.begin(), permutation.end(), 0);
    std::shuffle(permutation.begin(), permutation.end(), random);
    std::vector<std::int64_t> dims;
    for (std::size_t axis = 0; axis < permutation.size(); ++axis)
      dims.push_back(random() % 2 == 0 ? 8 : 1 + static_cast<std::int64_t>(random() % 5));
    expect_reference({"Transpose", {given(*Shape::from(dims))}, {{"perm", permutation}}});
  }
  expect_reference({"Transpose", {given({3, 4, 5})}});
}

TEST_P(Movement, PadInEveryMode) {
  for (const char* mode : {"constant", "edge", "reflect", "wrap"}) {
    SCOPED_TRACE(mode);
    expect_reference({"Pad",
                      {given({3, 4, 5}), known_ints({1, 0, 2, 0, 3, 1})},
                      {{"mode", std::string(mode)}},
                      19});
    // Negative pads cut off.
    expect_reference(
        {"Pad", {given({6, 4}), known_ints({-2, 1, 1, -1})}, {{"mode", std::string(mode)}}, 19});
  }
}

TEST_P(Movement, PadWithAValueAndForSomeAxes) {
  expect_reference({"Pad", {given({3, 4}), known_ints({1, 1, 0, 2}), given({})}});
  expect_reference(
      {"Pad", {given({3, 4, 2}), known_ints({1, 2}), absent(), known_ints({-2})}, {}, 18});
}

TEST_P(Movement, PadByAttributesUntilOpset10) {
  // The value is float32's: in float16 the attribute is not looked at.
  if (GetParam().dtype == float32)
    expect_reference({"Pad", {given({3, 4})}, {{"pads", Ints{0, 1, 2, 0}}, {"value", 0.5F}}, 10});
  expect_reference({"Pad", {given({3, 4})}, {{"pads", Ints{0, 1, 2, 0}}}, 10});
}

TEST_P(Movement, PadsThatAreComputedAreNotSupported) {
  const graph::Node node = operators::testing::make_node("Pad", {}, {0, 1});
  const KernelSpec spec{.node = &node,
                        .opset = 13,
                        .inputs = {{.type = {float32, {3, 4}}}, {.type = {int64, {4}}}},
                        .outputs = {{.type = {float32, {3, 4}}}}};
  const auto kernel = make_cuda_kernel(spec, *gpu_.gpu);
  ASSERT_FALSE(kernel);
  EXPECT_THAT(kernel.error().message,
              HasSubstr("node node: Pad whose pads are not known before it runs"));
}

}  // namespace
}  // namespace opsplit::operators::cuda::testing
