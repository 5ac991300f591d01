#include <onnx/onnx_pb.h>

#include <map>
#include <numeric>
#include <set>

#include "graph/bundle.hpp"
#include "graph/split.hpp"
#include "graph/topological.hpp"

namespace opsplit::graph {
namespace {

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

class Bundling {
 public:
  explicit Bundling(Graph& graph)
      : graph_(graph),
        producers_(graph.producers()),
        first_(graph.nodes.size()),
        read_outside_(graph.values.size()) {
    std::iota(first_.begin(), first_.end(), 0);
  }

  Result<> run() {
    if (!join_by_open_values()) return {};
    join_by_ways();
    for (const ValueId id : graph_.outputs) read_outside_[index(id)] = true;
    for_edges([&](ValueId value, std::int32_t from, std::int32_t to) {
      if (first_[index(from)] != first_[index(to)]) read_outside_[index(value)] = true;
    });
    std::map<std::int32_t, std::vector<std::int32_t>> groups;  // by first node
    for (std::size_t node = 0; node < first_.size(); ++node)
      groups[first_[node]].push_back(static_cast<std::int32_t>(node));
    std::vector<Node> nodes;
    for (const auto& [first, members] : groups) {
      if (members.size() > 1 || gives_open(graph_.nodes[index(first)])) {
        OPSPLIT_TRY(Node made, bundle(members));
        nodes.push_back(std::move(made));
      } else {
        nodes.push_back(std::move(graph_.nodes[index(first)]));
      }
    }
    graph_.nodes = std::move(nodes);
    sort();
    for (const ValueId id : graph_.outputs) {
      Value& output = graph_.value(id);
      if (!output.open) continue;
      output.type = output.open->bound;
      output.dtype = output.type->dtype;
      output.open.reset();
    }
    return {};
  }

 private:
  [[nodiscard]] bool is_open(ValueId id) const {
    return id != no_value && graph_.value(id).open.has_value();
  }

  [[nodiscard]] bool gives_open(const Node& node) const {
    return std::ranges::any_of(node.outputs, [&](ValueId id) { return is_open(id); });
  }

  // visit(value, producer, reader)
  template <class Visit>
  void for_edges(const Visit& visit) {
    for (std::size_t node = 0; node < graph_.nodes.size(); ++node)
      for (const ValueId input : graph_.nodes[node].inputs)
        if (input != no_value && producers_[index(input)] >= 0)
          visit(input, producers_[index(input)], static_cast<std::int32_t>(node));
  }

  std::int32_t find(std::int32_t node) {
    while (first_[index(node)] != node)
      node = first_[index(node)] = first_[index(first_[index(node)])];
    return node;
  }

  void join(std::int32_t a, std::int32_t b) {
    a = find(a);
    b = find(b);
    first_[index(std::max(a, b))] = std::min(a, b);
  }

  // False: there are none.
  bool join_by_open_values() {
    for_edges([&](ValueId value, std::int32_t from, std::int32_t to) {
      if (is_open(value)) join(from, to);
    });
    return std::ranges::any_of(graph_.nodes, [&](const Node& node) { return gives_open(node); });
  }

  // What lies on a way from a group back to it goes round with it, seen as groups.
  void join_by_ways() {
    Successors successors(first_.size());  // of the groups, by their first nodes
    for_edges([&](ValueId, std::int32_t from, std::int32_t to) {
      if (find(from) != find(to)) successors[index(find(from))].push_back(find(to));
    });
    const auto components = strong_components(successors);
    std::vector<std::int32_t> first_of(components.size(), -1);
    for (std::size_t node = 0; node < components.size(); ++node) {
      const auto id = static_cast<std::int32_t>(node);
      if (find(id) != id) continue;
      std::int32_t& first = first_of[index(components[node])];
      if (first < 0)
        first = id;
      else
        join(first, id);
    }
    for (std::size_t node = 0; node < first_.size(); ++node)
      first_[node] = find(static_cast<std::int32_t>(node));
  }

  Result<Node> bundle(const std::vector<std::int32_t>& members) {
    onnx::GraphProto nodes;
    std::vector<ValueId> inputs, outputs;
    std::set<ValueId> known;
    double sum = 0;
    for (const std::int32_t member : members) {
      const Node& node = graph_.nodes[index(member)];
      OPSPLIT_CHECK(add_unbundled(graph_, node, nodes));
      sum += cost(graph_, node);
      for (const ValueId id : node.inputs) {
        if (id == no_value) continue;
        const std::int32_t from = producers_[index(id)];
        if ((from < 0 || first_[index(from)] != first_[index(member)]) && known.insert(id).second)
          inputs.push_back(id);
      }
      for (const ValueId id : node.outputs)
        if (id != no_value && read_outside_[index(id)]) outputs.push_back(id);
    }
    return make_bundle(graph_, graph_.nodes[index(members[0])].name, std::move(nodes),
                       std::move(inputs), std::move(outputs), sum);
  }

  // A bundle stands where its first node stood, and may read what came after that.
  void sort() {
    const auto producers = graph_.producers();
    Successors successors(graph_.nodes.size());
    for (std::size_t node = 0; node < graph_.nodes.size(); ++node)
      for (const ValueId input : graph_.nodes[node].inputs)
        if (input != no_value && producers[index(input)] >= 0)
          successors[index(producers[index(input)])].push_back(static_cast<std::int32_t>(node));
    std::vector<Node> sorted;
    for (const std::int32_t node : topological_order(successors).vertices)
      sorted.push_back(std::move(graph_.nodes[index(node)]));
    graph_.nodes = std::move(sorted);
  }

  Graph& graph_;
  const std::vector<std::int32_t> producers_;  // of each value
  std::vector<std::int32_t> first_;            // of each node, towards the first one of its group
  std::vector<bool> read_outside_;             // of each value, outside the group that gives it
};

}  // namespace

Result<> bundle_open(Graph& graph) { return Bundling(graph).run(); }

}  // namespace opsplit::graph
