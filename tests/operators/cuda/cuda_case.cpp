#include "tests/operators/cuda/cuda_case.hpp"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "graph/model.hpp"
#include "ipc/cuda_driver.hpp"
#include "operators/cuda/body.hpp"
#include "operators/cuda/library_gpu.hpp"
#include "operators/kernels/reference.hpp"

namespace opsplit::operators::cuda::testing {
namespace {

using operators::testing::constant_of;
using operators::testing::expect_near;
using operators::testing::make_node;
using operators::testing::make_value;
using operators::testing::random_tensor;

// Behind an output, in which nobody may write.
constexpr std::size_t guard_bytes = 64;
constexpr std::byte guard{0xA5};

// What float16 rounds away, twice: a library's result, and that of the pass after it.
constexpr double half_tolerance = 2e-3;

// A case with all that it is made from, and the reference's answer to it in float32.
class Prepared {
 public:
  Prepared(const CudaCase& test, DType dtype) : dtype_(dtype) {
    graph_.opset = test.opset;
    graph::Node node = make_node(test.op_type, test.attributes);
    for (const CaseInput& input : test.inputs) add_input(input, node);
    node.outputs.push_back(graph_.add_value(make_value("output")));
    graph_.outputs = node.outputs;
    graph_.nodes.push_back(std::move(node));
    const auto inferred = graph::infer_shapes(graph_, {});
    EXPECT_TRUE(inferred) << inferred.error().message;
    if (!inferred) return;
    spec_ = {.node = &graph_.nodes[0], .opset = test.opset, .post_ops = test.post_ops};
    const TensorType& type = graph_.type(graph_.nodes[0].outputs[0]);
    output_ = {type.dtype == float32 ? dtype : type.dtype, type.shape};
    spec_.outputs.push_back({.type = output_});
    for (std::size_t i = 0; i < test.inputs.size(); ++i) add_operand(test.inputs[i], i);
    std::size_t next = 0;
    for (PostOp& op : spec_.post_ops) {
      if (op.kind != PostOp::Kind::binary) continue;
      op.operand = spec_.inputs.size();
      const auto seed = static_cast<std::uint32_t>(90 + next);
      values_.push_back(rounded(random_tensor(test.operands.at(next++), seed), dtype));
      spec_.inputs.push_back({.type = {dtype, values_.back().type().shape}});
      bytes_.push_back(as_bytes(values_.back(), dtype));
    }
  }

  [[nodiscard]] const KernelSpec& spec() const { return spec_; }
  [[nodiscard]] const TensorType& output() const { return output_; }
  [[nodiscard]] const std::vector<std::vector<std::byte>>& bytes() const { return bytes_; }

  Tensor expected() {
    Tensor result({float32, output_.shape}, Layout::row_major);
    std::vector<TensorView> views;
    for (std::size_t i = 0; i < graph_.nodes[0].inputs.size(); ++i) {
      const graph::ValueId id = graph_.nodes[0].inputs[i];
      if (id == graph::no_value)
        views.emplace_back();
      else if (graph_.type(id).dtype == int64)
        views.push_back(
            {graph_.type(id), Layout::row_major, graph_.value(id).constant->bytes.data()});
      else
        views.push_back(values_[i].view());
    }
    evaluate(graph_.nodes[0], spec_.opset, views, result);
    for (const PostOp& op : spec_.post_ops) result = after(result, op);
    return result;
  }

 private:
  static Tensor rounded(const Tensor& tensor, DType dtype) {
    return from_bytes(as_bytes(tensor, dtype), {dtype, tensor.type().shape});
  }

  static void evaluate(const graph::Node& node, std::int64_t opset,
                       std::span<const TensorView> inputs, Tensor& output) {
    const MutableTensorView view = output.mutable_view();
    const auto done = reference::evaluate(node, opset, inputs, {&view, 1});
    EXPECT_TRUE(done) << done.error().message;
  }

  void add_input(const CaseInput& input, graph::Node& node) {
    const auto index = static_cast<std::uint32_t>(values_.size());
    const DType dtype = input.is_float32 ? float32 : dtype_;
    values_.push_back(rounded(random_tensor(input.shape, 7 + index), dtype));
    if (input.is_positive)
      for (float& value : values_.back().values()) value = std::abs(value) + 0.25F;
    if (input.is_positive) values_.back() = rounded(values_.back(), dtype);
    if (input.is_absent) {
      node.inputs.push_back(graph::no_value);
      return;
    }
    graph::Value value = make_value("input" + std::to_string(index));
    value.dtype = float32;
    if (input.is_constant) {
      value.constant = input.ints.empty() ? constant_of(values_.back()) : constant_of(input.ints);
      value.dtype = value.constant->type.dtype;
      value.type = value.constant->type;
    } else {
      value.declared.emplace(input.shape.begin(), input.shape.end());
    }
    node.inputs.push_back(graph_.add_value(std::move(value)));
    if (!input.is_constant) graph_.inputs.push_back(node.inputs.back());
  }

  void add_operand(const CaseInput& input, std::size_t index) {
    if (input.is_absent) {
      spec_.inputs.push_back({.present = false});
      bytes_.emplace_back();
      return;
    }
    if (!input.ints.empty()) {
      const graph::Constant& ints = *graph_.value(graph_.nodes[0].inputs[index]).constant;
      spec_.inputs.push_back({.type = ints.type, .constant = &ints});
      bytes_.emplace_back(ints.bytes.begin(), ints.bytes.end());
      return;
    }
    const DType dtype = input.is_float32 ? float32 : dtype_;
    spec_.inputs.push_back({.type = {dtype, input.shape}});
    bytes_.push_back(as_bytes(values_[index], dtype));
    if (!input.is_constant) return;
    auto [constant, data] = graph::Constant::allocate(spec_.inputs.back().type).value();
    std::copy(bytes_.back().begin(), bytes_.back().end(), data);
    constants_.push_back(std::make_unique<graph::Constant>(constant));
    spec_.inputs.back().constant = constants_.back().get();
  }

  // A post-op as the node that it stands for.
  Tensor after(const Tensor& value, const PostOp& op) const {
    graph::Node node = make_node("Add");
    std::vector<TensorView> inputs{value.view()};
    if (op.kind == PostOp::Kind::activation) {
      const auto [function, alpha, beta] = op.activation;
      node.op_type = function == ActivationFunction::relu         ? "Relu"
                     : function == ActivationFunction::leaky_relu ? "LeakyRelu"
                     : function == ActivationFunction::clip       ? "Clip"
                                                                  : "Sigmoid";
      node.attributes = {{"alpha", alpha}, {"beta", beta}, {"min", alpha}, {"max", beta}};
    } else {
      if (op.binary == BinaryFunction::multiply) node.op_type = "Mul";
      if (op.binary == BinaryFunction::subtract) node.op_type = "Sub";
      // The operands' values lie behind the inputs', in order.
      inputs.push_back(values_[op.operand].view());
    }
    Tensor result(value.type(), Layout::row_major);
    evaluate(node, 6, inputs, result);
    return result;
  }

  DType dtype_;
  graph::Graph graph_;
  KernelSpec spec_;
  TensorType output_;
  std::vector<Tensor> values_;  // of the inputs, as float32
  std::vector<std::vector<std::byte>> bytes_;
  std::vector<std::unique_ptr<graph::Constant>> constants_;
};

bool is_of_a_library(const std::string& op_type) {
  return op_type == "Conv" || op_type == "Gemm" || op_type == "MatMul";
}

// Launches the kernel on memory that begins `shift` bytes behind an aligned address.
Tensor launch(const TestGpu& gpu, CudaKernel& kernel, const Prepared& test, std::size_t shift) {
  std::vector<std::shared_ptr<std::byte>> memory;
  std::vector<DeviceView> inputs;
  for (std::size_t i = 0; i < test.bytes().size(); ++i) {
    inputs.push_back({.type = test.spec().inputs[i].type});
    if (!test.spec().inputs[i].present) continue;
    std::vector<std::byte> bytes(shift);
    bytes.insert(bytes.end(), test.bytes()[i].begin(), test.bytes()[i].end());
    memory.push_back(to_device(*gpu.gpu, bytes));
    inputs.back().data = memory.back().get() + shift;
  }
  const std::uint64_t size = *byte_size(test.output());
  std::vector<std::byte> result(shift + size + guard_bytes, guard);
  const auto place = to_device(*gpu.gpu, result);
  const MutableDeviceView output{test.output(), place.get() + shift};
  const auto workspace = *gpu.gpu->allocate(kernel.workspace_bytes());
  const auto done = kernel.launch(inputs, {&output, 1}, workspace.get(), nullptr);
  EXPECT_TRUE(done) << done.error().message;
  from_device(gpu, result, place.get());
  const auto is_guard = [](std::byte byte) { return byte == guard; };
  const auto behind = result.begin() + static_cast<std::ptrdiff_t>(shift + size);
  EXPECT_TRUE(
      std::all_of(result.begin(), result.begin() + static_cast<std::ptrdiff_t>(shift), is_guard) &&
      std::all_of(behind, result.end(), is_guard))
      << "written outside of the output";
  return from_bytes(std::span(result).subspan(shift, size), test.output());
}

}  // namespace

std::string name_of(const ::testing::TestParamInfo<Where>& info) {
  return std::string(info.param.on_gpu ? "Gpu" : "Cpu") +
         (info.param.dtype == float16 ? "Half" : "Float");
}

TestGpu test_gpu(bool real) {
  if (!real) return {.gpu = std::make_unique<HostGpu>()};
  const auto machine = ipc::cuda_machine();
  if (!machine) return {.gpu = nullptr, .is_real = true, .why_not = machine.error().message};
  // From here on it is a failure: there is a GPU.
  auto opened = open_gpu();
  EXPECT_TRUE(opened) << opened.error().message;
  if (!opened) return {.gpu = nullptr, .is_real = true, .why_not = opened.error().message};
  return {.gpu = std::move(*opened), .is_real = true};
}

std::shared_ptr<std::byte> to_device(Gpu& gpu, std::span<const std::byte> bytes) {
  // No address would mean that there is no such input.
  auto memory = gpu.allocate(std::max<std::size_t>(bytes.size(), 1));
  EXPECT_TRUE(memory) << memory.error().message;
  const auto done = gpu.upload(memory->get(), bytes);
  EXPECT_TRUE(done) << done.error().message;
  return *memory;
}

void from_device(const TestGpu& gpu, std::span<std::byte> to, const std::byte* from) {
  if (gpu.is_real)
    EXPECT_EQ(cudaMemcpy(to.data(), from, to.size(), cudaMemcpyDeviceToHost), cudaSuccess);
  else
    std::copy(from, from + to.size(), to.begin());
}

std::vector<std::byte> as_bytes(const Tensor& tensor, DType dtype) {
  const auto values = tensor.values();
  std::vector<std::byte> bytes(values.size() * dtype.bytes());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto half = from_float<__half>(values[i]);
    const void* from = dtype == float16 ? static_cast<const void*>(&half) : &values[i];
    std::memcpy(&bytes[i * dtype.bytes()], from, dtype.bytes());
  }
  return bytes;
}

Tensor from_bytes(std::span<const std::byte> bytes, const TensorType& type) {
  Tensor tensor({float32, type.shape}, Layout::row_major);
  for (std::size_t i = 0; i < tensor.values().size(); ++i) {
    __half half;
    const std::byte* from = bytes.data() + i * type.dtype.bytes();
    if (type.dtype == float16) {
      std::memcpy(&half, from, sizeof(half));
      tensor.values()[i] = to_float(half);
    } else {
      std::memcpy(&tensor.values()[i], from, sizeof(float));
    }
  }
  return tensor;
}

void CudaKernelTest::SetUp() {
  gpu_ = test_gpu(GetParam().on_gpu);
  if (gpu_.gpu == nullptr) GTEST_SKIP() << gpu_.why_not;
}

void CudaKernelTest::expect_reference(const CudaCase& test, double tolerance) {
  SCOPED_TRACE(test.op_type + " giving " + ::testing::PrintToString(test.inputs.size()));
  const DType dtype = GetParam().dtype;
  Prepared prepared(test, dtype);
  if (HasFailure()) return;
  const auto kernel = make_cuda_kernel(prepared.spec(), *gpu_.gpu);
  ASSERT_TRUE(kernel) << kernel.error().message;
  const Tensor expected = prepared.expected();
  if (dtype == float16) tolerance = std::max(tolerance, half_tolerance);
  expect_near(launch(gpu_, **kernel, prepared, 0), expected, tolerance);
  if (!is_of_a_library(test.op_type))
    expect_near(launch(gpu_, **kernel, prepared, dtype.bytes()), expected, tolerance);
}

}  // namespace opsplit::operators::cuda::testing
