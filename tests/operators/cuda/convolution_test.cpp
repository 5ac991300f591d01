#include <gmock/gmock.h>

#include "tests/operators/cuda/cuda_case.hpp"

namespace opsplit::operators::cuda::testing {
namespace {

class ConvolutionOnGpu : public CudaKernelTest {
 protected:
  // With and without a library that fuses.
  void expect_reference(const CudaCase& test) {
    CudaKernelTest::expect_reference(test, 1e-4);
    if (auto* host = dynamic_cast<HostGpu*>(gpu_.gpu.get())) {
      host->fuses = false;
      CudaKernelTest::expect_reference(test, 1e-4);
      host->fuses = true;
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Cuda, ConvolutionOnGpu, everywhere, name_of);

TEST_P(ConvolutionOnGpu, OfOneToThreeAxesWithAndWithoutBias) {
  expect_reference({"Conv", {given({2, 3, 11}), known({4, 3, 3}), known({4})}});
  expect_reference({"Conv", {given({2, 3, 9, 8}), known({4, 3, 3, 2})}});
  expect_reference({"Conv", {given({2, 3, 9, 8}), known({4, 3, 3, 3}), known({4})}});
  expect_reference({"Conv", {given({1, 2, 5, 6, 7}), given({3, 2, 2, 3, 2}), given({3})}});
}

TEST_P(ConvolutionOnGpu, GroupsStridesAndDilations) {
  expect_reference(
      {"Conv",
       {given({1, 6, 9, 9}), known({9, 2, 3, 3}), known({9})},
       {{"group", std::int64_t{3}}, {"strides", Ints{2, 1}}, {"dilations", Ints{1, 2}}}});
  expect_reference({"Conv",
                    {given({1, 8, 7, 7}), known({8, 1, 3, 3})},
                    {{"group", std::int64_t{8}}, {"pads", Ints{1, 1, 1, 1}}}});
}

TEST_P(ConvolutionOnGpu, PadsThatAreAlike) {
  expect_reference(
      {"Conv", {given({1, 3, 8, 9}), known({4, 3, 3, 3})}, {{"pads", Ints{1, 2, 1, 2}}}});
  // The last windows do not reach the padding's end.
  expect_reference({"Conv",
                    {given({1, 3, 8, 8}), known({4, 3, 3, 3}), known({4})},
                    {{"pads", Ints{1, 1, 1, 1}}, {"strides", Ints{2, 2}}}});
  expect_reference({"Conv", {given({1, 3, 8, 8}), known({4, 3, 1, 1})}, {{"strides", Ints{3, 3}}}});
}

TEST_P(ConvolutionOnGpu, PadsThatDiffer) {
  expect_reference({"Conv",
                    {given({2, 3, 7, 8}), known({4, 3, 3, 2}), known({4})},
                    {{"pads", Ints{0, 1, 2, 0}}}});
  expect_reference({"Conv",
                    {given({1, 3, 8, 8}), known({4, 3, 3, 3})},
                    {{"pads", Ints{0, 0, 1, 1}}, {"strides", Ints{2, 2}}}});
  expect_reference({"Conv",
                    {given({1, 2, 10}), known({3, 2, 4})},
                    {{"pads", Ints{2, 0}}, {"strides", Ints{3}}}});
}

TEST_P(ConvolutionOnGpu, PostOps) {
  const PostOp relu = post_op(Activation{ActivationFunction::relu});
  const PostOp sigmoid = post_op(Activation{ActivationFunction::sigmoid});
  const PostOp add = post_op(BinaryFunction::add, 0);
  const PostOp multiply = post_op(BinaryFunction::multiply, 0);
  const auto with = [](std::vector<PostOp> ops, std::vector<Shape> operands) {
    return CudaCase{.op_type = "Conv",
                    .inputs = {given({2, 3, 6, 6}), known({4, 3, 3, 3}), known({4})},
                    .post_ops = std::move(ops),
                    .operands = std::move(operands)};
  };
  const Shape result{2, 4, 4, 4};
  const Shape channels{4, 1, 1};
  expect_reference(with({relu}, {}));
  expect_reference(with({sigmoid}, {}));
  expect_reference(with({add}, {result}));
  expect_reference(with({add, relu}, {result}));
  expect_reference(with({relu, add}, {result}));
  expect_reference(with({add, relu}, {channels}));
  expect_reference(with({add, sigmoid, multiply}, {result, channels}));
  expect_reference(with({relu, multiply, add}, {channels, {1}}));
}

// What the library fuses is no work of ours, and the rest is one pass.
TEST(ConvolutionOnHost, FusesWhatTheLibraryCan) {
  const graph::Node node = operators::testing::make_node("Conv", {}, {0, 1, 2});
  const TensorType y{float32, {1, 4, 4, 4}};
  KernelSpec spec{.node = &node,
                  .opset = 13,
                  .inputs = {{.type = {float32, {1, 3, 6, 6}}},
                             {.type = {float32, {4, 3, 3, 3}}},
                             {.type = {float32, {4}}},
                             {.type = y}},
                  .outputs = {{.type = y}}};
  const auto launched = [&](bool fuses) -> std::size_t {
    HostGpu gpu;
    gpu.fuses = fuses;
    const auto kernel = make_cuda_kernel(spec, gpu);
    if (!kernel) return 1000;
    std::vector<std::byte> zeros(16384);
    std::vector<std::shared_ptr<std::byte>> memory;
    std::vector<DeviceView> inputs;
    for (const Operand& input : spec.inputs) {
      memory.push_back(to_device(gpu, zeros));
      inputs.push_back({input.type, memory.back().get()});
    }
    const auto place = to_device(gpu, zeros);
    const MutableDeviceView output{y, place.get()};
    const auto workspace = *gpu.allocate((*kernel)->workspace_bytes());
    EXPECT_TRUE((*kernel)->launch(inputs, {&output, 1}, workspace.get(), nullptr));
    return gpu.enqueued;
  };
  spec.post_ops = {post_op(BinaryFunction::add, 3), post_op(Activation{ActivationFunction::relu})};
  EXPECT_EQ(launched(true), 0U);
  EXPECT_EQ(launched(false), 1U);
  spec.post_ops.push_back(post_op(Activation{ActivationFunction::sigmoid}));
  EXPECT_EQ(launched(true), 1U);
}

}  // namespace
}  // namespace opsplit::operators::cuda::testing
