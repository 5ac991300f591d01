#include <onnx/onnx_pb.h>

#include <algorithm>
#include <climits>
#include <set>
#include <unordered_map>

#include "graph/bundle.hpp"
#include "graph/onnx_export.hpp"
#include "graph/onnx_file.hpp"
#include "graph/planner.hpp"
#include "graph/stored_graph.hpp"

namespace opsplit::graph {
namespace {

// Whoever reads it has no rules for such nodes.
void declare_outputs(const Graph& graph, const Node& node, onnx::GraphProto& out) {
  if (!is_foreign(node) && graph.opset <= newest_known_opset) return;
  for (const ValueId id : node.outputs)
    if (id != no_value) describe(graph.value(id).name, graph.type(id), *out.add_value_info());
}

class PartWriter {
 public:
  PartWriter(const Graph& graph, const Plan& plan) : graph_(graph), plan_(plan) {
    for (std::size_t i = 0; i < graph.nodes.size(); ++i)
      nodes_.emplace(graph.nodes[i].name, static_cast<std::int32_t>(i));
  }

  Result<onnx::ModelProto> write(const PlannedOperator& op) {
    onnx::ModelProto model = empty_model(graph_, op.name);
    add_all_functions(graph_, model);  // whatever its bundles call
    onnx::GraphProto& part = *model.mutable_graph();
    std::set<ValueId> constants;
    std::set<std::string_view> produced;
    for (const std::int32_t task : op.tasks)
      for (const std::string& name : at(plan_.tasks, task).nodes) {
        const auto found = nodes_.find(name);
        if (found == nodes_.end())
          return fail(ErrorCode::invalid_input, "the plan is of another model: no node '{}'", name);
        const Node& node = at(graph_.nodes, found->second);
        add_node(graph_, node, part);
        declare_outputs(graph_, node, part);
        for (const ValueId id : node.inputs)
          if (graph_.is_constant(id)) constants.insert(id);
        for (const ValueId id : node.outputs)
          if (id != no_value) produced.insert(graph_.value(id).name);
      }
    for (const ValueId id : constants) add_constant(graph_.value(id), part);
    for (const std::int32_t id : tensors(op, &PlannedTask::inputs))
      if (const PlannedTensor& tensor = at(plan_.tensors, id); !produced.contains(tensor.name))
        describe(tensor.name, tensor.type, *part.add_input());
    for (const std::int32_t id : tensors(op, &PlannedTask::outputs))
      describe(at(plan_.tensors, id).name, at(plan_.tensors, id).type, *part.add_output());
    return model;
  }

 private:
  template <class T>
  static const T& at(const std::vector<T>& items, std::int32_t id) {
    return items[static_cast<std::size_t>(id)];
  }

  std::set<std::int32_t> tensors(const PlannedOperator& op,
                                 std::vector<std::int32_t> PlannedTask::*which) const {
    std::set<std::int32_t> ids;
    for (const std::int32_t task : op.tasks)
      ids.insert((at(plan_.tasks, task).*which).begin(), (at(plan_.tasks, task).*which).end());
    return ids;
  }

  const Graph& graph_;
  const Plan& plan_;
  std::unordered_map<std::string_view, std::int32_t> nodes_;  // by name
};

}  // namespace

Result<> write_parts(const Graph& graph, const Plan& plan, const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return fail_errno(error.value(), "cannot make folder '{}'", folder.string());
  PartWriter writer(graph, plan);
  for (const PlannedOperator& op : plan.operators) {
    OPSPLIT_TRY(const onnx::ModelProto model, writer.write(op));
    OPSPLIT_CHECK(write_onnx(model, folder / op.part));
  }
  return {};
}

Result<std::string> export_task(const Graph& part, std::span<const std::string> nodes,
                                std::span<const std::string> inputs,
                                std::span<const std::string> outputs) {
  onnx::ModelProto model = empty_model(part, nodes.empty() ? part.name : nodes.front());
  onnx::GraphProto& proto = *model.mutable_graph();
  std::set<ValueId> constants;
  const std::set<std::string_view> wanted(nodes.begin(), nodes.end());
  std::size_t found = 0;
  for (const Node& node : part.nodes) {
    if (!wanted.contains(node.name)) continue;
    ++found;
    OPSPLIT_CHECK(add_unbundled(part, node, proto));
    for (const ValueId id : node.inputs)
      if (part.is_constant(id)) constants.insert(id);
  }
  if (found != wanted.size())
    return fail(ErrorCode::not_found, "part '{}' has only {} of the {} nodes of a task", part.name,
                found, wanted.size());
  add_called_functions(part, model);
  for (const ValueId id : constants) add_constant_bytes(part.value(id), proto);
  const auto describe_all = [&](std::span<const std::string> names, auto add_info) -> Result<> {
    for (const std::string& name : names) {
      const ValueId id = part.find(name);
      if (id == no_value)
        return fail(ErrorCode::not_found, "part '{}' has no tensor '{}'", part.name, name);
      onnx::ValueInfoProto& info = *add_info();
      describe(name, part.type(id), info);
      // Whoever runs it would take these sizes for the only ones.
      if (std::ranges::any_of(part.nodes, [&](const Node& node) { return varies(node, id); }))
        for (auto& dim :
             *info.mutable_type()->mutable_tensor_type()->mutable_shape()->mutable_dim())
          dim.clear_dim_value();
    }
    return {};
  };
  OPSPLIT_CHECK(describe_all(inputs, [&] { return proto.add_input(); }));
  OPSPLIT_CHECK(describe_all(outputs, [&] { return proto.add_output(); }));
  if (model.ByteSizeLong() > INT_MAX)
    return fail(
        ErrorCode::limit_exceeded,
        "a task with {} bytes of weights does not fit into one ONNX model (2 GiB): split it "
        "into more operators",
        model.ByteSizeLong());
  return model.SerializeAsString();
}

std::string export_stored(const Graph& graph) {
  onnx::ModelProto model = empty_model(graph, graph.name);
  add_all_functions(graph, model);
  onnx::GraphProto& proto = *model.mutable_graph();
  for (const Node& node : graph.nodes) {
    add_node(graph, node, proto);
    declare_outputs(graph, node, proto);
  }
  for (const Value& value : graph.values)
    if (value.constant) add_constant(value, proto);
  for (const ValueId id : graph.inputs)
    describe(graph.value(id).name, graph.type(id), *proto.add_input());
  for (const ValueId id : graph.outputs)
    describe(graph.value(id).name, graph.type(id), *proto.add_output());
  return model.SerializeAsString();
}

}  // namespace opsplit::graph
