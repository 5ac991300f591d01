#include <fmt/ranges.h>
#include <onnx/onnx_pb.h>

#include <unordered_map>
#include <utility>

#include "graph/bundle.hpp"
#include "graph/model.hpp"
#include "graph/names.hpp"
#include "graph/onnx_attribute.hpp"
#include "graph/onnx_export.hpp"
#include "graph/onnx_file.hpp"
#include "graph/onnx_tensor.hpp"
#include "graph/onnx_types.hpp"
#include "graph/ops/op.hpp"
#include "graph/stored_graph.hpp"
#include "graph/topological.hpp"

namespace opsplit::graph {
namespace {

constexpr std::int64_t oldest_opset = 7;

bool is_default_domain(const std::string& domain) { return domain.empty() || domain == "ai.onnx"; }

Result<std::int64_t> opset_of(const onnx::ModelProto& model) {
  for (const auto& import : model.opset_import()) {
    if (!is_default_domain(import.domain())) continue;
    if (import.version() >= oldest_opset) return import.version();
    return fail(
        ErrorCode::invalid_input,
        "operator set {}: {} and later ones are supported (onnx.version_converter changes it)",
        import.version(), oldest_opset);
  }
  return fail(ErrorCode::invalid_input, "names no version of ONNX's own operator set");
}

using Opsets = std::map<std::string, std::int64_t>;

Opsets other_opsets_of(const onnx::ModelProto& model) {
  Opsets opsets;
  for (const auto& import : model.opset_import())
    if (!is_default_domain(import.domain()) && is_printable(import.domain()))
      opsets.emplace(import.domain(), import.version());
  return opsets;
}

// Of those that ONNX numbers, or will before long.
bool is_element_type(std::int32_t number) { return number > 0 && number < 64; }

// Takes a GraphProto apart. Values are added in the order: inputs, initializers, node outputs.
class Importer {
 public:
  Importer(onnx::GraphProto& proto, ExternalData& external) : proto_(proto), external_(external) {}

  Result<Graph> run(std::int64_t opset, Opsets other_opsets) {
    graph_.opset = opset;
    graph_.other_opsets = std::move(other_opsets);
    if (proto_.sparse_initializer_size() > 0)
      return fail(ErrorCode::invalid_input, "sparse initializers are not supported");
    constants_of_other_types();
    OPSPLIT_CHECK(initializers());
    OPSPLIT_CHECK(inputs());
    name_nodes();
    for (int i = 0; i < proto_.node_size(); ++i) OPSPLIT_CHECK(node_outputs(i));
    for (int i = 0; i < proto_.node_size(); ++i) {
      if (auto added = node(i); !added) return within(describe(i), std::move(added).error());
    }
    OPSPLIT_CHECK(outputs());
    drop_unread_outputs();
    for (int i = 0; i < proto_.node_size(); ++i)
      if (auto checked = check_arity(graph_.nodes[static_cast<std::size_t>(i)]); !checked)
        return within(describe(i), std::move(checked).error());
    declared_types();
    OPSPLIT_CHECK(sort());
    return std::move(graph_);
  }

 private:
  // "node 'conv1' (Conv)"; used in messages, so nothing of the file's goes in unseen.
  std::string describe(int index) const {
    const std::string& type = proto_.node(index).op_type();
    return fmt::format("node '{}' ({})", names_[static_cast<std::size_t>(index)],
                       is_printable(type) ? type : "?");
  }

  // A new value; the name must be printable and not taken. `what` says whose it is.
  Result<ValueId> define(const std::string& name, const std::string& what) {
    if (name.empty() || !is_printable(name))
      return fail(ErrorCode::invalid_input, "{} has no printable name", what);
    const auto [known, added] = ids_.emplace(name, static_cast<ValueId>(graph_.values.size()));
    if (!added)
      return fail(ErrorCode::invalid_input, "value '{}' is defined twice: by {} and by {}", name,
                  definers_[static_cast<std::size_t>(known->second)], what);
    definers_.push_back(what);
    Value value;
    value.name = name;
    return graph_.add_value(std::move(value));
  }

  // Strings, 4-bit integers and the like become nodes, which can be bundled.
  void constants_of_other_types() {
    auto& tensors = *proto_.mutable_initializer();
    int kept = 0;
    for (int i = 0; i < tensors.size(); ++i) {
      if (dtype_from_onnx(tensors[i].data_type()) || !is_element_type(tensors[i].data_type())) {
        tensors.SwapElements(kept++, i);
        continue;
      }
      onnx::NodeProto& node = *proto_.add_node();
      node.set_op_type("Constant");
      node.add_output(tensors[i].name());
      auto& value = *node.add_attribute();
      value.set_name("value");
      value.set_type(onnx::AttributeProto::TENSOR);
      value.mutable_t()->Swap(&tensors[i]);
    }
    tensors.DeleteSubrange(kept, tensors.size() - kept);
  }

  Result<> initializers() {
    for (auto& tensor : *proto_.mutable_initializer()) {
      OPSPLIT_TRY(const ValueId id, define(tensor.name(), "an initializer"));
      auto constant = constant_from_onnx(tensor, external_);
      if (!constant)
        return within(fmt::format("initializer '{}'", tensor.name()), constant.error());
      Value& value = graph_.value(id);
      value.dtype = constant->type.dtype;
      value.type = constant->type;
      value.constant = *std::move(constant);
      tensor.Clear();  // the weights would lie in memory twice until the end
    }
    return {};
  }

  Result<> inputs() {
    for (const auto& input : proto_.input()) {
      const auto known = ids_.find(input.name());
      if (known != ids_.end() && graph_.is_constant(known->second))
        continue;  // a default: constant
      OPSPLIT_TRY(const ValueId id, define(input.name(), "the graph's inputs"));
      if (auto typed = declare(input.type(), graph_.value(id)); !typed)
        return within(fmt::format("input '{}'", input.name()), typed.error());
      graph_.inputs.push_back(id);
    }
    return {};
  }

  static Result<> declare(const onnx::TypeProto& type, Value& value) {
    if (!type.has_tensor_type())
      return fail(ErrorCode::invalid_input,
                  "is not a tensor: sequences and the like are not supported");
    const auto dtype = dtype_from_onnx(type.tensor_type().elem_type());
    if (!dtype)
      return fail(ErrorCode::invalid_input,
                  "element type {} (TensorProto.DataType) is not supported",
                  type.tensor_type().elem_type());
    value.dtype = dtype;
    if (!type.tensor_type().has_shape()) return {};
    std::vector<DeclaredDim> dims;
    for (const auto& dim : type.tensor_type().shape().dim()) {
      if (dim.has_dim_value() && dim.dim_value() >= 0)
        dims.emplace_back(dim.dim_value());
      else  // some exporters write -1 for "any"
        dims.emplace_back(is_printable(dim.dim_param()) ? dim.dim_param() : std::string());
    }
    if (dims.size() > Shape::max_rank)
      return fail(ErrorCode::limit_exceeded, "rank {}: at most {} is supported", dims.size(),
                  Shape::max_rank);
    value.declared = std::move(dims);
    return {};
  }

  // Names that nodes have stay (the first of equals does); the rest get one like "Conv_17".
  void name_nodes() {
    UniqueNames unique;
    names_.resize(static_cast<std::size_t>(proto_.node_size()));
    for (int i = 0; i < proto_.node_size(); ++i) {
      const std::string& name = proto_.node(i).name();
      if (!name.empty() && is_printable(name) && unique.take(name))
        names_[static_cast<std::size_t>(i)] = name;
    }
    for (int i = 0; i < proto_.node_size(); ++i) {
      std::string& name = names_[static_cast<std::size_t>(i)];
      if (!name.empty()) continue;
      const auto& proto = proto_.node(i);
      const bool duplicate = !proto.name().empty() && is_printable(proto.name());
      const std::string type = is_printable(proto.op_type()) ? proto.op_type() : "node";
      name = unique.make(duplicate ? proto.name() : fmt::format("{}_{}", type, i));
    }
  }

  Result<> node_outputs(int index) {
    const auto& proto = proto_.node(index);
    Node node;
    node.name = names_[static_cast<std::size_t>(index)];
    node.op_type = is_default_domain(proto.domain())
                       ? proto.op_type()
                       : fmt::format("{}.{}", proto.domain(), proto.op_type());
    for (const std::string& output : proto.output()) {
      ValueId id = no_value;
      if (!output.empty()) {
        OPSPLIT_TRY(id, define(output, describe(index)));
      }
      node.outputs.push_back(id);
    }
    graph_.nodes.push_back(std::move(node));
    return {};
  }

  Result<> node(int index) {
    const auto& proto = proto_.node(index);
    Node& node = graph_.nodes[static_cast<std::size_t>(index)];
    if (proto.domain() == bundle_domain && !external_.ours())
      return fail(ErrorCode::invalid_input, "domain '{}' is opsplit's own", bundle_domain);
    if (!is_default_domain(proto.domain()) && proto.domain() != bundle_domain &&
        !graph_.other_opsets.contains(proto.domain()))
      return fail(ErrorCode::invalid_input, "the model imports no operator set of domain '{}'",
                  is_printable(proto.domain()) ? proto.domain() : "?");
    if (proto.op_type().empty() || !is_printable(proto.op_type()) ||
        proto.op_type().find('.') != std::string::npos)
      return fail(ErrorCode::invalid_input, "has no operation, or one with an odd name");
    for (const auto& attribute : proto.attribute()) {
      if (!is_foreign(node)) OPSPLIT_CHECK(check_attribute_type(attribute));
      auto value = attribute_from_onnx(attribute, external_);
      if (!value && value.error().code == ErrorCode::unsupported) return bundle(index);
      if (!value) return tl::unexpected(std::move(value).error());
      node.attributes.insert_or_assign(attribute.name(), std::move(*value));
    }
    for (const std::string& input : proto.input()) {
      node.inputs.push_back(no_value);
      if (input.empty()) continue;
      OPSPLIT_TRY(node.inputs.back(), find(input));
    }
    while (!node.inputs.empty() && node.inputs.back() == no_value) node.inputs.pop_back();
    return {};
  }

  Result<ValueId> find(const std::string& name) const {
    const auto known = ids_.find(name);
    if (known == ids_.end())
      return fail(ErrorCode::invalid_input, "input '{}' is defined nowhere",
                  is_printable(name) ? name : "?");
    return known->second;
  }

  // A node that only ONNX can hold.
  Result<> bundle(int index) {
    Node& node = graph_.nodes[static_cast<std::size_t>(index)];
    onnx::GraphProto holder;
    onnx::NodeProto& proto = *holder.add_node();
    proto = proto_.node(index);
    proto.set_name(node.name);
    OPSPLIT_TRY(const auto names,
                names_read(proto, [&](const std::string& name) { return ids_.contains(name); }));
    OPSPLIT_CHECK(take_in_weights(proto, external_, room_));
    std::vector<ValueId> inputs;
    for (const std::string& name : names) {
      OPSPLIT_TRY(const ValueId id, find(name));
      inputs.push_back(id);
    }
    std::erase(node.outputs, no_value);
    node = make_bundle(graph_, node.name, std::move(holder), std::move(inputs),
                       std::move(node.outputs), 0);
    return {};
  }

  // What opsplit does not do may be done by another backend.
  Result<> check_arity(Node& node) const {
    if (graph_.opset > newest_known_opset) make_foreign(node);
    if (is_foreign(node)) return {};
    auto checked = ops::check_arity(*ops::find(node.op_type), node);
    if (checked || checked.error().code != ErrorCode::unsupported) return checked;
    make_foreign(node);
    return {};
  }

  // What the model says of values that nodes make. Only needed where no rule knows better, so that
  // nothing here is an error.
  void declared_types() {
    const auto declare_all = [&](const auto& infos) {
      for (const auto& info : infos) {
        const auto known = ids_.find(info.name());
        if (known == ids_.end()) continue;
        Value& value = graph_.value(known->second);
        if (!value.type && !value.declared) (void)declare(info.type(), value);
      }
    };
    declare_all(proto_.value_info());
    declare_all(proto_.output());
  }

  // What another backend runs is left as it is.
  static bool needs_all_outputs(const Node& node) {
    const ops::Op* op = ops::find(node.op_type);
    return op == nullptr || op->needs_all_outputs;
  }

  // Old exporters name outputs that only training needs: masks, saved means.
  void drop_unread_outputs() {
    std::vector<bool> read(graph_.values.size());
    for (const ValueId id : graph_.outputs) read[static_cast<std::size_t>(id)] = true;
    for (const Node& node : graph_.nodes)
      for (const ValueId id : node.inputs)
        if (id != no_value) read[static_cast<std::size_t>(id)] = true;
    for (Node& node : graph_.nodes)
      while (
          node.outputs.size() > 1 && !needs_all_outputs(node) &&
          (node.outputs.back() == no_value || !read[static_cast<std::size_t>(node.outputs.back())]))
        node.outputs.pop_back();
  }

  Result<> outputs() {
    if (proto_.output_size() == 0) return fail(ErrorCode::invalid_input, "has no outputs");
    for (const auto& output : proto_.output()) {
      const auto known = ids_.find(output.name());
      if (known == ids_.end())
        return fail(ErrorCode::invalid_input, "output '{}' is produced by no node",
                    is_printable(output.name()) ? output.name() : "?");
      for (const ValueId id : graph_.outputs)
        if (id == known->second)
          return fail(ErrorCode::invalid_input, "output '{}' is listed twice", output.name());
      graph_.outputs.push_back(known->second);
    }
    return {};
  }

  Result<> sort() {
    const auto readers = graph_.readers();
    Successors successors(graph_.nodes.size());
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i)
      for (const ValueId output : graph_.nodes[i].outputs) {
        if (output == no_value) continue;
        const auto& targets = readers[static_cast<std::size_t>(output)];
        successors[i].insert(successors[i].end(), targets.begin(), targets.end());
      }
    const Order order = topological_order(successors);
    if (!order.cycle.empty()) {
      std::vector<std::string> names;
      for (const std::int32_t node : order.cycle)
        names.push_back(graph_.nodes[static_cast<std::size_t>(node)].name);
      names.push_back(names.front());
      return fail(ErrorCode::invalid_input, "these nodes form a cycle: {}",
                  fmt::join(names, " -> "));
    }
    std::vector<Node> sorted;
    sorted.reserve(graph_.nodes.size());
    for (const std::int32_t node : order.vertices)
      sorted.push_back(std::move(graph_.nodes[static_cast<std::size_t>(node)]));
    graph_.nodes = std::move(sorted);
    return {};
  }

  onnx::GraphProto& proto_;
  ExternalData& external_;
  Graph graph_;
  std::uint64_t room_ = std::uint64_t{1} << 30;  // for weights that subgraphs have beside the model
  std::vector<std::string> names_;               // of the nodes, in the file's order
  std::unordered_map<std::string, ValueId> ids_;  // of the values, by name
  std::vector<std::string> definers_;             // of the values, for messages
};

Result<Graph> import(onnx::ModelProto& model, ExternalData external) {
  OPSPLIT_TRY(const std::int64_t opset, opset_of(model));
  OPSPLIT_TRY(Graph graph,
              Importer(*model.mutable_graph(), external).run(opset, other_opsets_of(model)));
  for (const auto& function : model.functions())
    graph.functions.insert(function_from_onnx(function));
  graph.self_contained = !external.any();
  return graph;
}

}  // namespace

Result<Graph> import_model(const std::filesystem::path& file) {
  onnx::ModelProto model;
  const auto read = read_onnx(file, model);
  auto graph =
      read ? import(model, ExternalData(file.parent_path())) : tl::unexpected(read.error());
  if (!graph) return within(file.string(), std::move(graph).error());
  const std::string name = file.filename().string();
  graph->name = is_printable(name) ? name : "model";
  return graph;
}

Result<Graph> import_part(const std::filesystem::path& file,
                          const std::filesystem::path& weights_folder) {
  onnx::ModelProto model;
  const auto read = read_onnx(file, model);
  auto graph = read ? import(model, ExternalData(weights_folder, Weights::mapped))
                    : tl::unexpected(read.error());
  if (!graph) return within(file.string(), std::move(graph).error());
  return graph;
}

Result<Graph> import_stored(std::string_view bytes, const std::filesystem::path& weights_folder) {
  onnx::ModelProto model;
  if (!model.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) || !model.has_graph())
    return fail(ErrorCode::invalid_input, "not a stored graph");
  OPSPLIT_TRY(Graph graph, import(model, ExternalData(weights_folder, Weights::mapped)));
  graph.name = model.graph().name();
  OPSPLIT_CHECK(infer_shapes(graph, {}));
  return graph;
}

}  // namespace opsplit::graph
