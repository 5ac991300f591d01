// Activations that are written as arithmetic become the operations that they are: exporters spell
// x clip(x + 3, 0, 6) / 6 out where their operator set has no HardSwish. It becomes x HardSigmoid(x),
// which every operator set has. And x + x s with a small s, as squeeze-and-excitation blocks have it,
// becomes x (s + 1): one pass over the image less.
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "graph/edit.hpp"
#include "graph/simplify.hpp"

namespace opsplit::graph {
namespace {

class Joiner {
 public:
  explicit Joiner(Graph& graph)
      : graph_(graph), names_(value_names(graph)), producers_(graph.producers()) {
    const auto readers = graph.readers();
    for (const auto& nodes : readers) readers_.push_back({nodes.begin(), nodes.end()});
    for (const ValueId output : graph.outputs) readers_[index(output)].push_back(-1);
  }

  Result<> run() {
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (graph_.nodes[i].op_type == "Clip") join_hard_sigmoid(graph_.nodes[i]);
      if (graph_.nodes[i].op_type == "Add") OPSPLIT_CHECK(join_excitation(graph_.nodes[i]));
    }
    return {};
  }

 private:
  static std::size_t index(ValueId id) { return static_cast<std::size_t>(id); }

  Node* producer(ValueId id) {
    const auto found = producers_[index(id)];
    return found < 0 ? nullptr : &graph_.nodes[static_cast<std::size_t>(found)];
  }

  // The node that alone reads a value.
  Node* only_reader(ValueId id) {
    const auto& nodes = readers_[index(id)];
    return nodes.size() == 1 && nodes[0] >= 0 ? &graph_.nodes[static_cast<std::size_t>(nodes[0])]
                                              : nullptr;
  }

  // The constant, if it is one number.
  std::optional<float> number(ValueId id) const {
    if (!graph_.is_constant(id) || graph_.type(id).dtype != float32) return {};
    const auto numbers = graph_.value(id).constant->as<float>();
    return numbers.size() == 1 ? std::optional(numbers[0]) : std::nullopt;
  }

  // What a node of this operation computes with one number: the other input and the number.
  struct WithNumber {
    ValueId input;
    float number;
  };
  std::optional<WithNumber> with_number(const Node& node, std::string_view op) const {
    if (node.op_type != op) return {};
    for (const std::size_t constant : {1, 0}) {
      const ValueId input = node.inputs[1 - constant];
      const auto found = number(node.inputs[constant]);
      const bool in_order = constant == 1 || op == "Add" || op == "Mul";
      if (found && in_order && graph_.type(input) == graph_.type(node.outputs[0]))
        return WithNumber{input, *found};
    }
    return {};
  }

  bool divides_by(const Node& node, float divisor) const {
    if (const auto found = with_number(node, "Div")) return found->number == divisor;
    const auto found = with_number(node, "Mul");
    return found && std::abs(found->number * divisor - 1) < 1e-6F;
  }

  std::optional<std::pair<float, float>> bounds(const Node& clip) const {
    constexpr float largest = std::numeric_limits<float>::max();
    if (graph_.opset < 11) return std::pair(clip.real("min", -largest), clip.real("max", largest));
    if (clip.inputs.size() < 3) return {};
    const auto low = number(clip.inputs[1]);
    const auto high = number(clip.inputs[2]);
    return low && high ? std::optional(std::pair(*low, *high)) : std::nullopt;
  }

  // clip(x + a, 0, b) / b is HardSigmoid(x) with alpha 1 / b and beta a / b; the division may come
  // after a product with x.
  void join_hard_sigmoid(Node& clip) {
    Node* add = producer(clip.inputs[0]);
    const auto limits = bounds(clip);
    if (add == nullptr || !limits || limits->first != 0 || !(limits->second > 0) ||
        !std::isnormal(1 / limits->second))
      return;
    const auto sum = with_number(*add, "Add");
    Node* next = only_reader(clip.outputs[0]);
    if (!sum || next == nullptr || graph_.type(sum->input).dtype != float32 ||
        only_reader(add->outputs[0]) != &clip)
      return;
    const auto become_hard_sigmoid = [&](Node& node) {
      node.op_type = "HardSigmoid";
      node.inputs = {sum->input};
      node.attributes = {{"alpha", 1 / limits->second}, {"beta", sum->number / limits->second}};
    };
    if (divides_by(*next, limits->second)) {
      become_hard_sigmoid(*next);
      return;
    }
    const ValueId product = next->outputs[0];
    Node* last = only_reader(product);
    const bool by_x =
        next->op_type == "Mul" && (next->inputs[0] == sum->input || next->inputs[1] == sum->input);
    if (!by_x || last == nullptr || !divides_by(*last, limits->second)) return;
    become_hard_sigmoid(*next);
    last->op_type = "Mul";
    last->inputs = {sum->input, product};
    last->attributes.clear();
  }

  // x + x s, s smaller than x, is x (s + 1).
  Result<> join_excitation(Node& add) {
    for (const std::size_t at : {0, 1}) {
      const ValueId x = add.inputs[at];
      Node* product = producer(add.inputs[1 - at]);
      if (product == nullptr || product->op_type != "Mul" || product->inputs.size() != 2 ||
          only_reader(product->outputs[0]) != &add)
        continue;
      const std::size_t factor = product->inputs[0] == x ? 1 : 0;
      const ValueId s = product->inputs[factor];
      if (product->inputs[1 - factor] != x || graph_.is_constant(s) || graph_.is_constant(x) ||
          graph_.type(s).dtype != float32 || graph_.type(x) != graph_.type(add.outputs[0]) ||
          graph_.type(s).shape == graph_.type(x).shape)
        continue;
      OPSPLIT_TRY(auto one, Constant::allocate({float32, Shape{}}));
      *reinterpret_cast<float*>(one.second) = 1;
      product->op_type = "Add";
      product->inputs = {s, add_constant(graph_, names_, add.name + ".one", std::move(one.first))};
      graph_.value(product->outputs[0]).type = graph_.type(s);
      add.op_type = "Mul";
      add.inputs = {x, product->outputs[0]};
      return {};
    }
    return {};
  }

  Graph& graph_;
  UniqueNames names_;
  std::vector<std::int32_t> producers_;
  std::vector<std::vector<std::int32_t>> readers_;  // nodes; -1: the graph's client
};

}  // namespace

Result<> join_activations(Graph& graph) { return Joiner(graph).run(); }

}  // namespace opsplit::graph
