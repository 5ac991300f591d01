#include "operators/cuda/cuda_kernels.hpp"

#include <gmock/gmock.h>

#include "tests/operators/cuda/cuda_case.hpp"

namespace opsplit::operators::cuda::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string error_of(const std::string& op_type, const std::vector<Operand>& inputs,
                     const Operand& output, Attributes attributes = {}) {
  HostGpu gpu;
  graph::Node node = operators::testing::make_node(op_type, std::move(attributes));
  for (std::size_t i = 0; i < inputs.size(); ++i)
    node.inputs.push_back(static_cast<graph::ValueId>(i));
  const KernelSpec spec{.node = &node, .opset = 13, .inputs = inputs, .outputs = {output}};
  const auto kernel = make_cuda_kernel(spec, gpu);
  EXPECT_TRUE(kernel || kernel.error().code == ErrorCode::unsupported);
  return kernel ? "" : kernel.error().message;
}

TEST(CudaKernels, AnUnknownOperationIsNamed) {
  const Operand tensor{.type = {float32, {4}}};
  EXPECT_EQ(error_of("TopK", {tensor}, tensor), "node node: operation TopK has no kernel on a GPU");
}

TEST(CudaKernels, TypesThatAreNotComputedAreNamed) {
  const Operand integers{.type = {int64, {4}}};
  EXPECT_THAT(error_of("Add", {integers, integers}, integers),
              AllOf(HasSubstr("node node"), HasSubstr("Add of int64")));
  const Operand floats{.type = {float32, {4}}};
  const Operand halves{.type = {float16, {4}}};
  EXPECT_THAT(error_of("Add", {floats, halves}, floats), HasSubstr("Add of float32 and float16"));
  EXPECT_THAT(error_of("Cast", {floats}, integers), HasSubstr("Cast of int64"));
}

TEST(CudaKernels, OtherLayoutsAreRefused) {
  const Operand tensor{.type = {float32, {1, 8, 2, 2}}, .layout = Layout::nChw8c};
  EXPECT_THAT(error_of("Relu", {tensor}, tensor), HasSubstr("layout nChw8c"));
}

TEST(CudaKernels, ANothingGivenForNothingIsNoWork) {
  HostGpu gpu;
  const graph::Node node = operators::testing::make_node("Relu");
  const Operand nothing{.type = {float32, {0, 3}}};
  const auto kernel = make_cuda_kernel(
      {.node = &node, .opset = 13, .inputs = {nothing}, .outputs = {nothing}}, gpu);
  ASSERT_TRUE(kernel) << kernel.error().message;
  const DeviceView x{nothing.type};
  const MutableDeviceView y{nothing.type};
  EXPECT_TRUE((*kernel)->launch({&x, 1}, {&y, 1}, nullptr, nullptr));
  EXPECT_EQ(gpu.enqueued, 0U);
}

TEST(CudaKernels, BatchNormalizationInTrainingIsRefused) {
  const Operand x{.type = {float32, {2, 5}}};
  const Operand channels{.type = {float32, {5}}};
  EXPECT_EQ(error_of("BatchNormalization", {x, channels, channels, channels, channels}, x,
                     {{"training_mode", std::int64_t{1}}}),
            "node node: BatchNormalization in training mode");
}

TEST(CudaKernels, SumsOfMoreThanAPassTakesAreRefused) {
  const Operand tensor{.type = {float32, {4}}};
  EXPECT_THAT(error_of("Sum", std::vector<Operand>(7, tensor), tensor),
              HasSubstr("more than 6 operands"));
}

}  // namespace
}  // namespace opsplit::operators::cuda::testing
