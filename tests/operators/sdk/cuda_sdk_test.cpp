// The SDK's GPU side, on memory and a driver that are this machine's. What its launches do on a GPU is for
// examples/custom-cuda-kernel to test.
#include <gmock/gmock.h>

#include <algorithm>
#include <numeric>
#include <opsplit/cuda_harness.hpp>

#include "operators/cuda/cuda_program.hpp"
#include "operators/sdk/cuda_adapter.hpp"
#include "tests/ipc/host_device.hpp"
#include "tests/operators/cuda/host_gpu.hpp"
#include "tests/operators/small_graph.hpp"

namespace opsplit::sdk {
namespace {

using operators::cuda::CudaProgram;
using operators::cuda::DeviceConstants;
using operators::cuda::DeviceView;
using operators::cuda::MutableDeviceView;
using operators::cuda::testing::HostGpu;
using operators::testing::SmallGraph;
using test::HostDevice;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

// What CUDA's runtime would keep.
const char* pending_error = nullptr;
const char* take_pending_error() { return std::exchange(pending_error, nullptr); }

enum class Deed {
  good,
  changes_input,
  writes_behind,
  is_refused,
  throws,
  is_refused_and_throws,
  wants_all
};
Deed deed = Deed::good;
cudaStream_t launched_on = nullptr;

// y = x + the sum of what is in its constant input. "Device" memory is the host's here.
class AddSum : public CudaKernel {
 public:
  explicit AddSum(const Node& node) {
    if (node.inputs.size() != 2 || !node.inputs[1].constant.present())
      throw std::runtime_error("a constant is missing");
    const auto constant = node.inputs[1].constant.as<float>();
    sum_ = std::accumulate(constant.begin(), constant.end(), 0.0F);
  }
  [[nodiscard]] std::size_t workspace_bytes() const override {
    return deed == Deed::wants_all ? SIZE_MAX : sizeof(float);
  }
  void launch(DeviceInputs inputs, DeviceOutputs outputs, const CudaContext& context) override {
    launched_on = context.stream();
    if (deed == Deed::is_refused || deed == Deed::is_refused_and_throws)
      pending_error = "invalid configuration argument";
    if (deed == Deed::throws || deed == Deed::is_refused_and_throws)
      throw std::domain_error("not this one");
    if (deed == Deed::changes_input) const_cast<float*>(inputs[0].as<float>())[0] = 99;
    const std::size_t count = outputs[0].elements();
    if (deed == Deed::writes_behind) outputs[0].as<float>()[count] = 99;
    auto* sum = reinterpret_cast<float*>(context.workspace());
    *sum = sum_;
    for (std::size_t i = 0; i < count; ++i)
      outputs[0].as<float>()[i] = inputs[0].as<float>()[i] + *sum;
  }

 private:
  float sum_ = 0;
};

class CudaSdk : public testing::Test {
 protected:
  void SetUp() override {
    deed = Deed::good;
    pending_error = nullptr;
  }

  // x -> Neg -> AddSum, in the shape of Add -> Neg; on x = {1, 2}.
  Result<std::vector<float>> run() {
    SmallGraph small;
    const auto x = small.node("Neg", {small.input("x", {2})}, "before");
    small.output(
        small.node("Neg", {small.node("Add", {x, small.random("c", {1})}, "sum")}, "after"));
    const graph::Graph& graph = small.graph();
    const auto custom = custom_cuda_kernels(kernels, take_pending_error);
    OPSPLIT_TRY(const auto program,
                CudaProgram::compile(graph, std::vector<std::string>{"before", "sum", "after"},
                                     {{"x"}}, {{"after"}}, gpu, constants, custom));
    EXPECT_EQ(program->steps(), 3u) << "something was fused with it";
    const std::vector<float> from{1, 2};
    std::vector<float> to(2);
    OPSPLIT_TRY(const auto workspace, gpu.allocate(program->workspace_bytes()));
    const TensorType type{float32, {2}};
    const DeviceView input{type, from.data()};
    const MutableDeviceView output{type, to.data()};
    OPSPLIT_CHECK(program->run({&input, 1}, {&output, 1}, workspace.get(), stream));
    return to;
  }

  const CudaKernels kernels{{"Add", make<AddSum>}};
  HostGpu gpu;
  DeviceConstants constants{gpu};
  const cudaStream_t stream = reinterpret_cast<cudaStream_t>(0x10);
};

TEST_F(CudaSdk, AKernelIsAStepOfItsOwnOnTheOperatorsStream) {
  const auto y = run();
  ASSERT_TRUE(y) << y.error().message;
  EXPECT_FLOAT_EQ((*y)[1] - (*y)[0], 1);  // -(-x + c)
  EXPECT_EQ(launched_on, stream);
}

TEST_F(CudaSdk, ALaunchThatCudaRefusesFailsTheRequest) {
  deed = Deed::is_refused;
  const auto refused = run();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::operator_failed);
  EXPECT_EQ(refused.error().message, "node sum: CUDA: invalid configuration argument");
  deed = Deed::good;
  EXPECT_TRUE(run()) << "it is nobody else's";
}

TEST_F(CudaSdk, AnExceptionTakesCudasErrorWithIt) {
  deed = Deed::is_refused_and_throws;
  EXPECT_EQ(run().error().message, "node sum: not this one");
  deed = Deed::good;
  EXPECT_TRUE(run()) << "it is nobody else's";
}

TEST_F(CudaSdk, MoreMemoryThanThereAreNumbersIsRefused) {
  deed = Deed::wants_all;
  const auto refused = run();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::unsupported);
  EXPECT_THAT(refused.error().message, HasSubstr("wants 18446744073709551615 bytes"));
}

TEST_F(CudaSdk, ExceptionsAreErrorsThatNameTheNode) {
  deed = Deed::throws;
  EXPECT_EQ(run().error().message, "node sum: not this one");
  SmallGraph small;
  small.output(small.node("Add", {small.input("x", {2}), small.input("y", {2})}, "sum"));
  const auto custom = custom_cuda_kernels(kernels, take_pending_error);
  const auto compiled = CudaProgram::compile(small.graph(), std::vector<std::string>{"sum"},
                                             {{"x"}, {"y"}}, {{"sum"}}, gpu, constants, custom);
  ASSERT_FALSE(compiled);
  EXPECT_EQ(compiled.error().message, "node sum: its kernel was not made: a constant is missing");
}

TEST(DeviceTensor, KnowsItsTypeAndHowManyElementsItHas) {
  const std::vector<std::int64_t> shape{2, 3};
  std::byte memory[12] = {};
  const MutableDeviceTensor halves{DType::float16, shape, memory};
  EXPECT_EQ(halves.elements(), 6u);
  EXPECT_EQ(static_cast<void*>(halves.as<__half>()), memory);
  EXPECT_EQ(static_cast<void*>(halves.as<std::uint16_t>()), memory);
  EXPECT_THAT([&] { (void)halves.as<__nv_bfloat16>(); },
              ThrowsMessage<std::invalid_argument>(HasSubstr("a tensor is float16")));
  EXPECT_THAT([] { (void)DeviceTensor{}.as<float>(); },
              ThrowsMessage<std::invalid_argument>(HasSubstr("absent")));
}

// The part of CudaHarness that a GPU is not needed for.
class HarnessOnHost : public Harness {
 public:
  using Harness::Harness;
  void run() {
    HostDevice device;
    const Node& node = state().complete_node();
    AddSum kernel(node);
    run_on_device(device, kernel, node, state().inputs, state().outputs, take_pending_error);
    EXPECT_EQ(device.streams, 0);
    EXPECT_EQ(device.events, 0);
  }
};

class CudaHarnessTest : public CudaSdk {
 protected:
  CudaHarnessTest() {
    harness.input<float>({2, 2}, {1, 2, 3, 4});
    harness.constant<float>({2}, {10, 20});
    harness.output<float>({2, 2});
  }
  HarnessOnHost harness{{.op_type = "AddSum"}};
};

TEST_F(CudaHarnessTest, FeedsAKernel) {
  harness.run();
  EXPECT_THAT(harness.result<float>(0), ElementsAre(31, 32, 33, 34));
  EXPECT_NE(launched_on, nullptr);
}

TEST_F(CudaHarnessTest, AKernelThatWritesWhereItMayNotIsFoundOut) {
  deed = Deed::changes_input;
  EXPECT_THAT([&] { harness.run(); },
              ThrowsMessage<std::logic_error>("the kernel has changed input 0"));
  deed = Deed::writes_behind;
  EXPECT_THAT([&] { harness.run(); },
              ThrowsMessage<std::logic_error>("the kernel has written behind output 0"));
}

TEST_F(CudaHarnessTest, WhatGoesWrongIsThrown) {
  deed = Deed::is_refused;
  EXPECT_THAT([&] { harness.run(); },
              ThrowsMessage<std::runtime_error>("CUDA: invalid configuration argument"));
  deed = Deed::throws;
  EXPECT_THAT([&] { harness.run(); }, ThrowsMessage<std::domain_error>("not this one"));
  deed = Deed::is_refused_and_throws;
  EXPECT_THAT([&] { harness.run(); }, ThrowsMessage<std::domain_error>("not this one"));
  deed = Deed::good;
  EXPECT_NO_THROW(harness.run()) << "CUDA's error is nobody else's";
}

TEST(CudaHarness, SaysWhyThereIsNoGpu) {
  const std::string why = CudaHarness::why_not();
  CudaHarness harness({.op_type = "AddSum"});
  harness.input<float>({1}, {1});
  harness.constant<float>({1}, {1});
  if (why.empty()) GTEST_SKIP() << "there is one";
  EXPECT_THAT([&] { harness.run(make<AddSum>, take_pending_error); },
              ThrowsMessage<std::runtime_error>(why));
}

}  // namespace
}  // namespace opsplit::sdk
