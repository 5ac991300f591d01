#include "tests/operators/kernel_case.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "graph/model.hpp"
#include "operators/kernels/reference.hpp"

namespace opsplit::operators::testing {
namespace {

// The node with its types, as shape inference gives them.
graph::Graph graph_of(const KernelCase& test) {
  graph::Graph graph;
  graph.opset = test.opset;
  graph::Node node = make_node(test.op_type, test.attributes);
  for (std::size_t i = 0; i < test.inputs.size(); ++i) {
    graph::Value value = make_value("input" + std::to_string(i));
    value.dtype = float32;
    if (const auto* known = std::get_if<Known>(&test.inputs[i])) {
      value.dtype = known->constant.type.dtype;
      value.type = known->constant.type;
      value.constant = known->constant;
    } else if (const auto* arrives = std::get_if<Arrives>(&test.inputs[i])) {
      value.declared.emplace(arrives->shape.begin(), arrives->shape.end());
      graph.inputs.push_back(static_cast<graph::ValueId>(graph.values.size()));
    } else {
      node.inputs.push_back(graph::no_value);
      continue;
    }
    node.inputs.push_back(graph.add_value(std::move(value)));
  }
  for (std::size_t i = 0; i < test.outputs; ++i) {
    node.outputs.push_back(graph.add_value(make_value("output" + std::to_string(i))));
    graph.outputs.push_back(node.outputs.back());
  }
  graph.nodes.push_back(std::move(node));
  const auto inferred = graph::infer_shapes(graph, {});
  EXPECT_TRUE(inferred) << inferred.error().message;
  return graph;
}

// Applies a post-op by evaluating the operation that it stands for.
Tensor with_post_op(const Tensor& value, const PostOp& op, const Tensor* operand) {
  graph::Node node = make_node("Add");
  std::vector<TensorView> inputs{value.view()};
  if (op.kind == PostOp::Kind::activation) {
    using enum ActivationFunction;
    const auto [function, alpha, beta] = op.activation;
    node.op_type = function == relu           ? "Relu"
                   : function == leaky_relu   ? "LeakyRelu"
                   : function == clip         ? "Clip"
                   : function == hard_swish   ? "HardSwish"
                   : function == hard_sigmoid ? "HardSigmoid"
                                              : "Sigmoid";
    node.attributes = {{"alpha", alpha}, {"beta", beta}, {"min", alpha}, {"max", beta}};
  } else {
    if (op.binary == BinaryFunction::multiply) node.op_type = "Mul";
    inputs.push_back(operand->view());
  }
  Tensor result(value.type(), Layout::row_major);
  const MutableTensorView output = result.mutable_view();
  const auto done = reference::evaluate(node, 6, inputs, {&output, 1});
  EXPECT_TRUE(done) << done.error().message;
  return result;
}

}  // namespace

std::string describe(const KernelCase& test) {
  std::string text = test.op_type + " " + std::string(to_string(test.layout));
  for (const CaseInput& input : test.inputs) {
    if (const auto* arrives = std::get_if<Arrives>(&input)) text += " " + to_string(arrives->shape);
    if (const auto* known = std::get_if<Known>(&input))
      text += " (" + to_string(known->constant.type) + ")";
  }
  for (const auto& [name, value] : test.attributes) {
    text += " " + name + "=";
    if (const auto* number = std::get_if<std::int64_t>(&value)) text += std::to_string(*number);
    if (const auto* numbers = std::get_if<std::vector<std::int64_t>>(&value))
      for (const std::int64_t each : *numbers) text += std::to_string(each) + ",";
    if (const auto* string = std::get_if<std::string>(&value)) text += *string;
  }
  return text;
}

void expect_equals_reference(const KernelCase& test, double tolerance) {
  SCOPED_TRACE(describe(test));
  const graph::Graph graph = graph_of(test);
  if (::testing::Test::HasFailure()) return;
  const graph::Node& node = graph.nodes[0];
  const auto laid_out = [&](const Shape& shape) {
    return shape.rank() == 4 ? test.layout : Layout::row_major;
  };

  KernelSpec spec{.node = &node, .opset = test.opset, .post_ops = test.post_ops};
  std::vector<Tensor> plain;  // row-major, in the order of the inputs that arrive
  std::vector<Tensor> given;
  plain.reserve(test.inputs.size() + test.operands.size());
  given.reserve(test.inputs.size() + test.operands.size());
  std::vector<TensorView> plain_views;
  std::vector<TensorView> views;
  const auto arrive = [&](const Shape& shape) {
    plain.push_back(random_tensor(shape, 7 + static_cast<std::uint32_t>(plain.size())));
    given.push_back(in_layout(plain.back(), laid_out(shape)));
    spec.inputs.push_back({.type = {float32, shape}, .layout = laid_out(shape)});
    plain_views.push_back(plain.back().view());
    views.push_back(given.back().view());
  };
  for (const CaseInput& input : test.inputs) {
    if (const auto* known = std::get_if<Known>(&input)) {
      spec.inputs.push_back({.type = known->constant.type, .constant = &known->constant});
      plain_views.push_back(
          {known->constant.type, Layout::row_major, known->constant.bytes.data()});
      views.push_back(plain_views.back());
    } else if (const auto* arrives = std::get_if<Arrives>(&input)) {
      arrive(arrives->shape);
    } else {
      spec.inputs.push_back({.present = false});
      plain_views.emplace_back();
      views.emplace_back();
    }
  }
  std::vector<Tensor> expected;
  std::vector<Tensor> actual;
  std::vector<MutableTensorView> expected_views;
  std::vector<MutableTensorView> actual_views;
  for (const graph::ValueId id : node.outputs) {
    const TensorType& type = graph.type(id);
    spec.outputs.push_back({.type = type, .layout = laid_out(type.shape)});
    expected.emplace_back(type, Layout::row_major);
    actual.emplace_back(type, laid_out(type.shape));
    std::fill(actual.back().values().begin(), actual.back().values().end(), 1e30F);
  }
  for (Tensor& tensor : expected) expected_views.push_back(tensor.mutable_view());
  for (Tensor& tensor : actual) actual_views.push_back(tensor.mutable_view());

  const auto evaluated = reference::evaluate(node, test.opset, plain_views, expected_views);
  ASSERT_TRUE(evaluated) << evaluated.error().message;
  std::size_t next = 0;
  for (PostOp& op : spec.post_ops) {
    const Tensor* operand = nullptr;
    if (op.kind == PostOp::Kind::binary) {
      op.operand = spec.inputs.size();
      arrive(test.operands.at(next++));
      operand = &plain.back();
    }
    expected[0] = with_post_op(expected[0], op, operand);
  }

  HeapWeights weights;
  const KernelResources resources{&weights, std::make_shared<Scratchpad>()};
  const auto kernel = test.make(spec, resources);
  ASSERT_TRUE(kernel) << kernel.error().message;
  for (int time = 0; time < 2; ++time) {
    const auto done = (*kernel)->run(views, actual_views);
    ASSERT_TRUE(done) << done.error().message;
    for (std::size_t i = 0; i < actual.size(); ++i) expect_near(actual[i], expected[i], tolerance);
  }
}

}  // namespace opsplit::operators::testing
