#include "graph/foreign_types.hpp"

#include <onnx/onnx_pb.h>

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>

#include "graph/bundle.hpp"
#include "graph/onnx_export.hpp"
#include "graph/onnx_types.hpp"
#include "graph/ops/op.hpp"

namespace opsplit::graph {
namespace {

// Shapes, axes and the like decide types; weights do not, and copying them takes long.
constexpr std::size_t most_constant_bytes = 4096;

const OpenType* first_open(const Graph& graph, const Node& node) {
  for (const ValueId id : node.inputs)
    if (id != no_value && graph.value(id).open) return &*graph.value(id).open;
  return nullptr;
}

// The node as a model of its own: types of what it reads, values of what is constant. Error unsupported: of
// something that it reads nothing is known.
Result<std::string> question(const Graph& graph, const Node& node) {
  onnx::ModelProto model = empty_model(graph, node.name);
  onnx::GraphProto& proto = *model.mutable_graph();
  OPSPLIT_CHECK(add_unbundled(graph, node, proto));
  add_called_functions(graph, model);
  for (const ValueId id : std::set<ValueId>(node.inputs.begin(), node.inputs.end())) {
    if (id == no_value) continue;
    const Value& value = graph.value(id);
    if (value.constant && value.constant->bytes.size() <= most_constant_bytes)
      add_constant_bytes(value, proto);
    onnx::ValueInfoProto& info = *proto.add_input();
    if (!value.open) {
      describe(value.name, *value.type, info);
      continue;
    }
    info.set_name(value.name);
    if (value.open->onnx.empty() || !info.mutable_type()->ParseFromString(value.open->onnx))
      return fail(ErrorCode::unsupported, "nothing is known of input '{}'", value.name);
  }
  return model.SerializeAsString();
}

// What libonnx divides by, and which axes it takes weights to have, it does not check. It may crash, where it
// runs: but an error says more.
Result<> check_what_onnx_trusts(const Graph& graph, const Node& node) {
  const std::string_view type = named_op_type(node);
  if (is_bundle(node) || type.find('.') != type.npos) return {};  // not of ONNX's own domain
  for (const std::string_view name : {"strides", "dilations"}) {
    const auto found = node.attributes.find(name);
    if (found == node.attributes.end()) continue;
    const auto* numbers = std::get_if<std::vector<std::int64_t>>(&found->second);
    if (numbers != nullptr && std::any_of(numbers->begin(), numbers->end(),
                                          [](std::int64_t number) { return number < 1; }))
      return fail(ErrorCode::invalid_input, "{} must be 1 or more", name);
  }
  if (type.find("Conv") == type.npos) return {};
  const std::size_t weights = type == "QLinearConv" ? 3 : 1;
  if (node.inputs.size() <= weights || node.inputs[0] == no_value ||
      node.inputs[weights] == no_value)
    return fail(ErrorCode::invalid_input, "has no weights");
  const auto& x = graph.value(node.inputs[0]).type;
  const auto& w = graph.value(node.inputs[weights]).type;
  if (x && w && x->shape.rank() != w->shape.rank())
    return fail(ErrorCode::invalid_input, "weights {} do not fit {}", to_string(w->shape),
                to_string(x->shape));
  return {};
}

std::optional<TensorType> concrete(const onnx::TypeProto& type) {
  if (!type.has_tensor_type() || !type.tensor_type().has_shape()) return std::nullopt;
  const auto dtype = dtype_from_onnx(type.tensor_type().elem_type());
  if (!dtype) return std::nullopt;
  std::vector<std::int64_t> dims;
  for (const auto& dim : type.tensor_type().shape().dim()) {
    if (!dim.has_dim_value() || dim.dim_value() < 0) return std::nullopt;
    dims.push_back(dim.dim_value());
  }
  const auto shape = Shape::from(dims);
  if (!shape) return std::nullopt;
  return TensorType{*dtype, *shape};
}

// Symbols mean nothing beyond the question that they were made for.
void drop_symbols(onnx::TypeProto& type) {
  if (type.has_sequence_type()) drop_symbols(*type.mutable_sequence_type()->mutable_elem_type());
  if (type.has_optional_type()) drop_symbols(*type.mutable_optional_type()->mutable_elem_type());
  if (type.has_tensor_type() && type.tensor_type().has_shape())
    for (auto& dim : *type.mutable_tensor_type()->mutable_shape()->mutable_dim())
      dim.clear_dim_param();
}

// What is not known, as the model declares it.
void add_declared(const onnx::TypeProto& declared, onnx::TypeProto& known) {
  if (known.value_case() == onnx::TypeProto::VALUE_NOT_SET) known = declared;
  if (!known.has_tensor_type() || !declared.has_tensor_type()) return;
  auto& to = *known.mutable_tensor_type();
  const auto& from = declared.tensor_type();
  if (to.elem_type() == onnx::TensorProto::UNDEFINED) to.set_elem_type(from.elem_type());
  if (!to.has_shape() && from.has_shape()) *to.mutable_shape() = from.shape();
  if (!to.has_shape() || to.shape().dim_size() != from.shape().dim_size()) return;
  for (int axis = 0; axis < from.shape().dim_size(); ++axis)
    if (!to.shape().dim(axis).has_dim_value() && from.shape().dim(axis).has_dim_value())
      to.mutable_shape()->mutable_dim(axis)->set_dim_value(from.shape().dim(axis).dim_value());
}

using Found = std::unordered_map<std::string, onnx::TypeProto>;  // by the outputs' names

Result<Found> ask(const Graph& graph, const Node& node, const OnnxRules& rules) {
  if (!rules) return fail(ErrorCode::unsupported, "opsplit has no kernel for it");
  OPSPLIT_CHECK(check_what_onnx_trusts(graph, node));
  OPSPLIT_TRY(const std::string asked, question(graph, node));
  OPSPLIT_TRY(const std::string answer, rules(asked));
  onnx::GraphProto types;
  if (!types.ParseFromString(answer))
    return fail(ErrorCode::invalid_input, "ONNX's rules give no types");
  Found found;
  for (const auto& info : types.value_info()) found.emplace(info.name(), info.type());
  return found;
}

// What the model says of a value; symbols have the sizes that the inputs gave them. Sizes that are not known
// are left out.
onnx::TypeProto declared_type(const Graph& graph, const Value& value) {
  onnx::TypeProto type;
  if (!value.dtype) return type;
  auto& tensor = *type.mutable_tensor_type();
  tensor.set_elem_type(dtype_to_onnx(*value.dtype));
  if (!value.declared) return type;
  std::map<std::string, std::int64_t> symbols;
  for (const ValueId id : graph.inputs) {
    const Value& input = graph.value(id);
    if (!input.declared) continue;
    for (std::size_t axis = 0; axis < input.declared->size(); ++axis)
      if (const auto* symbol = std::get_if<std::string>(&(*input.declared)[axis]))
        symbols.emplace(*symbol, input.type->shape[axis]);
  }
  for (const DeclaredDim& declared : *value.declared) {
    auto& dim = *tensor.mutable_shape()->add_dim();
    if (const auto* size = std::get_if<std::int64_t>(&declared)) {
      dim.set_dim_value(*size);
      continue;
    }
    const auto& symbol = std::get<std::string>(declared);
    const auto known = symbols.find(symbol);
    if (!symbol.empty() && known != symbols.end()) dim.set_dim_value(known->second);
  }
  (void)tensor.mutable_shape();  // a scalar has one, too
  return type;
}

}  // namespace

Result<> infer_foreign(Graph& graph, const Node& node, const OnnxRules& rules, std::string reason) {
  auto found = ask(graph, node, rules);
  const OpenType* open_input = first_open(graph, node);
  // From part of the types ONNX may conclude what is wrong.
  const bool guessed =
      open_input != nullptr && !found && found.error().code == ErrorCode::invalid_input;
  if (!found && found.error().code != ErrorCode::unsupported && !guessed)
    return tl::unexpected(std::move(found).error());
  if (reason.empty() && !found) reason = found.error().message;
  for (const ValueId id : node.outputs) {
    if (id == no_value) continue;
    Value& value = graph.value(id);
    onnx::TypeProto known;
    if (found)
      if (const auto type = found->find(value.name); type != found->end()) known = type->second;
    value.type = concrete(known);
    if (!value.type) {
      add_declared(declared_type(graph, value), known);
      value.type = concrete(known);
    }
    if (value.type) {
      value.dtype = value.type->dtype;
      continue;
    }
    value.open.emplace();
    drop_symbols(known);
    value.open->onnx = known.SerializeAsString();  // empty if nothing is known
    value.open->why =
        open_input != nullptr
            ? open_input->why
            : fmt::format("node '{}' ({}): {}", node.name, named_op_type(node),
                          reason.empty() ? "its size follows from data only" : reason);
  }
  return {};
}

}  // namespace opsplit::graph
