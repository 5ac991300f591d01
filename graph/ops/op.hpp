// What the graph knows of each ONNX operation: how many inputs it takes, what types its outputs
// have, and, for those that occur between constants, what they compute.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "graph/graph.hpp"

namespace opsplit::graph::ops {

using Types = std::vector<TensorType>;
using Constants = std::vector<Constant>;
using Dims = std::vector<std::int64_t>;

// A node as its operation sees it: attributes, and the types and constants of its inputs.
// Errors returned by operations do not name the node; infer_shapes() puts it before them.
class Site {
 public:
  Site(const Graph& graph, const Node& node) : graph_(graph), node_(node) {}

  [[nodiscard]] const Node& node() const { return node_; }
  [[nodiscard]] std::int64_t opset() const { return graph_.opset; }

  [[nodiscard]] std::size_t inputs() const { return node_.inputs.size(); }
  [[nodiscard]] bool has(std::size_t input) const {
    return input < inputs() && node_.inputs[input] != no_value;
  }
  // Preconditions: has(input).
  [[nodiscard]] const TensorType& type(std::size_t input) const {
    return graph_.type(node_.inputs[input]);
  }
  [[nodiscard]] const Shape& shape(std::size_t input) const { return type(input).shape; }
  [[nodiscard]] std::size_t rank(std::size_t input) const { return shape(input).rank(); }

  // nullptr: the input is absent, or not known before a request comes.
  [[nodiscard]] const Constant* constant(std::size_t input) const {
    return has(input) && graph_.is_constant(node_.inputs[input])
               ? &*graph_.value(node_.inputs[input]).constant
               : nullptr;
  }
  // A constant list of int64 or int32, as sizes and axes are given. `what` is for the message.
  [[nodiscard]] Result<Dims> integers(std::size_t input, std::string_view what) const;

  // The list under `attribute`, or that of `input` where newer operator sets have it; empty: neither.
  [[nodiscard]] Result<Dims> integers(std::string_view attribute, std::size_t input) const;

 private:
  const Graph& graph_;
  const Node& node_;
};

struct Op {
  std::string_view type;
  std::size_t min_inputs = 1;  // these must be there; those up to the maximum may be absent
  std::size_t max_inputs = 1;
  std::size_t max_outputs = 1;

  // The outputs' types. Checks attributes and input types.
  Result<Types> (*infer)(const Site&) = nullptr;
  // The outputs' values, from inputs that are all constant. nullptr, or error unsupported: not
  // evaluated here.
  Result<Constants> (*fold)(const Site&, const Types& outputs) = nullptr;
  bool needs_all_outputs = false;  // none is optional, even where nobody reads it
  // Is there a kernel for input 0 of this element type? nullptr: for all that `infer` takes.
  bool (*computes)(DType) = nullptr;
};

inline constexpr std::size_t any_number = 1 << 20;

std::span<const Op> all();                 // sorted by type
const Op* find(std::string_view op_type);  // nullptr: unknown
// What a node is one of, though opsplit may not do it as the node wants it. nullptr: unknown, or a bundle.
const Op* find_named(const Node& node);

// Are there as many inputs and outputs as the operation takes?
Result<> check_arity(const Op& op, const Node& node);

// -- Helpers for operations -----------------------------------------------------------------------

// An axis from -rank to rank-1 made one from 0 to rank-1.
Result<std::size_t> normal_axis(std::int64_t axis, std::size_t rank);

// The axes as a mask; an axis named twice is an error.
Result<std::vector<bool>> axis_mask(const Dims& axes, std::size_t rank);

// Numpy's rule: aligned at the last axis, sizes equal or 1.
Result<Shape> broadcast(const Shape& a, const Shape& b);

Result<> check_same_dtype(const Site& site);  // of all inputs that are there
Result<> check_floating(const TensorType& type);

// The product of these dimensions. Precondition: they belong to a shape whose product is known to fit.
std::int64_t product(std::span<const std::int64_t> dims);

Result<TensorType> with_dims(DType dtype, const Dims& dims);

}  // namespace opsplit::graph::ops
