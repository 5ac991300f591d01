#include "graph/graph.hpp"

#include <array>
#include <cstring>
#include <new>
#include <utility>

#include "base/content_hash.hpp"
#include "graph/ops/op.hpp"

namespace opsplit::graph {
namespace {

constexpr std::align_val_t constant_alignment{64};
constexpr std::uint64_t max_constant_bytes = std::uint64_t{2} << 30;  // as a protobuf message

// The attribute as T, or nullptr.
template <class T>
const T* attribute_as(const Node& node, std::string_view name) {
  const auto found = node.attributes.find(name);
  return found == node.attributes.end() ? nullptr : std::get_if<T>(&found->second);
}

}  // namespace

Result<std::pair<Constant, std::byte*>> Constant::allocate(const TensorType& type) {
  OPSPLIT_TRY(const std::uint64_t size, byte_size(type));
  // The kernel promises memory that it has not: a few bytes of model must not use up the machine's.
  if (size > max_constant_bytes)
    return fail(ErrorCode::limit_exceeded, "a constant of {} bytes ({}): at most {}", size,
                to_string(type), max_constant_bytes);
  void* memory = ::operator new(size, constant_alignment, std::nothrow);
  if (memory == nullptr)
    return fail(ErrorCode::limit_exceeded, "a constant of {} bytes ({}) does not fit into memory",
                size, to_string(type));
  std::memset(memory, 0, size);
  auto* bytes = static_cast<std::byte*>(memory);
  std::shared_ptr<const void> owner(
      memory, [](void* block) { ::operator delete(block, constant_alignment); });
  return std::pair{Constant{type, {bytes, size}, std::move(owner)}, bytes};
}

std::string Constant::hash() const { return stored ? stored->hash : content_hash(bytes); }

std::int64_t Node::integer(std::string_view attribute, std::int64_t otherwise) const {
  const auto* found = attribute_as<std::int64_t>(*this, attribute);
  return found ? *found : otherwise;
}

float Node::real(std::string_view attribute, float otherwise) const {
  const auto* found = attribute_as<float>(*this, attribute);
  return found ? *found : otherwise;
}

std::string Node::text(std::string_view attribute, std::string_view otherwise) const {
  const auto* found = attribute_as<std::string>(*this, attribute);
  return found ? *found : std::string(otherwise);
}

std::vector<std::int64_t> Node::integers(std::string_view attribute) const {
  const auto* found = attribute_as<std::vector<std::int64_t>>(*this, attribute);
  return found ? *found : std::vector<std::int64_t>{};
}

ValueId Graph::add_value(Value value) {
  values.push_back(std::move(value));
  return static_cast<ValueId>(values.size() - 1);
}

ValueId Graph::find(std::string_view value_name) const {
  for (std::size_t id = 0; id < values.size(); ++id)
    if (values[id].name == value_name) return static_cast<ValueId>(id);
  return no_value;
}

std::vector<std::int32_t> Graph::producers() const {
  std::vector<std::int32_t> producers(values.size(), -1);
  for (std::size_t node = 0; node < nodes.size(); ++node)
    for (const ValueId output : nodes[node].outputs)
      if (output != no_value)
        producers[static_cast<std::size_t>(output)] = static_cast<std::int32_t>(node);
  return producers;
}

std::vector<std::vector<std::int32_t>> Graph::readers() const {
  std::vector<std::vector<std::int32_t>> readers(values.size());
  for (std::size_t node = 0; node < nodes.size(); ++node)
    for (const ValueId input : nodes[node].inputs) {
      if (input == no_value) continue;
      auto& known = readers[static_cast<std::size_t>(input)];
      const auto id = static_cast<std::int32_t>(node);
      if (known.empty() || known.back() != id) known.push_back(id);  // Add(x, x) reads x once
    }
  return readers;
}

bool is_view(const Node& node) {
  static constexpr std::array<std::string_view, 6> views{"Reshape",   "Flatten",  "Squeeze",
                                                         "Unsqueeze", "Identity", "Dropout"};
  for (const std::string_view view : views)
    if (node.op_type == view) return true;
  return false;
}

bool is_foreign(const Node& node) { return ops::find(node.op_type) == nullptr; }

void make_foreign(Node& node) {
  if (!is_foreign(node)) node.op_type = fmt::format("{}.{}", onnx_domain, node.op_type);
}

namespace {

std::string_view domain_of(const Node& node) {
  const std::string_view name = node.op_type;
  const std::size_t dot = name.rfind('.');
  return dot == name.npos ? std::string_view() : name.substr(0, dot);
}

}  // namespace

bool is_bundle(const Node& node) { return domain_of(node) == bundle_domain; }

std::string_view named_op_type(const Node& node) {
  const std::string_view name = node.op_type;
  const std::string_view domain = domain_of(node);
  return domain == onnx_domain || domain == bundle_domain ? name.substr(domain.size() + 1) : name;
}

}  // namespace opsplit::graph
