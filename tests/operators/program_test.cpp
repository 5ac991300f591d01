// Programs: fusion, layouts, views, copies and memory, each on the smallest graph that shows it.
#include "operators/program.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "base/cpu.hpp"
#include "graph/model.hpp"
#include "operators/aligned_memory.hpp"
#include "operators/task_graph.hpp"
#include "tests/operators/small_graph.hpp"

namespace opsplit::operators::testing {
namespace {

using Ints = std::vector<std::int64_t>;

constexpr std::array layouts{Layout::row_major, Layout::nhwc, Layout::nChw8c, Layout::nChw16c};

// With every layout preferred inside, and every pair of agreed layouts at the edges.
void expect_right_in_all_layouts(SmallGraph& graph, double tolerance = 1e-5) {
  for (const Layout inside : layouts)
    for (const Layout inputs : layouts)
      for (const Layout outputs : layouts) {
        SCOPED_TRACE(std::string(to_string(inputs)) + " to " + std::string(to_string(inside)) +
                     " to " + std::string(to_string(outputs)));
        FusedRun run{.inputs = inputs, .outputs = outputs, .image_layout = inside};
        expect_fused_equals_reference(graph, run, tolerance);
        EXPECT_EQ(run.context.bytes_copied, 0U);
        if (::testing::Test::HasFailure()) return;
      }
}

std::string conv(SmallGraph& graph, const std::string& input, const std::string& name,
                 const Shape& weights, std::int64_t pad = 0) {
  return graph.node(
      "Conv", {input, graph.random(name + ".w", weights), graph.random(name + ".b", {weights[0]})},
      name, {{"pads", Ints(4, pad)}});
}

TEST(Program, ConvolutionsWithActivations) {
  SmallGraph graph;
  auto x = graph.input("x", {1, 3, 12, 11});
  x = graph.node("Relu", {conv(graph, x, "a", {18, 3, 3, 3}, 1)}, "relu");
  x = graph.node("HardSwish", {conv(graph, x, "b", {32, 18, 1, 1})}, "swish");
  graph.output(graph.node("MaxPool", {x}, "pool", {{"kernel_shape", Ints{2, 2}}}));
  expect_right_in_all_layouts(graph);
}

TEST(Program, HardSwishSpelledOutAndArithmeticWithNumbers) {
  SmallGraph graph;
  auto x = conv(graph, graph.input("x", {1, 3, 9, 8}), "a", {18, 3, 3, 3}, 1);
  const auto gate = graph.node("HardSigmoid", {x}, "gate", {{"alpha", 1 / 6.0F}, {"beta", 0.5F}});
  x = graph.node("Mul", {x, gate}, "swish");
  x = graph.node("Mul", {graph.random("factor", {1}), x}, "scaled");
  x = graph.node("Sub", {graph.random("summand", {}), x}, "shifted");
  x = graph.node("Div", {conv(graph, x, "b", {20, 18, 1, 1}), graph.random("divisor", {1})}, "d");
  // Another gate is not ONNX's HardSwish.
  x = graph.node("Mul", {x, graph.node("HardSigmoid", {x}, "other")}, "y");
  graph.output(x);
  expect_right_in_all_layouts(graph, 1e-4);
}

// oneDNN 2.6 has one set of parameters for all functions of a kind in a chain.
TEST(Program, FunctionsOfAKindAfterEachOther) {
  SmallGraph graph;
  const Shape shape{20, 20, 1, 1};
  auto x = conv(graph, graph.input("x", {1, 20, 5, 4}), "a", shape);
  x = graph.node("HardSigmoid", {x}, "gate");
  x = graph.node("Add", {x, graph.random("one", {})}, "above");
  x = graph.node("Mul", {x, graph.random("factor", {})}, "scaled");
  x = conv(graph, x, "b", shape);
  x = graph.node("LeakyRelu", {graph.node("LeakyRelu", {x}, "l", {{"alpha", 0.5F}})}, "m");
  x = conv(graph, x, "c", shape);
  x = graph.node("Mul", {graph.node("HardSigmoid", {x}, "h"), graph.random("minus", {1})}, "n");
  x = graph.node("HardSigmoid", {conv(graph, x, "d", shape)}, "i");
  graph.output(graph.node("HardSigmoid", {x}, "out", {{"alpha", 0.7F}, {"beta", -0.1F}}));
  expect_right_in_all_layouts(graph, 1e-4);
}

TEST(Program, ADecoder) {
  SmallGraph graph;
  const auto x = graph.input("x", {1, 8, 6, 5});
  const Attributes nearest{{"coordinate_transformation_mode", std::string("asymmetric")},
                           {"nearest_mode", std::string("floor")}};
  graph::Constant scales = constant_of(Tensor({float32, Shape{4}}, Layout::row_major));
  const std::array factors{1.0F, 1.0F, 2.0F, 2.0F};
  scales.bytes = std::as_bytes(std::span(factors));
  const auto enlarged = [&](const std::string& name) {
    return graph.node("Resize", {conv(graph, x, name, {24, 8, 1, 1}), "", "scales"}, name + ".up",
                      nearest);
  };
  graph.constant("scales", scales);
  auto y = graph.node("Concat", {enlarged("a"), enlarged("b")}, "c", {{"axis", std::int64_t{1}}});
  const Attributes strides{{"strides", Ints{2, 2}}};
  y = graph.node("ConvTranspose", {y, graph.random("v", {48, 24, 2, 2})}, "d", strides);
  y = graph.node("Relu", {y}, "r");
  y = graph.node("ConvTranspose", {y, graph.random("w", {24, 1, 2, 2}), graph.random("bias", {1})},
                 "e", strides);
  graph.output(graph.node("Sigmoid", {y}, "out"));
  expect_right_in_all_layouts(graph, 1e-4);
}

TEST(Program, ResidualInPrivateMemoryAndAtTheEdge) {
  SmallGraph graph;
  const auto x = graph.input("x", {1, 16, 7, 6});
  // The first residual is the input's place, the second is private and dies there.
  const auto first = graph.node(
      "Relu", {graph.node("Add", {conv(graph, x, "a", {16, 16, 3, 3}, 1), x}, "add")}, "r");
  const auto inner = graph.node("Relu", {conv(graph, first, "b", {16, 16, 3, 3}, 1)}, "s");
  const auto second = graph.node("Sum", {conv(graph, inner, "c", {16, 16, 1, 1}), first}, "sum");
  graph.output(graph.node("Relu", {conv(graph, second, "d", {5, 16, 1, 1})}, "out"));
  expect_right_in_all_layouts(graph);
}

TEST(Program, AResidualThatIsReadAgainIsNotOverwritten) {
  SmallGraph graph;
  const auto x = graph.input("x", {1, 16, 7, 6});
  const auto a = conv(graph, x, "a", {16, 16, 1, 1});
  const auto b = graph.node("Add", {conv(graph, a, "b", {16, 16, 3, 3}, 1), a}, "sum");
  const auto c = graph.node("Add", {conv(graph, b, "c", {16, 16, 3, 3}, 1), a}, "again");
  graph.output(graph.node("Mul", {c, b}, "out"));
  expect_right_in_all_layouts(graph, 1e-4);
}

TEST(Program, TwoBranchesOfConvolutions) {
  SmallGraph graph;
  const auto x = graph.input("x", {2, 8, 9, 9});
  const auto sum = graph.node(
      "Add", {conv(graph, x, "a", {20, 8, 1, 1}), conv(graph, x, "b", {20, 8, 1, 1})}, "sum");
  graph.output(graph.node("Relu", {sum}, "out"));
  expect_right_in_all_layouts(graph);
}

TEST(Program, ConcatOfBranchesGrowing) {
  for (const std::int64_t batch : {1, 2})
    for (const std::int64_t channels : {16, 12}) {  // whole blocks, broken blocks
      SmallGraph graph;
      auto x = graph.input("x", {batch, 16, 6, 5});
      x = conv(graph, x, "first", {32, 16, 1, 1});
      for (int i = 0; i < 3; ++i) {
        const std::string name = "layer" + std::to_string(i);
        const auto grown = graph.node(
            "Relu", {conv(graph, x, name, {channels, 32 + i * channels, 3, 3}, 1)}, name + ".relu");
        x = graph.node("Concat", {x, grown}, name + ".concat", {{"axis", std::int64_t{1}}});
      }
      graph.output(x);
      expect_right_in_all_layouts(graph, 1e-4);
    }
}

TEST(Program, ConcatOfTheSameTensorAndOfInputs) {
  SmallGraph graph;
  const auto x = graph.input("x", {1, 16, 3, 3});
  const auto a = conv(graph, x, "a", {16, 16, 1, 1});
  const auto b = graph.node("Concat", {a, x, a}, "b", {{"axis", std::int64_t{1}}});
  const auto c = graph.node("Concat", {a, b}, "c", {{"axis", std::int64_t{1}}});
  graph.output(b);
  graph.output(c);
  expect_right_in_all_layouts(graph);
}

TEST(Program, NormalizationsBetweenConvolutions) {
  SmallGraph graph;
  auto x = conv(graph, graph.input("x", {1, 4, 8, 8}), "a", {24, 4, 3, 3});
  const Tensor ones = [] {
    Tensor tensor({float32, Shape{24}}, Layout::row_major);
    for (float& value : tensor.values()) value = 1;
    return tensor;
  }();
  x = graph.node("MaxPool", {x}, "pool", {{"kernel_shape", Ints{2, 2}}});
  x = graph.node("BatchNormalization",
                 {x, graph.random("s", {24}), graph.random("t", {24}), graph.random("m", {24}),
                  graph.constant("v", constant_of(ones))},
                 "bn");
  x = graph.node("Relu", {x}, "relu");
  x = graph.node("LRN", {x}, "lrn", {{"size", std::int64_t{5}}});
  graph.output(graph.node("GlobalAveragePool", {x}, "out"));
  expect_right_in_all_layouts(graph);
}

TEST(Program, SqueezeAndExcite) {
  SmallGraph graph;
  const auto x = conv(graph, graph.input("x", {1, 4, 8, 8}), "a", {24, 4, 3, 3});
  auto s = graph.node("GlobalAveragePool", {x}, "pool");
  s = graph.node("Relu", {conv(graph, s, "b", {8, 24, 1, 1})}, "relu");
  s = graph.node("HardSigmoid", {conv(graph, s, "c", {24, 8, 1, 1})}, "gate");
  graph.output(conv(graph, graph.node("Mul", {x, s}, "scaled"), "d", {16, 24, 1, 1}));
  expect_right_in_all_layouts(graph);
}

TEST(Program, ViewsAndDenseLayers) {
  SmallGraph graph;
  auto x = conv(graph, graph.input("x", {2, 3, 6, 6}), "a", {10, 3, 3, 3});
  x = graph.node("Flatten", {graph.node("Relu", {x}, "relu")}, "flat");
  x = graph.node("Gemm", {x, graph.random("w", {160, 20}), graph.random("b", {20})}, "gemm");
  x = graph.node("Relu", {x}, "relu2");
  x = graph.node(
      "Add",
      {graph.node("MatMul", {x, graph.random("w2", {20, 7})}, "matmul"), graph.random("b2", {7})},
      "add");
  graph.output(graph.node("Softmax", {x}, "out"));
  expect_right_in_all_layouts(graph);
}

TEST(Program, ChannelShuffle) {
  for (const std::int64_t groups : {4, 3})
    for (const std::int64_t size : {6, 8}) {
      const std::int64_t channels = groups * size;
      SmallGraph graph;
      auto x = conv(graph, graph.input("x", {2, 4, 5, 5}), "a", {channels, 4, 1, 1});
      x = graph.node("Reshape", {x, graph.constant("s1", constant_of(Ints{2, groups, size, 5, 5}))},
                     "r1");
      x = graph.node("Transpose", {x}, "t", {{"perm", Ints{0, 2, 1, 3, 4}}});
      x = graph.node("Reshape", {x, graph.constant("s2", constant_of(Ints{2, channels, 5, 5}))},
                     "r2");
      graph.output(conv(graph, x, "b", {8, channels, 3, 3}));
      graph.output(x);
      expect_right_in_all_layouts(graph);
    }
}

TEST(Program, ASingleChannelIsNoMatterOfLayout) {
  SmallGraph graph;
  const auto x = conv(graph, graph.input("x", {1, 1, 8, 8}), "a", {24, 1, 3, 3});
  graph.output(conv(graph, x, "b", {1, 24, 3, 3}));
  expect_right_in_all_layouts(graph);
}

// Every way to broadcast an operand over a convolution's output, known beforehand or not.
TEST(Program, BinariesAfterConvolutionsBroadcastAsTheReferenceDoes) {
  for (const Shape& weights : {Shape{8, 8, 1, 1}, Shape{8, 8, 3, 3}})
    for (const Shape& operand :
         {Shape{}, Shape{1}, Shape{8}, Shape{6, 8}, Shape{8, 1, 1}, Shape{1, 8, 1, 1},
          Shape{1, 1, 6, 8}, Shape{6, 1}, Shape{1, 8, 6, 1}, Shape{2, 8, 1, 1}, Shape{2, 1, 1, 1},
          Shape{2, 1, 6, 8}, Shape{1, 8, 6, 8}, Shape{2, 8, 6, 8}})
      for (const bool known : {false, true}) {
        SmallGraph graph;
        const auto x =
            conv(graph, graph.input("x", {2, 8, 6, 8}), "a", weights, weights[2] == 3 ? 1 : 0);
        const auto other = known ? graph.random("b", operand) : graph.input("b", operand);
        graph.output(graph.node("Mul", {x, other}, "out"));
        for (const Layout inside : layouts) {
          SCOPED_TRACE(fmt::format("times {} in {}", to_string(operand), to_string(inside)));
          FusedRun run{.image_layout = inside};
          expect_fused_equals_reference(graph, run);
        }
      }
}

TEST(Program, AViewOfWhatIsComputedIsAnOutput) {
  SmallGraph graph;
  const auto x = conv(graph, graph.input("x", {1, 3, 6, 6}), "a", {10, 3, 3, 3});
  graph.output(graph.node("Flatten", {x}, "out"));
  expect_right_in_all_layouts(graph);  // computed in place: nothing is copied
}

TEST(Program, OutputsThatAreInputsAreCopiedAndCounted) {
  SmallGraph graph;
  const auto x = graph.input("x", {1, 3, 4, 5});
  graph.output(graph.node("Flatten", {x}, "flat"));
  const auto y = graph.node("Relu", {x}, "y");
  graph.output(y);
  graph.output(graph.node("Identity", {y}, "same"));
  FusedRun run;
  expect_fused_equals_reference(graph, run);
  EXPECT_EQ(run.context.bytes_copied, 2 * 60 * sizeof(float));
}

TEST(Program, AnOutputThatIsReadFurtherOn) {
  SmallGraph graph;
  const auto a = conv(graph, graph.input("x", {1, 3, 6, 6}), "a", {16, 3, 3, 3});
  graph.output(a);
  graph.output(graph.node("Relu", {conv(graph, a, "b", {8, 16, 1, 1})}, "b.relu"));
  expect_right_in_all_layouts(graph);
}

TEST(Program, AnInputInAnotherLayoutIsConvertedAndCounted) {
  SmallGraph graph;
  graph.output(conv(graph, graph.input("x", {1, 16, 6, 6}), "a", {16, 16, 3, 3}));
  for (const Layout arrived : {Layout::row_major, Layout::nChw8c, Layout::nChw16c}) {
    FusedRun run{.inputs = Layout::nhwc, .outputs = Layout::nhwc, .arrived = arrived};
    expect_fused_equals_reference(graph, run);
    EXPECT_EQ(run.context.bytes_copied, 16 * 36 * sizeof(float));
  }
}

TEST(Program, TheLayoutThatThisCpuPrefersIsNotConverted) {
  SmallGraph graph;
  graph.output(conv(graph, graph.input("x", {1, 16, 6, 6}), "a", {16, 16, 3, 3}));
  const Layout preferred = preferred_blocked_layout();
  FusedRun run{.inputs = preferred, .outputs = preferred};
  expect_fused_equals_reference(graph, run);
  EXPECT_EQ(run.context.bytes_converted, 0U);
}

TEST(Program, TwoThreads) {
  SmallGraph graph;
  auto x = conv(graph, graph.input("x", {1, 16, 40, 40}), "a", {48, 16, 3, 3});
  x = graph.node("Concat", {x, x}, "concat", {{"axis", std::int64_t{1}}});
  graph.output(graph.node("Transpose", {x}, "out"));
  FusedRun run{.threads = 2};
  expect_fused_equals_reference(graph, run);
}

TEST(Program, DigitsModel) {
  auto loaded = graph::load_model(OPSPLIT_SOURCE_DIR "/examples/digits/digits.onnx", {}, {});
  ASSERT_TRUE(loaded) << loaded.error().message;
  const graph::Graph& graph = *loaded;
  std::vector<std::string> names;
  for (const auto& node : graph.nodes) names.push_back(node.name);
  HeapWeights weights;
  auto program = Program::compile(graph, names, {{graph.value(graph.inputs[0]).name}},
                                  {{graph.value(graph.outputs[0]).name}}, {1, &weights, {}});
  ASSERT_TRUE(program) << program.error().message;
  const Tensor image = random_tensor(graph.type(graph.inputs[0]).shape, 1);
  Tensor answer(graph.type(graph.outputs[0]), Layout::row_major);
  const TensorView input = image.view();
  const MutableTensorView output = answer.mutable_view();
  RunContext context;
  int announced = 0;
  context.last_step_begins = [&] {
    ++announced;
    EXPECT_EQ(answer.values()[0], 0);  // nothing has been written yet
  };
  ASSERT_TRUE((*program)->run({&input, 1}, {&output, 1}, context));
  EXPECT_EQ(announced, 1);
  float sum = 0;
  for (const float value : answer.values()) sum += value;
  EXPECT_NEAR(sum, 1, 1e-5);
}

TEST(Program, ComputesInTheWorkspaceIfThatIsLargeEnough) {
  SmallGraph graph;
  auto x = conv(graph, graph.input("x", {1, 3, 12, 11}), "a", {16, 3, 3, 3}, 1);
  x = graph.node("MaxPool", {x}, "pool", {{"kernel_shape", Ints{2, 2}}});
  graph.output(conv(graph, x, "b", {4, 16, 1, 1}));
  constexpr std::byte untouched{0x7f};
  for (const std::size_t bytes : {0U, 64U, 1U << 20}) {
    AlignedMemory workspace(bytes);
    const std::span<std::byte> all(workspace.data(), bytes);
    std::ranges::fill(all, untouched);
    FusedRun run;
    run.context.workspace = all;
    expect_fused_equals_reference(graph, run);
    EXPECT_EQ(std::ranges::count(all, untouched) == std::ssize(all), bytes < (1U << 20)) << bytes;
  }
}

class Refusals : public ::testing::Test {
 protected:
  Refusals() {
    const auto x = graph_.input("x", {2, 3});
    graph_.output(graph_.node("Relu", {graph_.node("Relu", {x}, "a")}, "b"));
  }
  std::string message(const std::vector<std::string>& nodes, std::vector<EdgeTensor> inputs,
                      std::vector<EdgeTensor> outputs) {
    const auto program = Program::compile(graph_.graph(), nodes, std::move(inputs),
                                          std::move(outputs), {1, &weights_, {}});
    return program ? "" : program.error().message;
  }
  SmallGraph graph_;
  HeapWeights weights_;
};

TEST_F(Refusals, NameWhatIsMissing) {
  EXPECT_EQ(message({"a", "b"}, {{"x"}}, {{"b"}}), "");
  EXPECT_EQ(message({"a", "b"}, {{"x"}}, {{"b"}, {"a"}}), "");
  EXPECT_EQ(message({"b"}, {{"x"}}, {{"b"}}), "node b reads a, which nothing gives");
  EXPECT_EQ(message({"b", "a"}, {{"x"}}, {{"b"}}), "node b reads a, which nothing gives");
  EXPECT_EQ(message({"a", "a"}, {{"x"}}, {{"a"}}), "no node a (or it is named twice)");
  EXPECT_EQ(message({"c"}, {{"x"}}, {{"a"}}), "no node c (or it is named twice)");
  EXPECT_EQ(message({"a"}, {{"y"}}, {{"a"}}), "no tensor y");
  EXPECT_EQ(message({"a"}, {{"x"}}, {{"b"}}), "output b is made by none of the nodes");
  EXPECT_EQ(message({"a"}, {{"x"}}, {{"a"}, {"a"}}), "output a is named twice");
  EXPECT_NE(message({"a"}, {{"x", Layout::nhwc}}, {{"a"}}), "");
}

// As an LSTM may of which only the last state is read: what it means another backend knows.
TEST(Program, ANodeMayLeaveItsFirstOutputAwayForOtherBackends) {
  graph::Graph graph;
  for (const char* name : {"x", "y"}) {
    graph::Value value = make_value(name);
    value.type = TensorType{float32, {2, 3}};
    graph.add_value(std::move(value));
  }
  graph.nodes.push_back({"n", "Odd", {0}, {graph::no_value, 1}, {}});
  const std::vector<std::string> nodes{"n"};
  const std::vector<EdgeTensor> inputs{{"x"}}, outputs{{"y"}};
  const auto task = extract_task(graph, nodes, inputs, outputs);
  ASSERT_TRUE(task) << task.error().message;
  EXPECT_EQ(task->tensor(task->steps[0].outputs[1]).output, 0);
  HeapWeights weights;
  const auto program = Program::compile(graph, nodes, inputs, outputs, {1, &weights, {}});
  ASSERT_FALSE(program);
  EXPECT_EQ(program.error().message, "node n leaves its first output away: backend native can't");
  graph.nodes[0].outputs = {graph::no_value};
  EXPECT_FALSE(extract_task(graph, nodes, inputs, {}));
}

TEST_F(Refusals, ViewsOfOtherTypes) {
  auto program =
      Program::compile(graph_.graph(), graph_.node_names(), {{"x"}}, {{"b"}}, {1, &weights_, {}});
  ASSERT_TRUE(program);
  const Tensor small = random_tensor({2, 2}, 1);
  Tensor result({float32, Shape{2, 3}}, Layout::row_major);
  const TensorView input = small.view();
  const MutableTensorView output = result.mutable_view();
  RunContext context;
  EXPECT_EQ((*program)->run({&input, 1}, {&output, 1}, context).error().message,
            "input x is float32 2x2 instead of float32 2x3");
  EXPECT_FALSE((*program)->run({}, {&output, 1}, context));
}

// Relu as somebody else wrote it.
class CustomRelu final : public Kernel {
 public:
  explicit CustomRelu(int& runs) : runs_(runs) {}
  Result<> run(std::span<const TensorView> inputs,
               std::span<const MutableTensorView> outputs) override {
    ++runs_;
    EXPECT_EQ(inputs[0].layout, Layout::row_major);
    const auto elements = static_cast<std::size_t>(*inputs[0].type.shape.elements());
    for (std::size_t i = 0; i < elements; ++i)
      outputs[0].as<float>()[i] = std::max(0.0F, inputs[0].as<float>()[i]);
    return {};
  }

 private:
  int& runs_;
};

TEST(Program, CustomKernelsGetRowMajorTensorsAndNothingIsFusedWithThem) {
  SmallGraph graph;
  auto x = graph.input("x", {1, 3, 12, 11});
  x = graph.node("Relu", {conv(graph, x, "a", {18, 3, 3, 3}, 1)}, "first");
  x = graph.node("Relu", {conv(graph, x, "b", {32, 18, 1, 1})}, "second");
  x = graph.node("Reshape", {x, graph.constant("shape", constant_of(Ints{1, 32, 132}))}, "seen");
  graph.output(graph.node("Sigmoid", {x}, "y"));
  int runs = 0;
  const CustomKernels custom{
      {"Relu", [&](const KernelSpec&) { return std::make_unique<CustomRelu>(runs); }}};
  for (const Layout inside : layouts) {
    FusedRun run{.image_layout = inside, .custom = &custom};
    runs = 0;
    expect_fused_equals_reference(graph, run);
    EXPECT_EQ(runs, 4) << "two nodes, two runs";
    EXPECT_EQ(run.context.bytes_copied, 0U);
  }
}

TEST(Program, WhatIsConvertedForACustomKernelIsCounted) {
  SmallGraph graph;
  graph.output(graph.node("Relu", {graph.input("x", {1, 16, 4, 5})}, "y"));
  int runs = 0;
  const CustomKernels custom{
      {"Relu", [&](const KernelSpec&) { return std::make_unique<CustomRelu>(runs); }}};
  FusedRun run{.inputs = Layout::nChw16c, .outputs = Layout::nChw16c, .custom = &custom};
  expect_fused_equals_reference(graph, run);
  EXPECT_EQ(run.context.bytes_copied, 2U * 16 * 4 * 5 * sizeof(float));
}

TEST(Program, ACustomKernelThatIsNotMadeNamesItsNode) {
  SmallGraph graph;
  graph.output(graph.node("Relu", {graph.input("x", {2, 3})}, "y"));
  const CustomKernels custom{
      {"Relu", [](const KernelSpec&) { return fail(ErrorCode::invalid_input, "no"); }}};
  HeapWeights weights;
  const auto program = Program::compile(graph.graph(), graph.node_names(), {{"x"}}, {{"y"}},
                                        {.packed_weights = &weights, .custom = &custom});
  ASSERT_FALSE(program);
  EXPECT_EQ(program.error().message, "node y: no");
}

// Copies all inputs to all outputs, and says so.
class CopyingKernel final : public Kernel {
 public:
  Result<> run(std::span<const TensorView> inputs,
               std::span<const MutableTensorView> outputs) override {
    copied_ = 0;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      EXPECT_EQ(inputs[i].layout, Layout::row_major);
      EXPECT_EQ(outputs[i].layout, Layout::row_major);
      const auto elements = static_cast<std::size_t>(*inputs[i].type.shape.elements());
      std::copy_n(inputs[i].as<float>(), elements, outputs[i].as<float>());
      copied_ += elements * sizeof(float);
    }
    if (fails_) return fail(ErrorCode::operator_failed, "its own words");
    return {};
  }
  [[nodiscard]] std::uint64_t bytes_copied() const override { return copied_; }
  void fail_from_now_on() { fails_ = true; }

 private:
  std::uint64_t copied_ = 0;
  bool fails_ = false;
};

TEST(Program, WhatACustomKernelCopiesIsCounted) {
  SmallGraph graph;
  graph.output(graph.node("Relu", {graph.input("x", {2, 3})}, "y"));
  const CustomKernels custom{
      {"Relu", [](const KernelSpec&) { return std::make_unique<CopyingKernel>(); }}};
  HeapWeights weights;
  auto program = *Program::compile(graph.graph(), graph.node_names(), {{"x"}}, {{"y"}},
                                   {.packed_weights = &weights, .custom = &custom});
  const TensorType type{float32, {2, 3}};
  AlignedMemory x(6 * sizeof(float)), y(6 * sizeof(float));
  const TensorView input{type, Layout::row_major, x.data()};
  const MutableTensorView output{type, Layout::row_major, y.data()};
  RunContext context;
  for (const std::uint64_t runs : {1, 2}) {
    ASSERT_TRUE(program->run({&input, 1}, {&output, 1}, context));
    EXPECT_EQ(context.bytes_copied, runs * 6 * sizeof(float));
  }
}

// A task of two tensors that do not depend on each other, run by one kernel.
class WrappedTask : public ::testing::Test {
 protected:
  WrappedTask() {
    graph_.output(graph_.node("Relu", {graph_.input("a", {1, 16, 4, 5})}, "c"));
    graph_.output(graph_.node("Relu", {graph_.input("b", {2, 3})}, "d"));
  }
  // The bytes that a run copies; `first` is the layout of the image and of what becomes of it.
  std::uint64_t run(Layout layout, CopyingKernel** made = nullptr) {
    auto kernel = std::make_unique<CopyingKernel>();
    if (made != nullptr) *made = kernel.get();
    program_ = *Program::wrap(graph_.graph(), {{"a", layout}, {"b"}}, {{"c", layout}, {"d"}},
                              std::move(kernel), {.packed_weights = &weights_});
    RunContext context;
    EXPECT_TRUE(run_once(layout, context));
    return context.bytes_copied;
  }
  Result<> run_once(Layout layout, RunContext& context) {
    const TensorType image{float32, {1, 16, 4, 5}}, matrix{float32, {2, 3}};
    const std::array<TensorView, 2> inputs{TensorView{image, layout, a_.data()},
                                           TensorView{matrix, Layout::row_major, b_.data()}};
    const std::array<MutableTensorView, 2> outputs{
        MutableTensorView{image, layout, c_.data()},
        MutableTensorView{matrix, Layout::row_major, d_.data()}};
    return program_->run(inputs, outputs, context);
  }

  static AlignedMemory filled(std::size_t floats) {
    AlignedMemory memory(floats * sizeof(float));
    auto* values = reinterpret_cast<float*>(memory.data());
    for (std::size_t i = 0; i < floats; ++i) values[i] = static_cast<float>(i);
    return memory;
  }

  SmallGraph graph_;
  HeapWeights weights_;
  std::unique_ptr<Program> program_;
  AlignedMemory a_ = filled(320), b_ = filled(6), c_ = filled(320), d_ = filled(6);
};

TEST_F(WrappedTask, GetsItsEdgesAsTheyAreAndItsCopiesAreCounted) {
  d_ = AlignedMemory(6 * sizeof(float));
  EXPECT_EQ(run(Layout::row_major), 326 * sizeof(float));
  EXPECT_EQ(std::memcmp(d_.data(), b_.data(), 6 * sizeof(float)), 0);
}

TEST_F(WrappedTask, GetsImagesRowMajorAndTheConversionsAreCounted) {
  for (const Layout layout : {Layout::nhwc, Layout::nChw16c}) {
    c_ = AlignedMemory(320 * sizeof(float));
    EXPECT_EQ(run(layout), (326 + 2 * 320) * sizeof(float));
    EXPECT_EQ(std::memcmp(c_.data(), a_.data(), 320 * sizeof(float)), 0) << to_string(layout);
  }
}

TEST_F(WrappedTask, ItsErrorsAreTheKernelsOwn) {
  CopyingKernel* kernel = nullptr;
  run(Layout::row_major, &kernel);
  kernel->fail_from_now_on();
  RunContext context;
  const auto failed = run_once(Layout::row_major, context);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().message, "its own words");
}

}  // namespace
}  // namespace opsplit::operators::testing
