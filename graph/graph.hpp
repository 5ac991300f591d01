// The in-memory form of a model between import and planning: values and nodes, nothing else.
// After infer_shapes() every value has a concrete type; of outputs of the model that vary it is the largest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/error.hpp"
#include "base/tensor_type.hpp"

namespace opsplit::graph {

// Where the bytes of a constant lie in a file of ours, and their content_hash().
struct StoredBytes {
  std::string file;  // beside others like it, in a folder that the reader knows
  std::uint64_t offset = 0;
  std::string hash;
};

// A constant. The bytes are row-major, 64-byte aligned where we allocated them, immutable, and
// live as long as `owner` (a heap block, or a mapping of the model's weights file).
struct Constant {
  TensorType type;
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;
  std::shared_ptr<const StoredBytes> stored = nullptr;  // of just these bytes, where known

  // content_hash() of the bytes, which are not even read where it is known.
  [[nodiscard]] std::string hash() const;

  // Zero-filled memory of the right size, to be written through the returned pointer before the
  // constant is shared. Errors: the size overflows.
  static Result<std::pair<Constant, std::byte*>> allocate(const TensorType& type);

  // The elements as T. Precondition: the dtype is T's.
  template <class T>
  [[nodiscard]] std::span<const T> as() const {
    return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
  }
};

using Attribute = std::variant<std::int64_t, float, std::string, std::vector<std::int64_t>,
                               std::vector<float>, std::vector<std::string>, Constant>;

using ValueId = std::int32_t;
inline constexpr ValueId no_value = -1;  // an optional input that is absent

// A dimension as the model declares it: a number, or a symbol to be bound.
using DeclaredDim = std::variant<std::int64_t, std::string>;

// What is known of a value that is no dense tensor of known size.
struct OpenType {
  std::string onnx;                      // a TypeProto; empty: nothing
  std::string why;                       // one line: the node that began it, and its reason
  std::optional<TensorType> bound = {};  // of an output of the model: its largest sizes
};

struct Value {
  std::string name;  // unique
  std::optional<DType> dtype;
  std::optional<std::vector<DeclaredDim>> declared;  // where the model says so
  std::optional<TensorType> type;                    // set by infer_shapes (and for constants)
  std::optional<Constant> constant;
  std::optional<OpenType> open;  // while types are inferred: in place of a type
};

struct Node {
  std::string name;  // unique within the graph; made up where the model has none
  // "Conv"; "com.microsoft.FusedConv" of another domain than ONNX's own; "ai.onnx.Resize" of one that
  // opsplit knows, but not in the way that this node wants it: no pass takes it for the other;
  // "opsplit.NonZero+3" a bundle (graph/bundle.hpp), by one of its nodes and how many there are besides.
  std::string op_type;
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  std::map<std::string, Attribute, std::less<>> attributes;

  [[nodiscard]] bool has(std::string_view attribute) const {
    return attributes.contains(attribute);
  }
  // The attribute's value, or the default if it is absent or of another type (import has checked
  // the types of the attributes that kernels read).
  [[nodiscard]] std::int64_t integer(std::string_view attribute, std::int64_t otherwise) const;
  [[nodiscard]] float real(std::string_view attribute, float otherwise) const;
  [[nodiscard]] std::string text(std::string_view attribute, std::string_view otherwise) const;
  [[nodiscard]] std::vector<std::int64_t> integers(std::string_view attribute) const;
};

// A function that the model brings along, for nodes of its op type.
struct ModelFunction {
  std::string proto;            // a FunctionProto
  std::set<std::string> calls;  // op types in it, as Node has them
};

struct Graph {
  std::string name;
  std::int64_t opset = 0;                                       // of the default domain
  std::map<std::string, std::int64_t> other_opsets;             // of other domains, by their names
  std::map<std::string, ModelFunction, std::less<>> functions;  // by op type
  std::vector<Value> values;
  std::vector<Node> nodes;      // topological order
  std::vector<ValueId> inputs;  // that a client feeds (initializers are no inputs)
  std::vector<ValueId> outputs;
  bool self_contained = true;  // nothing but the model file was read

  [[nodiscard]] const Value& value(ValueId id) const {
    return values[static_cast<std::size_t>(id)];
  }
  [[nodiscard]] Value& value(ValueId id) { return values[static_cast<std::size_t>(id)]; }
  [[nodiscard]] bool is_constant(ValueId id) const {
    return id != no_value && value(id).constant.has_value();
  }
  // Precondition: infer_shapes() succeeded.
  [[nodiscard]] const TensorType& type(ValueId id) const { return *value(id).type; }
  ValueId add_value(Value value);
  [[nodiscard]] ValueId find(std::string_view value_name) const;  // no_value if there is none

  // For each value, the index of the node that produces it (-1: none), and the nodes that read it.
  [[nodiscard]] std::vector<std::int32_t> producers() const;
  [[nodiscard]] std::vector<std::vector<std::int32_t>> readers() const;
};

// Nodes that only give a tensor another shape: Reshape, Flatten, Squeeze, Unsqueeze, Identity,
// Dropout (inference). They are never run: the plan gives the same place a second name.
bool is_view(const Node& node);

// Nodes that opsplit has no kernels for, so that another backend has to run them.
bool is_foreign(const Node& node);
void make_foreign(Node& node);

bool is_bundle(const Node& node);

// The op type as people name it: "Conv", "com.microsoft.FusedConv", "Resize", "NonZero+3".
std::string_view named_op_type(const Node& node);

inline constexpr std::string_view onnx_domain = "ai.onnx";    // ONNX's own; in files often ""
inline constexpr std::string_view bundle_domain = "opsplit";  // in files of ours only

// Of ONNX's own operator sets the last one whose operations opsplit knows. In those after it every node is
// foreign.
inline constexpr std::int64_t newest_known_opset = 21;

}  // namespace opsplit::graph
