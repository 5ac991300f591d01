// Every operation, with every element type: what the type rules take is planned as native, and what is
// planned as native has to start, run, and give what the same numbers give in the type that it is best at.
#include "operators/kernels/kernels.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "graph/foreign_types.hpp"
#include "graph/model.hpp"
#include "graph/onnx_types.hpp"
#include "graph/ops/element.hpp"
#include "graph/ops/op.hpp"
#include "operators/kernels/reference.hpp"
#include "operators/program.hpp"
#include "tests/operators/tensors.hpp"

namespace opsplit::operators::testing {
namespace {

using Numbers = std::vector<double>;
using Ints = std::vector<std::int64_t>;

graph::Constant tensor_of(const TensorType& type, const Numbers& numbers) {
  auto [tensor, data] = graph::Constant::allocate(type).value();
  graph::ops::cast_elements(float64, reinterpret_cast<const std::byte*>(numbers.data()), type.dtype,
                            data, static_cast<std::int64_t>(numbers.size()));
  return tensor;
}

Numbers numbers_of(const TensorType& type, const std::byte* data) {
  Numbers numbers(static_cast<std::size_t>(*type.shape.elements()));
  graph::ops::cast_elements(type.dtype, data, float64, reinterpret_cast<std::byte*>(numbers.data()),
                            static_cast<std::int64_t>(numbers.size()));
  return numbers;
}

// An input: of the type that is tried, unless it is always of one; small numbers, unless they matter.
struct Input {
  Shape shape;
  std::optional<DType> dtype = {};
  Numbers numbers = {};
  bool is_constant = false;  // what a shape depends on
  bool is_absent = false;
};
Input given(DType dtype, const Shape& shape, const Numbers& numbers) {
  return {shape, dtype, numbers};
}
Input constant(const Ints& values) {
  return {{static_cast<std::int64_t>(values.size())}, int64, {values.begin(), values.end()}, true};
}
const Input absent{.shape = {}, .is_absent = true};

struct Case {
  std::string op_type;
  std::vector<Input> inputs;
  Attributes attributes = {};
  std::int64_t opset = 18;
  std::size_t outputs = 1;
};

std::int64_t i(std::int64_t value) { return value; }

std::vector<Case> special_cases() {
  const Attributes window{{"kernel_shape", Ints{2, 2}}};
  const Attributes rows{{"axis", i(0)}};
  const Input image{{1, 2, 4, 4}}, matrix{{2, 3}}, list{{2}};
  const Input zero_one = given(int64, {2}, {0, 1});
  const Input corners = given(int64, {2, 3}, {0, 1, 0, 1, 0, 1});
  const Input scales{{4}, float32, {1, 1, 2, 2}, true};
  std::vector<Case> cases{
      {"AveragePool", {image}, window},
      {"LpPool", {image}, window},
      {"MaxPool", {image}, window},
      {"GlobalAveragePool", {image}},
      {"GlobalMaxPool", {image}},
      {"MaxPool",
       {image},
       {{"kernel_shape", Ints{3, 3}}, {"ceil_mode", i(1)}, {"strides", Ints{2, 2}}}},
      {"LpPool", {image}, {{"kernel_shape", Ints{2, 2}}, {"p", i(1)}, {"auto_pad", "SAME_LOWER"}}},
      {"LRN", {image}, {{"size", i(3)}}},
      {"LRN", {matrix}, {{"size", i(2)}}},
      {"BatchNormalization", {image, list, list, list, list}},
      {"BitShift", {matrix, matrix}, {{"direction", "LEFT"}}},
      {"BitShift", {matrix, matrix}, {{"direction", "RIGHT"}}},
      {"Clip", {matrix, {{}}, {{}}}},
      {"Clip", {matrix, absent, {{}}}},
      {"Clip", {matrix}, {{"min", 1.5F}, {"max", 2.5F}}, 6},
      {"Concat", {matrix, matrix}, rows},
      {"Constant", {}, {{"value_ints", Ints{1, 2}}}},
      {"ConstantOfShape", {constant({2, 3})}},
      {"Conv", {image, {{2, 2, 3, 3}}, list}},
      {"Conv", {image, {{2, 1, 3, 3}}}, {{"group", i(2)}}},
      {"ConvTranspose", {image, {{2, 1, 3, 3}}, {{1}}}},
      {"CumSum", {matrix, given(int64, {}, {1})}},
      {"CumSum", {matrix, given(int32, {}, {0})}, {{"exclusive", i(1)}, {"reverse", i(1)}}},
      {"DepthToSpace", {{{1, 4, 2, 2}}}, {{"blocksize", i(2)}}},
      {"DepthToSpace", {{{1, 4, 2, 2}}}, {{"blocksize", i(2)}, {"mode", "CRD"}}},
      {"SpaceToDepth", {{{1, 1, 4, 4}}}, {{"blocksize", i(2)}}},
      {"DequantizeLinear", {matrix, given(float32, {}, {2})}},
      {"DequantizeLinear", {matrix, given(float32, {}, {2}), {{}}}},
      {"DequantizeLinear", {given(uint8, {2}, {1, 2}), {{}}}, {}, 19},
      {"QuantizeLinear", {matrix, given(float32, {}, {2})}},
      {"QuantizeLinear", {matrix, {{}}}, {}, 19},
      {"QuantizeLinear", {given(float32, {2}, {1, 2}), given(float32, {}, {2}), {{}}}},
      {"DynamicQuantizeLinear", {matrix}, {}, 18, 3},
      {"Expand", {matrix, constant({2, 1, 3})}},
      {"EyeLike", {matrix}},
      {"Gather", {matrix, zero_one}, {{"axis", i(1)}}},
      {"GatherElements", {matrix, corners}},
      {"GatherND", {matrix, given(int64, {1, 2}, {1, 2})}},
      {"Gemm", {matrix, {{3, 2}}, list}},
      {"Gemm", {matrix, {{3, 2}}}},
      {"Gemm", {matrix, matrix, list}, {{"transB", i(1)}, {"alpha", 2.0F}, {"beta", 3.0F}}},
      {"GridSample", {image, {{1, 1, 2, 2}}}},
      {"GridSample", {image, given(float32, {1, 1, 2, 2}, {0, 0, 0.5, -0.5})}},
      {"GroupNormalization", {image, list, list}, {{"num_groups", i(2)}}},
      {"InstanceNormalization", {image, list, list}},
      {"LayerNormalization", {matrix, {{3}}, {{3}}}, {}, 18, 3},
      {"LayerNormalization", {matrix, {{3}}}},
      {"LayerNormalization", {matrix, matrix}, {{"axis", i(0)}}},
      {"MatMul", {matrix, {{3, 2}}}},
      {"MatMul", {{{2, 2, 3}}, {{3}}}},
      {"Max", {matrix, {{3}}, matrix}},
      {"Mean", {matrix, {{3}}, matrix}},
      {"Min", {matrix, {{3}}, matrix}},
      {"Sum", {matrix, {{3}}, matrix}},
      {"Mod", {matrix, matrix}, {{"fmod", i(1)}}},
      {"NegativeLogLikelihoodLoss", {matrix, zero_one, {{3}}}},
      {"SoftmaxCrossEntropyLoss", {matrix, zero_one, {{3}}}, {}, 18, 2},
      {"OneHot", {matrix, constant({4}), given(float32, {2}, {0, 1})}},
      {"OneHot", {zero_one, constant({4}), list}},
      {"PRelu", {matrix, {{3}}}},
      {"Pad", {matrix, constant({1, 0, 0, 1}), {{}}}},
      {"Pad", {matrix, constant({1, 0, 0, 1})}, {{"mode", "edge"}}},
      {"Pad", {matrix}, {{"pads", Ints{1, 0, 0, 1}}, {"value", 1.0F}}, 2},
      {"Range", {{{}, {}, {1}, true}, {{}, {}, {4}, true}, {{}, {}, {1}, true}}},
      {"ReduceSum", {matrix, constant({1})}},
      {"ReduceSum", {matrix}, {{"axes", Ints{1}}}, 11},
      {"ReduceMean", {matrix, constant({1})}},
      {"ReduceMax", {{{2, 3, 2}}, constant({0, 2})}},
      {"Reshape", {matrix, constant({3, 2})}},
      {"Resize", {{{1, 1, 2, 2}}, absent, scales}},
      {"Resize", {{{1, 1, 2, 2}}, absent, scales}, {{"mode", "linear"}}},
      {"Resize", {{{1, 1, 2, 2}}, absent, absent, constant({1, 1, 3, 3})}},
      {"Upsample", {{{1, 1, 2, 2}}, scales}, {}, 9},
      {"ReverseSequence", {matrix, given(int64, {3}, {1, 2, 2})}},
      {"Scatter", {matrix, corners, matrix}, {}, 10},
      {"ScatterElements", {matrix, corners, matrix}},
      {"ScatterElements", {matrix, corners, matrix}, {{"reduction", "add"}}},
      {"ScatterND", {matrix, given(int64, {1, 1}, {1}), {{1, 3}}}},
      {"ScatterND", {matrix, given(int64, {1, 1}, {1}), {{1, 3}}}, {{"reduction", "max"}}},
      {"Slice", {matrix, constant({1}), constant({3}), constant({1})}},
      {"Slice", {matrix}, {{"starts", Ints{1}}, {"ends", Ints{3}}, {"axes", Ints{1}}}, 9},
      {"Softmax", {matrix}, {}, 11},
      {"LogSoftmax", {matrix}, {}, 11},
      {"Hardmax", {matrix}, {}, 11},
      {"Split", {matrix}, rows, 13, 2},
      {"Squeeze", {{{1, 3}}, constant({0})}},
      {"Unsqueeze", {matrix, constant({0})}},
      {"Tile", {matrix, constant({2, 1})}},
      {"TopK", {matrix, constant({2})}, {}, 18, 2},
      {"Where", {given(bool8, {2, 3}, {1, 0, 0, 1, 0, 1}), matrix, matrix}},
  };
  for (const std::string how :
       {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"})
    for (const std::string mode : {"nearest", "linear"})
      cases.push_back({"Resize",
                       {{{1, 1, 2, 2}}, absent, scales},
                       {{"coordinate_transformation_mode", how}, {"mode", mode}},
                       19});
  for (const std::string mode : {"reflect", "wrap"})
    cases.push_back({"Pad", {matrix, constant({1, 0, 0, 1})}, {{"mode", mode}}, 19});
  for (const std::string reduction : {"mul", "max", "min"})
    cases.push_back({"ScatterElements", {matrix, corners, matrix}, {{"reduction", reduction}}});
  for (const std::string reduction : {"none", "sum"})
    cases.push_back(
        {"SoftmaxCrossEntropyLoss", {matrix, zero_one}, {{"reduction", reduction}}, 18, 2});
  for (const std::string mode : {"nearest", "bicubic"})
    cases.push_back({"GridSample", {image, {{1, 1, 2, 2}}}, {{"mode", mode}}});
  // Two types that may both be any.
  for (const auto& [number, dtype] : graph::onnx_dtypes) {
    cases.push_back({"Cast", {matrix}, {{"to", i(number)}}});
    cases.push_back({"CastLike", {matrix, given(dtype, {}, {0})}});
    cases.push_back({"EyeLike", {matrix}, {{"dtype", i(number)}}});
    cases.push_back({"Pow", {matrix, given(dtype, {3}, {1, 0, 1})}});
    if (dtype != bool8) cases.push_back({"Pow", {matrix, given(dtype, {3}, {1, 2, 3})}});
    const Numbers ones{1, 1};
    const std::vector<Input> statistics(4, given(dtype, {2}, ones));
    cases.push_back({"BatchNormalization",
                     {image, statistics[0], statistics[1], statistics[2], statistics[3]}});
  }
  return cases;
}

// Each operation of the registry; those without a case of their own take matrices.
std::vector<Case> all_cases() {
  std::vector<Case> cases = special_cases();
  std::set<std::string, std::less<>> named;
  for (const Case& c : cases) named.insert(c.op_type);
  for (const graph::ops::Op& op : graph::ops::all())
    if (!named.contains(op.type))
      cases.push_back({std::string(op.type), std::vector<Input>(op.min_inputs, Input{{2, 3}})});
  return cases;
}

// The same numbers for all types but bool: 1 to 3, or 0 and 1.
graph::Constant content_of(const Input& input, DType dtype, bool binary, std::size_t seed) {
  Numbers numbers = input.numbers;
  const std::int64_t elements = *input.shape.elements();
  if (numbers.empty())
    for (std::size_t k = 0; k < static_cast<std::size_t>(elements); ++k)
      numbers.push_back(static_cast<double>((k + k / 3 + seed) % 3 + 1));
  if (binary && !input.dtype)
    for (double& number : numbers) number = number == 2 ? 0 : 1;
  return tensor_of({input.dtype.value_or(dtype), input.shape}, numbers);
}

struct Prepared {
  graph::Graph graph;
  std::vector<graph::Constant> arriving;  // in the order of the graph's inputs
  Result<> inferred;
};

Prepared prepare(const Case& c, DType dtype, bool binary, bool all_constant) {
  Prepared made;
  graph::Graph& graph = made.graph;
  graph.opset = c.opset;
  graph::Node node = make_node(c.op_type, c.attributes);
  for (const Input& input : c.inputs) {
    if (input.is_absent) {
      node.inputs.push_back(graph::no_value);
      continue;
    }
    const graph::Constant content = content_of(input, dtype, binary, node.inputs.size());
    graph::Value value = make_value("x" + std::to_string(node.inputs.size()));
    value.dtype = content.type.dtype;
    const auto id = static_cast<graph::ValueId>(graph.values.size());
    if (input.is_constant || all_constant) {
      value.type = content.type;
      value.constant = content;
    } else {
      value.declared.emplace(input.shape.begin(), input.shape.end());
      graph.inputs.push_back(id);
      made.arriving.push_back(content);
    }
    node.inputs.push_back(graph.add_value(std::move(value)));
  }
  for (std::size_t output = 0; output < c.outputs; ++output) {
    node.outputs.push_back(graph.add_value(make_value("y" + std::to_string(output))));
    graph.outputs.push_back(node.outputs.back());
  }
  graph.nodes.push_back(std::move(node));
  made.inferred = graph::infer_shapes(graph, {});
  return made;
}

struct Answer {
  TensorType type;
  Numbers numbers;
};
using Answers = std::vector<Answer>;

// Where the node was folded, that; else what a program gives.
Result<Answers> compute(const Prepared& made) {
  const graph::Graph& graph = made.graph;
  std::vector<EdgeTensor> inputs, outputs;
  std::vector<TensorView> arriving;
  std::vector<AlignedMemory> memory;
  std::vector<MutableTensorView> results;
  Answers answers;
  for (std::size_t k = 0; k < graph.inputs.size(); ++k) {
    inputs.push_back({graph.value(graph.inputs[k]).name});
    arriving.push_back({made.arriving[k].type, Layout::row_major, made.arriving[k].bytes.data()});
  }
  for (const graph::ValueId id : graph.outputs) {
    const graph::Value& value = graph.value(id);
    if (value.constant)
      answers.push_back(
          {value.constant->type, numbers_of(value.constant->type, value.constant->bytes.data())});
    outputs.push_back({value.name});
    memory.emplace_back(*byte_size(*value.type));
    std::memset(memory.back().data(), 0xA5, memory.back().size());
    results.push_back({*value.type, Layout::row_major, memory.back().data()});
  }
  if (graph.nodes.empty()) return answers;
  HeapWeights weights;
  const std::vector<std::string> nodes{graph.nodes[0].name};
  OPSPLIT_TRY(const auto program,
              Program::compile(graph, nodes, inputs, outputs, {.packed_weights = &weights}));
  RunContext context;
  OPSPLIT_CHECK(program->run(arriving, results, context));
  for (const MutableTensorView& result : results)
    answers.push_back({result.type, numbers_of(result.type, result.data)});
  return answers;
}

// The node's reference, of the type that the operation is best known in.
std::optional<Answers> expected(const Case& c, bool binary) {
  for (const DType dtype : {float32, float64, float16, bfloat16, int64, uint64, int8, bool8}) {
    const Prepared made = prepare(c, dtype, binary, false);
    if (!made.inferred) continue;
    if (made.graph.nodes.empty()) return compute(made).value();
    const graph::Node& node = made.graph.nodes[0];
    std::vector<TensorView> inputs;
    std::size_t arrived = 0;
    for (const graph::ValueId id : node.inputs) {
      if (id == graph::no_value) {
        inputs.emplace_back();
        continue;
      }
      const auto& constant = made.graph.value(id).constant;
      const graph::Constant& content = constant ? *constant : made.arriving[arrived++];
      inputs.push_back({content.type, Layout::row_major, content.bytes.data()});
    }
    std::vector<AlignedMemory> memory;
    std::vector<MutableTensorView> outputs;
    for (const graph::ValueId id : node.outputs) {
      memory.emplace_back(*byte_size(made.graph.type(id)));
      outputs.push_back({made.graph.type(id), Layout::row_major, memory.back().data()});
    }
    const auto done = reference::evaluate(node, made.graph.opset, inputs, outputs);
    EXPECT_TRUE(done) << done.error().message;
    Answers answers;
    for (const MutableTensorView& output : outputs)
      answers.push_back({output.type, numbers_of(output.type, output.data)});
    return answers;
  }
  return std::nullopt;
}

double tolerance_of(DType dtype) {
  if (dtype.code == TypeCode::bfloat) return 0.03;
  if (dtype.code != TypeCode::float_) return 0;
  return dtype == float16 ? 4e-3 : 1e-5;
}

void expect_same(const Answers& actual, const Answers& expected, DType tried) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t output = 0; output < actual.size(); ++output) {
    const DType dtype = actual[output].type.dtype;
    ASSERT_EQ(actual[output].type.shape, expected[output].type.shape);
    // What comes out of inputs of few bits is no better than they.
    const double tolerance = dtype.code == TypeCode::float_ || dtype.code == TypeCode::bfloat
                                 ? std::max(tolerance_of(dtype), tolerance_of(tried))
                                 : 0;
    for (std::size_t k = 0; k < actual[output].numbers.size(); ++k) {
      double wanted = expected[output].numbers[k];
      if (dtype.code == TypeCode::int_ || dtype.code == TypeCode::uint) wanted = std::trunc(wanted);
      if (dtype.code == TypeCode::uint && wanted < 0) wanted += std::ldexp(1, dtype.bits);
      const double found = actual[output].numbers[k];
      if (std::isnan(wanted) || std::isinf(wanted))
        EXPECT_TRUE(std::isnan(wanted) ? std::isnan(found) : found == wanted) << found;
      else
        EXPECT_NEAR(found, wanted, tolerance * std::max(1.0, std::abs(wanted)))
            << "element " << k << " of output " << output;
    }
  }
}

std::string describe(const Case& c, DType dtype) {
  std::string text = c.op_type + " of " + to_string(dtype) + ", opset " + std::to_string(c.opset);
  for (const Input& input : c.inputs)
    text += input.is_absent ? " -"
                            : " " + to_string(TensorType{input.dtype.value_or(dtype), input.shape});
  for (const auto& [name, value] : c.attributes) {
    text += " " + name;
    if (const auto* number = std::get_if<std::int64_t>(&value))
      text += "=" + std::to_string(*number);
    if (const auto* word = std::get_if<std::string>(&value)) text += "=" + *word;
  }
  return text;
}

void expect_all_types_run(bool all_constant) {
  for (const Case& c : all_cases()) {
    const std::optional<Answers> numbers = expected(c, false), binary = expected(c, true);
    for (const auto& [number, dtype] : graph::onnx_dtypes) {
      SCOPED_TRACE(describe(c, dtype));
      const bool is_binary = dtype == bool8;
      const Prepared made = prepare(c, dtype, is_binary, all_constant);
      if (all_constant && prepare(c, dtype, is_binary, false).inferred) {
        EXPECT_TRUE(made.inferred) << made.inferred.error().message;
      }
      if (!made.inferred) continue;
      const auto answers = compute(made);
      if (!answers)
        ADD_FAILURE() << answers.error().message;
      else
        expect_same(*answers, (is_binary ? binary : numbers).value(), dtype);
    }
  }
}

TEST(Kernels, ComputeEveryElementTypeThatTheTypeRulesTake) { expect_all_types_run(false); }

// Folded or not, constants neither refuse a model nor give something else.
TEST(Kernels, ComputeEveryElementTypeOfConstants) { expect_all_types_run(true); }

// What ONNX allows and no kernel takes is `unsupported`: then another backend runs it.
TEST(Kernels, LeaveToOtherBackendsWhatOnnxAllowsAndTheyDoNotTake) {
  for (const Case& c : all_cases())
    for (const auto& [number, dtype] : graph::onnx_dtypes) {
      SCOPED_TRACE(describe(c, dtype));
      const Prepared made = prepare(c, dtype, dtype == bool8, false);
      if (made.inferred || made.inferred.error().code == ErrorCode::unsupported) continue;
      graph::Graph other = made.graph;
      const graph::Node& node = other.nodes[0];
      const auto typed = graph::infer_foreign(other, node, graph::infer_by_onnx, "");
      EXPECT_TRUE(!typed || other.value(node.outputs[0]).open) << made.inferred.error().message;
    }
}

}  // namespace
}  // namespace opsplit::operators::testing
