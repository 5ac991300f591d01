// y = x * scale + shift, with one number of each per channel, is what BatchNormalization and many
// Mul, Add, Sub and Div compute. A convolution can do the same with other weights, at no cost.
#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "graph/edit.hpp"
#include "graph/simplify.hpp"

namespace opsplit::graph {
namespace {

struct Affine {
  ValueId input = no_value;
  std::vector<double> scale;  // one per channel
  std::vector<double> shift;
};

bool all_constant_float(const Graph& graph, const Node& node, std::size_t from) {
  return std::all_of(
      node.inputs.begin() + static_cast<std::ptrdiff_t>(from), node.inputs.end(),
      [&](ValueId id) { return graph.is_constant(id) && graph.type(id).dtype == float32; });
}

std::span<const float> numbers(const Graph& graph, ValueId id) {
  return graph.value(id).constant->as<float>();
}

// The constant as one number per channel of a tensor of this shape, if it is that.
std::optional<std::vector<double>> per_channel(const Graph& graph, ValueId id, const Shape& shape) {
  if (!graph.is_constant(id) || graph.type(id).dtype != float32 || shape.rank() < 2) return {};
  const Shape& own = graph.type(id).shape;
  if (own.rank() > shape.rank()) return {};
  const std::size_t lead = shape.rank() - own.rank();
  for (std::size_t axis = 0; axis < own.rank(); ++axis)
    if (own[axis] != 1 && (lead + axis != 1 || own[axis] != shape[1])) return {};
  const auto found = numbers(graph, id);
  const auto channels = static_cast<std::size_t>(shape[1]);
  std::vector<double> result(found.begin(), found.end());
  return result.size() == channels ? result : std::vector<double>(channels, result[0]);
}

std::optional<Affine> affine_of_normalization(const Graph& graph, const Node& node) {
  if (!all_constant_float(graph, node, 1)) return {};
  const auto scale = numbers(graph, node.inputs[1]);
  const auto bias = numbers(graph, node.inputs[2]);
  const auto mean = numbers(graph, node.inputs[3]);
  const auto variance = numbers(graph, node.inputs[4]);
  const double epsilon = node.real("epsilon", 1e-5F);
  Affine affine{node.inputs[0], {}, {}};
  for (std::size_t c = 0; c < scale.size(); ++c) {
    const double factor = scale[c] / std::sqrt(variance[c] + epsilon);
    affine.scale.push_back(factor);
    affine.shift.push_back(bias[c] - mean[c] * factor);
  }
  return affine;
}

std::optional<Affine> affine_of(const Graph& graph, const Node& node) {
  const std::string& op = node.op_type;
  if (op == "BatchNormalization") return affine_of_normalization(graph, node);
  if (op != "Add" && op != "Sub" && op != "Mul" && op != "Div") return {};

  const Shape& shape = graph.type(node.outputs[0]).shape;
  const std::size_t constant = graph.is_constant(node.inputs[1]) ? 1 : 0;
  const bool constant_first = constant == 0;
  if (constant_first && op == "Div") return {};
  const ValueId input = node.inputs[1 - constant];
  if (graph.type(input).shape != shape) return {};
  auto found = per_channel(graph, node.inputs[constant], shape);
  if (!found) return {};

  Affine affine{input, {}, {}};
  if (op == "Mul" || op == "Div") {
    affine.shift.assign(found->size(), 0);
    affine.scale = std::move(*found);
    if (op == "Div")
      for (double& scale : affine.scale) scale = 1 / scale;
  } else {
    const bool negate = op == "Sub" && !constant_first;  // x - c
    affine.scale.assign(found->size(), op == "Sub" && constant_first ? -1 : 1);
    affine.shift = std::move(*found);
    if (negate)
      for (double& shift : affine.shift) shift = -shift;
  }
  return affine;
}

class Folder {
 public:
  explicit Folder(Graph& graph)
      : graph_(graph), names_(value_names(graph)), producers_(graph.producers()) {
    reads_.resize(graph.values.size());
    for (const Node& node : graph.nodes)
      for (const ValueId input : node.inputs)
        if (input != no_value) ++reads_[static_cast<std::size_t>(input)];
    for (const ValueId output : graph.outputs) ++reads_[static_cast<std::size_t>(output)];
  }

  Result<> run() {
    std::vector<bool> folded(graph_.nodes.size());
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      const auto affine = affine_of(graph_, graph_.nodes[i]);
      if (!affine) continue;
      const auto source = producers_[static_cast<std::size_t>(affine->input)];
      if (source < 0 || reads_[static_cast<std::size_t>(affine->input)] != 1) continue;
      Node& target = graph_.nodes[static_cast<std::size_t>(source)];
      OPSPLIT_TRY(folded[i], fold(*affine, target));
      if (!folded[i]) continue;
      target.outputs[0] = graph_.nodes[i].outputs[0];
      producers_[static_cast<std::size_t>(target.outputs[0])] = source;
    }
    std::vector<Node> left;
    for (std::size_t i = 0; i < folded.size(); ++i)
      if (!folded[i]) left.push_back(std::move(graph_.nodes[i]));
    graph_.nodes = std::move(left);
    return {};
  }

 private:
  // True: `target` now computes what came after it, too.
  Result<bool> fold(const Affine& affine, Node& target) {
    if (!all_constant_float(graph_, target, 1)) return false;
    // The groups' output channels come one after the other on axis 1 of transposed weights.
    const bool transposed = target.op_type == "ConvTranspose";
    if (target.op_type == "Conv" || transposed) {
      if (transposed && target.integer("group", 1) != 1) return false;
      OPSPLIT_CHECK(scale(target, 1, affine.scale, transposed ? 1 : 0));
      if (target.inputs.size() == 3) {
        OPSPLIT_CHECK(scale(target, 2, affine.scale));
        OPSPLIT_CHECK(shift(target, 2, affine.shift));
        return true;
      }
      const Shape channels{static_cast<std::int64_t>(affine.shift.size())};
      OPSPLIT_TRY(auto made, Constant::allocate({float32, channels}));
      auto* out = reinterpret_cast<float*>(made.second);
      for (const double value : affine.shift) *out++ = static_cast<float>(value);
      target.inputs.push_back(no_value);
      put(target, 2, std::move(made.first), ".bias");
      return true;
    }
    if (target.op_type == "BatchNormalization") {
      OPSPLIT_CHECK(scale(target, 1, affine.scale));
      OPSPLIT_CHECK(scale(target, 2, affine.scale));
      OPSPLIT_CHECK(shift(target, 2, affine.shift));
      return true;
    }
    return false;
  }

  Result<> scale(Node& node, std::size_t input, const std::vector<double>& factors,
                 std::size_t axis = 0) {
    if (std::all_of(factors.begin(), factors.end(), [](double f) { return f == 1; })) return {};
    return change(node, input, factors, axis,
                  [](double value, double factor) { return value * factor; });
  }

  Result<> shift(Node& node, std::size_t input, const std::vector<double>& summands) {
    if (std::all_of(summands.begin(), summands.end(), [](double s) { return s == 0; })) return {};
    return change(node, input, summands, 0,
                  [](double value, double summand) { return value + summand; });
  }

  // Replaces a constant whose axis `axis` is the channels.
  template <class F>
  Result<> change(Node& node, std::size_t input, const std::vector<double>& channels,
                  std::size_t axis, F f) {
    const auto old = numbers(graph_, node.inputs[input]);
    const Shape& shape = graph_.type(node.inputs[input]).shape;
    OPSPLIT_TRY(auto made, Constant::allocate(graph_.type(node.inputs[input])));
    auto* out = reinterpret_cast<float*>(made.second);
    std::size_t row = 1;  // elements of one channel that lie together
    for (std::size_t i = axis + 1; i < shape.rank(); ++i) row *= static_cast<std::size_t>(shape[i]);
    for (std::size_t i = 0; i < old.size(); ++i)
      out[i] = static_cast<float>(f(old[i], channels[i / row % channels.size()]));
    put(node, input, std::move(made.first), input == 1 ? ".weight" : ".bias");
    return {};
  }

  // A value of its own: others may read the old one. If none does, its memory goes now: a deep
  // network would otherwise hold its weights several times over.
  void put(Node& node, std::size_t input, Constant constant, std::string_view suffix) {
    const ValueId old = node.inputs[input];
    if (old != no_value && reads_[static_cast<std::size_t>(old)] == 1) {
      graph_.value(old).constant = std::move(constant);
      return;
    }
    if (old != no_value) --reads_[static_cast<std::size_t>(old)];
    node.inputs[input] =
        add_constant(graph_, names_, node.name + std::string(suffix), std::move(constant));
    reads_.push_back(1);
  }

  Graph& graph_;
  UniqueNames names_;
  std::vector<std::int32_t> producers_;  // of the values there were at the start
  std::vector<int> reads_;               // of a value, by nodes and as an output of the graph
};

}  // namespace

Result<> fold_affine(Graph& graph) { return Folder(graph).run(); }

}  // namespace opsplit::graph
