#include "graph/bundle.hpp"

#include <onnx/onnx_pb.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "graph/names.hpp"
#include "graph/onnx_export.hpp"
#include "graph/onnx_tensor.hpp"

namespace opsplit::graph {
namespace {

constexpr const char* nodes_attribute =
    "nodes";  // a GraphProto: nodes, and names of what goes in and out
constexpr const char* varying_attribute = "varying";  // positions of outputs

using Names = std::unordered_map<std::string_view, std::string_view>;

std::vector<onnx::GraphProto*> subgraphs(onnx::NodeProto& node) {
  std::vector<onnx::GraphProto*> found;
  for (auto& attribute : *node.mutable_attribute()) {
    if (attribute.has_g()) found.push_back(attribute.mutable_g());
    for (auto& graph : *attribute.mutable_graphs()) found.push_back(&graph);
  }
  return found;
}

class Reading {
 public:
  explicit Reading(const std::function<bool(const std::string&)>& is_defined)
      : is_defined_(is_defined) {}

  Result<> node(onnx::NodeProto& node) {
    for (const std::string& input : node.input()) read(input);
    for (onnx::GraphProto* graph : subgraphs(node)) OPSPLIT_CHECK(subgraph(*graph));
    return {};
  }

  std::vector<std::string> found() && { return std::move(found_); }

 private:
  void read(const std::string& name) {
    if (!name.empty() && !inner_.contains(name) && known_.insert(name).second)
      found_.push_back(name);
  }

  Result<> define(const std::string& name, std::vector<std::string>& names) {
    if (name.empty()) return {};
    if (is_defined_(name) || !inner_.insert(name).second)
      return fail(ErrorCode::invalid_input, "a subgraph defines '{}', which is defined around it",
                  is_printable(name) ? name : "?");
    names.push_back(name);
    return {};
  }

  Result<> subgraph(onnx::GraphProto& graph) {
    std::vector<std::string> names;
    std::unordered_set<std::string_view> inputs;
    for (const auto& input : graph.input()) {
      OPSPLIT_CHECK(define(input.name(), names));
      inputs.insert(input.name());
    }
    for (const auto& tensor : graph.initializer())
      if (!inputs.contains(tensor.name()))  // else it is an input's default
        OPSPLIT_CHECK(define(tensor.name(), names));
    for (const auto& tensor : graph.sparse_initializer())
      OPSPLIT_CHECK(define(tensor.values().name(), names));
    for (const auto& inside : graph.node())
      for (const std::string& output : inside.output()) OPSPLIT_CHECK(define(output, names));
    for (auto& inside : *graph.mutable_node()) OPSPLIT_CHECK(node(inside));
    for (const auto& output : graph.output()) read(output.name());
    for (const std::string& name : names) inner_.erase(name);  // a sibling may use it, too
    return {};
  }

  const std::function<bool(const std::string&)>& is_defined_;
  std::unordered_set<std::string> inner_;  // defined in the subgraphs that we are in
  std::unordered_set<std::string> known_;
  std::vector<std::string> found_;
};

Result<> take_in(onnx::TensorProto& tensor, ExternalData& external, std::uint64_t& room) {
  if (tensor.data_location() != onnx::TensorProto::EXTERNAL) return {};
  auto constant = constant_from_onnx(tensor, external);
  if (!constant)
    return within(fmt::format("tensor '{}'", is_printable(tensor.name()) ? tensor.name() : "?"),
                  constant.error());
  if (constant->bytes.size() > room)
    return fail(ErrorCode::limit_exceeded,
                "tensor '{}': too many weights in subgraphs lie beside the model",
                is_printable(tensor.name()) ? tensor.name() : "?");
  room -= constant->bytes.size();
  constant->stored = nullptr;
  tensor.clear_external_data();
  tensor.clear_data_location();
  constant_to_onnx(*constant, tensor);
  return {};
}

// Passes of ours may have given what goes in or out another name.
void rename(onnx::NodeProto& node, const Names& names) {
  const auto rename_one = [&](std::string& name) {
    if (const auto found = names.find(name); found != names.end()) name = found->second;
  };
  for (std::string& name : *node.mutable_input()) rename_one(name);
  for (std::string& name : *node.mutable_output()) rename_one(name);
  for (onnx::GraphProto* graph : subgraphs(node)) {
    for (auto& inside : *graph->mutable_node()) rename(inside, names);
    for (auto& output : *graph->mutable_output()) rename_one(*output.mutable_name());
  }
}

}  // namespace

Node make_bundle(const Graph& graph, std::string name, onnx::GraphProto nodes,
                 std::vector<ValueId> inputs, std::vector<ValueId> outputs, double cost) {
  for (const ValueId id : inputs) nodes.add_input()->set_name(graph.value(id).name);
  for (const ValueId id : outputs) nodes.add_output()->set_name(graph.value(id).name);
  const auto named = std::find_if(nodes.node().begin(), nodes.node().end(),
                                  [](const auto& node) { return node.op_type() != "Constant"; });
  std::string op_type = fmt::format("{}.{}", bundle_domain,
                                    named == nodes.node().end() ? "Constant" : named->op_type());
  if (nodes.node_size() > 1) op_type += fmt::format("+{}", nodes.node_size() - 1);
  std::vector<std::int64_t> varying;
  for (std::size_t i = 0; i < outputs.size(); ++i)
    if (graph.value(outputs[i]).open) varying.push_back(static_cast<std::int64_t>(i));
  Node bundle{std::move(name),
              std::move(op_type),
              std::move(inputs),
              std::move(outputs),
              {{nodes_attribute, nodes.SerializeAsString()}, {"cost", static_cast<float>(cost)}}};
  if (!varying.empty()) bundle.attributes.emplace(varying_attribute, std::move(varying));
  return bundle;
}

bool varies(const Node& node, ValueId output) {
  if (!is_bundle(node)) return false;
  const auto varying = node.integers(varying_attribute);
  return std::ranges::any_of(varying, [&](std::int64_t position) {
    return position >= 0 && static_cast<std::size_t>(position) < node.outputs.size() &&
           node.outputs[static_cast<std::size_t>(position)] == output;
  });
}

Result<> add_unbundled(const Graph& graph, const Node& node, onnx::GraphProto& to) {
  if (!is_bundle(node)) {
    add_node(graph, node, to);
    return {};
  }
  onnx::GraphProto inside;
  if (!inside.ParseFromString(node.text(nodes_attribute, "")) ||
      static_cast<std::size_t>(inside.input_size()) != node.inputs.size() ||
      static_cast<std::size_t>(inside.output_size()) != node.outputs.size())
    return fail(ErrorCode::invalid_input, "node '{}' is no bundle of opsplit's", node.name);
  Names renamed;
  const auto compare = [&](const auto& names, const std::vector<ValueId>& ids) {
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const std::string& name = names[static_cast<int>(i)].name();
      if (ids[i] != no_value && graph.value(ids[i]).name != name)
        renamed.emplace(name, graph.value(ids[i]).name);
    }
  };
  compare(inside.input(), node.inputs);
  compare(inside.output(), node.outputs);
  for (auto& proto : *inside.mutable_node()) {
    if (!renamed.empty()) rename(proto, renamed);
    to.add_node()->Swap(&proto);
  }
  return {};
}

Result<std::vector<std::string>> names_read(
    onnx::NodeProto& node, const std::function<bool(const std::string&)>& is_defined) {
  Reading reading(is_defined);
  OPSPLIT_CHECK(reading.node(node));
  return std::move(reading).found();
}

Result<> take_in_weights(onnx::NodeProto& node, ExternalData& external, std::uint64_t& room) {
  for (auto& attribute : *node.mutable_attribute()) {
    if (attribute.has_t()) OPSPLIT_CHECK(take_in(*attribute.mutable_t(), external, room));
    for (auto& tensor : *attribute.mutable_tensors())
      OPSPLIT_CHECK(take_in(tensor, external, room));
  }
  for (onnx::GraphProto* graph : subgraphs(node)) {
    for (auto& tensor : *graph->mutable_initializer())
      OPSPLIT_CHECK(take_in(tensor, external, room));
    for (auto& inside : *graph->mutable_node())
      OPSPLIT_CHECK(take_in_weights(inside, external, room));
  }
  return {};
}

}  // namespace opsplit::graph
