#include "tests/operators/small_graph.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "graph/model.hpp"
#include "operators/kernels/reference.hpp"

namespace opsplit::operators::testing {

std::string SmallGraph::input(const std::string& name, const Shape& shape) {
  graph::Value value = make_value(name);
  value.dtype = float32;
  value.declared.emplace(shape.begin(), shape.end());
  graph_.inputs.push_back(graph_.add_value(std::move(value)));
  return name;
}

std::string SmallGraph::constant(const std::string& name, const graph::Constant& constant) {
  graph::Value value = make_value(name);
  value.dtype = constant.type.dtype;
  value.type = constant.type;
  value.constant = constant;
  graph_.add_value(std::move(value));
  return name;
}

std::string SmallGraph::random(const std::string& name, const Shape& shape) {
  return constant(name, constant_of(random_tensor(
                            shape, static_cast<std::uint32_t>(std::hash<std::string>()(name)))));
}

graph::ValueId SmallGraph::value(const std::string& name) {
  if (name.empty()) return graph::no_value;
  const graph::ValueId id = graph_.find(name);
  return id != graph::no_value ? id : graph_.add_value(make_value(name));
}

std::string SmallGraph::node(const std::string& op_type, const std::vector<std::string>& inputs,
                             const std::string& output, Attributes attributes) {
  graph::Node node = make_node(op_type, std::move(attributes));
  node.name = output;
  for (const std::string& name : inputs) node.inputs.push_back(value(name));
  node.outputs.push_back(value(output));
  graph_.nodes.push_back(std::move(node));
  return output;
}

void SmallGraph::output(const std::string& name) { graph_.outputs.push_back(value(name)); }

const graph::Graph& SmallGraph::graph() {
  if (!inferred_) {
    const auto inferred = graph::infer_shapes(graph_, {}, graph::infer_by_onnx);
    EXPECT_TRUE(inferred) << inferred.error().message;
    inferred_ = true;
  }
  return graph_;
}

std::vector<std::string> SmallGraph::node_names() {
  std::vector<std::string> names;
  for (const graph::Node& node : graph().nodes) names.push_back(node.name);
  return names;
}

std::vector<Tensor> SmallGraph::inputs() {
  std::vector<Tensor> tensors;
  for (const graph::ValueId id : graph().inputs)
    tensors.push_back(
        random_tensor(graph_.type(id).shape, 1 + static_cast<std::uint32_t>(tensors.size())));
  return tensors;
}

std::vector<Tensor> SmallGraph::reference(const std::vector<Tensor>& inputs) {
  // Memory for every value; those of no node are inputs and constants.
  std::map<graph::ValueId, TensorView> known;
  std::vector<Tensor> computed;
  computed.reserve(graph().values.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) known[graph_.inputs[i]] = inputs[i].view();
  const auto find = [&](graph::ValueId id) -> TensorView {
    if (id == graph::no_value) return {};
    if (graph_.is_constant(id))
      return {graph_.type(id), Layout::row_major, graph_.value(id).constant->bytes.data()};
    return known.at(id);
  };
  for (const graph::Node& node : graph_.nodes) {
    std::vector<TensorView> arguments;
    std::vector<MutableTensorView> results;
    for (const graph::ValueId id : node.inputs) arguments.push_back(find(id));
    for (const graph::ValueId id : node.outputs) {
      results.push_back(computed.emplace_back(graph_.type(id), Layout::row_major).mutable_view());
      known[id] = computed.back().view();
    }
    const auto done = reference::evaluate(node, graph_.opset, arguments, results);
    EXPECT_TRUE(done) << node.name << ": " << done.error().message;
  }
  std::vector<Tensor> outputs;
  for (const graph::ValueId id : graph_.outputs) {
    Tensor& output = outputs.emplace_back(graph_.type(id), Layout::row_major);
    std::memcpy(output.values().data(), find(id).data, output.bytes());
  }
  return outputs;
}

void expect_fused_equals_reference(SmallGraph& small, FusedRun& run, double tolerance) {
  const graph::Graph& graph = small.graph();
  const auto edges = [&](const std::vector<graph::ValueId>& ids, Layout layout) {
    std::vector<EdgeTensor> result;
    for (const graph::ValueId id : ids)
      result.push_back(
          {graph.value(id).name, graph.type(id).shape.rank() == 4 ? layout : Layout::row_major});
    return result;
  };
  HeapWeights weights;
  const CompileOptions options{run.threads, &weights, run.image_layout, run.custom};
  auto program = Program::compile(graph, small.node_names(), edges(graph.inputs, run.inputs),
                                  edges(graph.outputs, run.outputs), options);
  ASSERT_TRUE(program) << program.error().message;

  const std::vector<Tensor> plain_inputs = small.inputs();
  const std::vector<Tensor> expected = small.reference(plain_inputs);
  std::vector<Tensor> inputs;
  std::vector<TensorView> input_views;
  for (const Tensor& tensor : plain_inputs)
    inputs.push_back(in_layout(tensor, tensor.type().shape.rank() == 4
                                           ? run.arrived.value_or(run.inputs)
                                           : Layout::row_major));
  for (const Tensor& tensor : inputs) input_views.push_back(tensor.view());
  // Twice, into places of different content and address, as the slots of an arena are.
  for (const float stale : {0.0F, 1e30F}) {
    std::vector<Tensor> outputs;
    std::vector<MutableTensorView> output_views;
    for (const Tensor& tensor : expected)
      outputs.emplace_back(tensor.type(),
                           tensor.type().shape.rank() == 4 ? run.outputs : Layout::row_major);
    for (Tensor& tensor : outputs) {
      std::fill(tensor.values().begin(), tensor.values().end(), stale);
      output_views.push_back(tensor.mutable_view());
    }
    run.context = {.workspace = run.context.workspace};
    const auto done = (*program)->run(input_views, output_views, run.context);
    ASSERT_TRUE(done) << done.error().message;
    for (std::size_t i = 0; i < outputs.size(); ++i)
      expect_near(outputs[i], expected[i], tolerance);
  }
}

}  // namespace opsplit::operators::testing
