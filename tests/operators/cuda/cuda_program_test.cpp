// Programs for a GPU: fusion, views, copies, memory and constants, on HostGpu, and all of it on a GPU
// where there is one.
#include "operators/cuda/cuda_program.hpp"

#include <gmock/gmock.h>

#include <filesystem>

#include "graph/model.hpp"
#include "operators/cuda/body.hpp"
#include "tests/operators/cuda/cuda_case.hpp"
#include "tests/operators/small_graph.hpp"

namespace opsplit::operators::cuda::testing {
namespace {

using operators::testing::constant_of;
using operators::testing::expect_near;
using operators::testing::random_tensor;
using operators::testing::SmallGraph;
using ::testing::HasSubstr;

std::vector<EdgeTensor> edges(const graph::Graph& graph, const std::vector<graph::ValueId>& ids) {
  std::vector<EdgeTensor> result;
  for (const graph::ValueId id : ids) result.push_back({graph.value(id).name});
  return result;
}

std::vector<std::string> node_names(const graph::Graph& graph) {
  std::vector<std::string> names;
  for (const graph::Node& node : graph.nodes) names.push_back(node.name);
  return names;
}

// A model; scripts/gpu-check.sh takes it to another machine, into models/ beside this program.
std::filesystem::path model_file(const std::filesystem::path& file) {
  const auto packed = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "models";
  return std::filesystem::exists(packed) ? packed / file.filename() : file;
}

class CudaProgramTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    gpu_ = test_gpu(GetParam());
    if (gpu_.gpu == nullptr) GTEST_SKIP() << gpu_.why_not;
    constants_ = std::make_unique<DeviceConstants>(*gpu_.gpu);
  }

  Result<std::unique_ptr<CudaProgram>> compile(graph::Graph graph) {
    adopt_foreign_nodes(graph);
    return CudaProgram::compile(graph, node_names(graph), edges(graph, graph.inputs),
                                edges(graph, graph.outputs), *gpu_.gpu, *constants_);
  }

  // The outputs, from places that hold something else before.
  std::vector<Tensor> run(CudaProgram& program, const graph::Graph& graph,
                          const std::vector<Tensor>& inputs) {
    std::vector<std::shared_ptr<std::byte>> memory;
    std::vector<DeviceView> from;
    for (const Tensor& input : inputs) {
      memory.push_back(to_device(*gpu_.gpu, as_bytes(input, float32)));
      from.push_back({input.type(), memory.back().get()});
    }
    std::vector<MutableDeviceView> to;
    for (const graph::ValueId id : graph.outputs) {
      const std::vector<std::byte> stale(*byte_size(graph.type(id)), std::byte{0xFF});
      memory.push_back(to_device(*gpu_.gpu, stale));
      to.push_back({graph.type(id), memory.back().get()});
    }
    const auto workspace = *gpu_.gpu->allocate(program.workspace_bytes());
    const auto done = program.run(from, to, workspace.get(), nullptr);
    EXPECT_TRUE(done) << done.error().message;
    std::vector<Tensor> outputs;
    for (const MutableDeviceView& view : to) {
      std::vector<std::byte> bytes(*byte_size(view.type));
      from_device(gpu_, bytes, static_cast<const std::byte*>(view.data));
      outputs.push_back(from_bytes(bytes, view.type));
    }
    return outputs;
  }

  void expect_reference(SmallGraph& small, std::size_t steps, double tolerance = 1e-4) {
    const auto program = compile(small.graph());
    ASSERT_TRUE(program) << program.error().message;
    EXPECT_EQ((*program)->steps(), steps);
    const auto inputs = small.inputs();
    const auto expected = small.reference(inputs);
    for (int time = 0; time < 2; ++time) {
      const auto outputs = run(**program, small.graph(), inputs);
      for (std::size_t i = 0; i < outputs.size(); ++i)
        expect_near(outputs[i], expected[i], tolerance);
    }
  }

  // The model against our own kernels on the CPU.
  void expect_native(const std::filesystem::path& file, double tolerance) {
    const auto graph = graph::load_model(file, {}, nullptr);
    ASSERT_TRUE(graph) << graph.error().message;
    const auto program = compile(*graph);
    ASSERT_TRUE(program) << program.error().message;
    HeapWeights weights;
    const auto native =
        Program::compile(*graph, node_names(*graph), edges(*graph, graph->inputs),
                         edges(*graph, graph->outputs), {.threads = 1, .packed_weights = &weights});
    ASSERT_TRUE(native) << native.error().message;
    std::vector<Tensor> inputs, expected;
    std::vector<TensorView> from;
    std::vector<MutableTensorView> to;
    for (const graph::ValueId id : graph->inputs)
      inputs.push_back(operators::testing::random_tensor(
          graph->type(id).shape, 1 + static_cast<std::uint32_t>(inputs.size())));
    for (const graph::ValueId id : graph->outputs)
      expected.emplace_back(graph->type(id), Layout::row_major);
    for (const Tensor& input : inputs) from.push_back(input.view());
    for (Tensor& output : expected) to.push_back(output.mutable_view());
    RunContext context;
    const auto done = (*native)->run(from, to, context);
    ASSERT_TRUE(done) << done.error().message;
    const auto outputs = run(**program, *graph, inputs);
    for (std::size_t i = 0; i < outputs.size(); ++i)
      expect_near(outputs[i], expected[i], tolerance);
  }

  TestGpu gpu_;
  std::unique_ptr<DeviceConstants> constants_;
};
INSTANTIATE_TEST_SUITE_P(Cuda, CudaProgramTest, ::testing::Bool(),
                         [](const auto& where) { return where.param ? "Gpu" : "Cpu"; });

std::string conv(SmallGraph& graph, const std::string& input, const std::string& name,
                 const Shape& weights, std::int64_t pad = 0) {
  return graph.node(
      "Conv", {input, graph.random(name + ".w", weights), graph.random(name + ".b", {weights[0]})},
      name, {{"pads", Ints(4, pad)}});
}

TEST_P(CudaProgramTest, AResidualNetwork) {
  SmallGraph graph;
  auto x = graph.node("Relu", {conv(graph, graph.input("x", {2, 3, 12, 12}), "a", {8, 3, 3, 3}, 1)},
                      "r");
  x = graph.node("MaxPool", {x}, "pool", {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}});
  auto branch = graph.node("Relu", {conv(graph, x, "b", {8, 8, 3, 3}, 1)}, "s");
  branch = conv(graph, branch, "c", {8, 8, 1, 1});
  x = graph.node("Relu", {graph.node("Add", {branch, x}, "sum")}, "t");
  x = graph.node("GlobalAveragePool", {x}, "mean");
  x = graph.node("Flatten", {x}, "flat");
  x = graph.node("Gemm", {x, graph.random("w", {8, 10}), graph.random("bias", {10})}, "logits");
  graph.output(graph.node("Softmax", {x}, "y"));
  expect_reference(graph, 7);  // three convolutions, two pools, Gemm, Softmax
}

TEST_P(CudaProgramTest, ChainsOfPointwiseNodesAreOneStep) {
  SmallGraph graph;
  const auto x = graph.input("x", {2, 3, 4, 4});
  auto y = graph.node("Sigmoid", {x}, "a");
  y = graph.node("Mul", {y, x}, "b");
  y = graph.node("Add", {graph.random("c", {3, 1, 1}), y}, "d");
  graph.output(graph.node("Tanh", {y}, "y"));
  expect_reference(graph, 1);
}

TEST_P(CudaProgramTest, NothingIsFusedThatSomebodyElseReads) {
  SmallGraph graph;
  const auto x = conv(graph, graph.input("x", {1, 3, 6, 6}), "a", {4, 3, 3, 3});
  graph.output(x);
  const auto r = graph.node("Relu", {x}, "r");
  // Not the first operand of what is not commutative, and twice of one node.
  const auto s = graph.node("Sub", {graph.random("c", {4, 1, 1}), r}, "s");
  graph.output(graph.node("Add", {s, s}, "y"));
  expect_reference(graph, 4);
}

TEST_P(CudaProgramTest, LongChainsEndWhereAPassDoes) {
  SmallGraph graph;
  auto x = graph.input("x", {3, 8});
  for (int i = 0; i < 13; ++i)
    x = graph.node("Add", {x, graph.random("c" + std::to_string(i), {8})}, "s" + std::to_string(i));
  graph.output(x);
  expect_reference(graph, 3);
}

TEST_P(CudaProgramTest, APassThatIsFullTakesNothingIn) {
  SmallGraph graph;
  std::vector<std::string> summands{graph.input("x", {3, 8})};
  for (int i = 0; i < 5; ++i) summands.push_back(graph.random("c" + std::to_string(i), {8}));
  auto x = graph.node("Sum", summands, "sum");
  for (const char* name : {"a", "b", "c"}) x = graph.node("Relu", {x}, name);  // no operands
  x = graph.node("Add", {x, graph.random("d", {8})}, "e");
  graph.output(graph.node("Sigmoid", {x}, "y"));
  expect_reference(graph, 2);
}

TEST_P(CudaProgramTest, ViewsAreNobodysWork) {
  SmallGraph graph;
  auto x = graph.node("Relu", {graph.input("x", {2, 3, 4})}, "r");
  x = graph.node("Flatten", {x}, "flat");
  x = graph.node("Sigmoid", {x}, "s");
  graph.output(graph.node("Flatten", {x}, "y", {{"axis", std::int64_t{0}}}));
  expect_reference(graph, 2);
}

TEST_P(CudaProgramTest, OutputsThatNoStepWritesAreCopies) {
  SmallGraph graph;
  const auto x = graph.input("x", {2, 3, 4});
  graph.output(graph.node("Flatten", {x}, "flat"));
  const auto r = graph.node("Relu", {x}, "r");
  graph.output(r);
  graph.output(graph.node("Identity", {r}, "same"));
  expect_reference(graph, 3);
}

TEST_P(CudaProgramTest, MemoryIsUsedAgain) {
  SmallGraph graph;
  auto x = graph.input("x", {1, 4, 16, 16});
  for (int i = 0; i < 6; ++i)  // pools are steps of their own
    x = graph.node("MaxPool", {x}, "p" + std::to_string(i),
                   {{"kernel_shape", Ints{3, 3}}, {"pads", Ints(4, 1)}});
  graph.output(x);
  expect_reference(graph, 6);
  const auto program = compile(graph.graph());
  ASSERT_TRUE(program);
  EXPECT_EQ((*program)->workspace_bytes(), 2U * 4 * 16 * 16 * sizeof(float));
}

std::string half_constant(SmallGraph& graph, const std::string& name, const Tensor& values) {
  auto [constant, data] = graph::Constant::allocate({float16, values.type().shape}).value();
  std::ranges::copy(as_bytes(values, float16), data);
  return graph.constant(name, constant);
}

TEST_P(CudaProgramTest, Float16Inside) {
  SmallGraph graph;
  auto x = graph.node("Cast", {graph.input("x", {1, 8, 6, 6})}, "in", {{"to", std::int64_t{10}}});
  x = graph.node("Relu", {x}, "relu");
  x = graph.node("GlobalAveragePool", {x}, "mean");
  x = graph.node("Flatten", {x}, "flat");
  x = graph.node("MatMul", {x, half_constant(graph, "m", random_tensor({8, 16}, 17))}, "product");
  graph.output(graph.node("Cast", {x}, "y", {{"to", std::int64_t{1}}}));
  expect_reference(graph, 5, 4e-3);
}

// Our kernels on the CPU do not, so that the graph calls such a node foreign.
TEST_P(CudaProgramTest, ConvolvesInFloat16) {
  const Tensor w = random_tensor({8, 3, 3, 3}, 17), b = random_tensor({8}, 18);
  SmallGraph half, single;
  auto x = half.node("Cast", {half.input("x", {1, 3, 8, 8})}, "in", {{"to", std::int64_t{10}}});
  x = half.node("Conv", {x, half_constant(half, "w", w), half_constant(half, "b", b)}, "conv");
  half.output(half.node("Cast", {half.node("Relu", {x}, "relu")}, "y", {{"to", std::int64_t{1}}}));
  x = single.node("Conv",
                  {single.input("x", {1, 3, 8, 8}), single.constant("w", constant_of(w)),
                   single.constant("b", constant_of(b))},
                  "conv");
  single.output(single.node("Relu", {x}, "relu"));
  const auto program = compile(half.graph());
  ASSERT_TRUE(program) << program.error().message;
  EXPECT_EQ((*program)->steps(), 3u);
  const auto inputs = single.inputs();
  expect_near(run(**program, half.graph(), inputs)[0], single.reference(inputs)[0], 1e-2);
}

TEST_P(CudaProgramTest, Digits) {
  expect_native(model_file(OPSPLIT_SOURCE_DIR "/examples/digits/digits.onnx"), 1e-4);
}

TEST_P(CudaProgramTest, LightResnet50) {
  const auto file = std::filesystem::path(OPSPLIT_LIGHT_DIR) / "light_resnet50/model.onnx";
  if (!std::filesystem::exists(file))
    GTEST_SKIP() << "no light_resnet50: tests/tools/light_models.py makes it";
  expect_native(file, 1e-3);
}

TEST(CudaProgram, ConstantsAreUploadedOnceForAllPrograms) {
  HostGpu gpu;
  DeviceConstants constants(gpu);
  SmallGraph small;
  small.output(conv(small, small.input("x", {1, 3, 6, 6}), "a", {4, 3, 3, 3}));
  const graph::Graph& graph = small.graph();
  const auto compile = [&] {
    return CudaProgram::compile(graph, node_names(graph), edges(graph, graph.inputs),
                                edges(graph, graph.outputs), gpu, constants);
  };
  ASSERT_TRUE(compile());
  const std::uint64_t first = gpu.allocated;
  ASSERT_TRUE(compile());
  const std::uint64_t weights = (4 * 3 * 3 * 3 + 4) * sizeof(float);
  EXPECT_EQ(gpu.allocated - first, first - weights);
}

TEST(CudaProgram, ErrorsNameTheNodeTheTensorAndTheLayout) {
  HostGpu gpu;
  DeviceConstants constants(gpu);
  SmallGraph small;
  const auto x = small.input("x", {1, 4, 6, 6});
  small.output(small.node("LRN", {x}, "odd", {{"size", std::int64_t{3}}}));
  const graph::Graph& graph = small.graph();
  const auto names = node_names(graph);
  auto error = CudaProgram::compile(graph, names, {{"x"}}, {{"odd"}}, gpu, constants).error();
  EXPECT_EQ(error.code, ErrorCode::unsupported);
  EXPECT_EQ(error.message, "node odd: operation LRN has no kernel on a GPU");
  error =
      CudaProgram::compile(graph, names, {{"x", Layout::nhwc}}, {{"odd"}}, gpu, constants).error();
  EXPECT_THAT(error.message, HasSubstr("tensor x in layout nhwc"));

  SmallGraph right;
  right.output(right.node("Relu", {right.input("x", {2, 3})}, "y"));
  const auto program = CudaProgram::compile(right.graph(), node_names(right.graph()), {{"x"}},
                                            {{"y"}}, gpu, constants);
  ASSERT_TRUE(program) << program.error().message;
  const DeviceView wrong{{float32, {3, 2}}};
  const MutableDeviceView y{{float32, {2, 3}}};
  EXPECT_EQ((*program)->run({&wrong, 1}, {&y, 1}, nullptr, nullptr).error().message,
            "input x is float32 3x2 instead of float32 2x3");
  EXPECT_EQ((*program)->run({}, {&y, 1}, nullptr, nullptr).error().message,
            "0 inputs instead of 1");
}

}  // namespace
}  // namespace opsplit::operators::cuda::testing
