#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "graph/split_steps.hpp"

namespace opsplit::graph {
namespace {

constexpr std::string_view range_mark = "..";

class Claims {
 public:
  Claims(const Graph& graph, const ByHand& spec)
      : graph_(graph), spec_(spec), owner_(graph.nodes.size(), -1) {
    for (std::size_t i = 0; i < graph.nodes.size(); ++i)
      by_name_.emplace(graph.nodes[i].name, static_cast<std::int32_t>(i));
  }

  // Names first: what an operator claims by name, another does not claim by type.
  Result<std::vector<NodeIds>> run() {
    for (std::size_t group = 0; group < spec_.groups.size(); ++group)
      for (const std::string& text : spec_.groups[group].nodes) OPSPLIT_CHECK(claim(group, text));
    const std::vector<std::int32_t> by_name = owner_;
    for (std::size_t group = 0; group < spec_.groups.size(); ++group)
      for (const std::string& type : spec_.groups[group].op_types)
        OPSPLIT_CHECK(claim_type(group, type, by_name));

    std::vector<NodeIds> result(spec_.groups.size());
    for (const std::int32_t id : run_nodes(graph_)) {
      const Node& node = graph_.nodes[static_cast<std::size_t>(id)];
      const std::int32_t owner = owner_[static_cast<std::size_t>(id)];
      if (owner < 0)
        return fail(ErrorCode::invalid_input,
                    "node '{}' ({}) belongs to no operator: name it, or its type, in one",
                    node.name, node.op_type);
      result[static_cast<std::size_t>(owner)].push_back(id);
    }
    for (std::size_t group = 0; group < result.size(); ++group)
      if (result[group].empty())
        return fail(ErrorCode::invalid_input, "operator '{}' has no nodes to run",
                    spec_.groups[group].op);
    return result;
  }

 private:
  std::optional<std::int32_t> find(std::string_view name) const {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? std::nullopt : std::optional(found->second);
  }

  Result<> claim(std::size_t group, const std::string& text) {
    if (const auto node = find(text)) return take(group, *node);
    // A node's name may hold the mark, too: every place where it stands is tried.
    for (std::size_t at = text.find(range_mark); at != std::string::npos;
         at = text.find(range_mark, at + 1)) {
      const auto first = find(std::string_view(text).substr(0, at));
      const auto last = find(std::string_view(text).substr(at + range_mark.size()));
      if (!first || !last) continue;
      if (*first > *last)
        return fail(ErrorCode::invalid_input,
                    "operator '{}': '{}' is empty, the second node runs before the first",
                    spec_.groups[group].op, text);
      for (std::int32_t node = *first; node <= *last; ++node) OPSPLIT_CHECK(take(group, node));
      return {};
    }
    return fail(ErrorCode::not_found,
                "operator '{}': no node '{}' (it may have been folded into another: `opsplit plan "
                "MODEL --split per-node` lists those that are left)",
                spec_.groups[group].op, text);
  }

  Result<> claim_type(std::size_t group, const std::string& type,
                      const std::vector<std::int32_t>& by_name) {
    bool found = false;
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (named_op_type(graph_.nodes[i]) != type) continue;
      found = true;
      if (by_name[i] < 0) OPSPLIT_CHECK(take(group, static_cast<std::int32_t>(i)));
    }
    if (found) return {};
    std::set<std::string> types;
    for (const std::int32_t id : run_nodes(graph_))
      types.emplace(named_op_type(graph_.nodes[static_cast<std::size_t>(id)]));
    return fail(ErrorCode::not_found, "operator '{}': no node of type '{}'; there are: {}",
                spec_.groups[group].op, type, fmt::join(types, ", "));
  }

  Result<> take(std::size_t group, std::int32_t node) {
    std::int32_t& owner = owner_[static_cast<std::size_t>(node)];
    if (owner >= 0 && static_cast<std::size_t>(owner) != group)
      return fail(ErrorCode::invalid_input, "node '{}' is claimed by operator '{}' and by '{}'",
                  graph_.nodes[static_cast<std::size_t>(node)].name,
                  spec_.groups[static_cast<std::size_t>(owner)].op, spec_.groups[group].op);
    owner = static_cast<std::int32_t>(group);
    return {};
  }

  const Graph& graph_;
  const ByHand& spec_;
  std::map<std::string, std::int32_t, std::less<>> by_name_;
  std::vector<std::int32_t> owner_;  // group of each node; -1: none yet
};

// Tasks while they are joined: each node knows the first node of its task.
class Joiner {
 public:
  Joiner(const Graph& graph, const std::vector<std::int32_t>& operator_of)
      : operator_of_(operator_of), task_(graph.nodes.size()), successors_(graph.nodes.size()) {
    for (std::size_t i = 0; i < task_.size(); ++i) task_[i] = i;
    const auto roots = view_roots(graph);
    const auto producers = graph.producers();
    for (std::size_t reader = 0; reader < graph.nodes.size(); ++reader) {
      if (operator_of[reader] < 0) continue;
      for (const ValueId input : graph.nodes[reader].inputs) {
        if (input == no_value) continue;
        const auto root = roots[static_cast<std::size_t>(input)];
        const auto producer = producers[static_cast<std::size_t>(root)];
        if (producer >= 0) successors_[static_cast<std::size_t>(producer)].insert(reader);
      }
    }
  }

  std::vector<std::vector<NodeIds>> run(std::size_t operators) {
    std::vector<std::pair<std::size_t, std::size_t>> edges;
    for (std::size_t from = 0; from < successors_.size(); ++from)
      for (const std::size_t to : successors_[from])
        if (operator_of_[from] == operator_of_[to]) edges.emplace_back(from, to);
    for (const auto& [from, to] : edges)
      if (task_[from] != task_[to] && !reached_otherwise(task_[from], task_[to]))
        join(task_[from], task_[to]);

    std::map<std::size_t, NodeIds> tasks;
    for (std::size_t node = 0; node < task_.size(); ++node)
      if (operator_of_[node] >= 0) tasks[task_[node]].push_back(static_cast<std::int32_t>(node));
    std::vector<std::vector<NodeIds>> result(operators);
    for (auto& [first, nodes] : tasks)
      result[static_cast<std::size_t>(operator_of_[first])].push_back(std::move(nodes));
    return result;
  }

 private:
  // Is there a way from one task to the other through a third? Then joining them makes a cycle.
  bool reached_otherwise(std::size_t from, std::size_t to) const {
    std::vector<std::size_t> waiting;
    std::set<std::size_t> seen;
    for (const std::size_t next : successors_[from])
      if (next != to && seen.insert(next).second) waiting.push_back(next);
    while (!waiting.empty()) {
      const std::size_t at = waiting.back();
      waiting.pop_back();
      for (const std::size_t next : successors_[at]) {
        if (next == to) return true;
        if (seen.insert(next).second) waiting.push_back(next);
      }
    }
    return false;
  }

  void join(std::size_t a, std::size_t b) {
    const std::size_t kept = std::min(a, b);
    const std::size_t gone = std::max(a, b);
    for (std::size_t& task : task_)
      if (task == gone) task = kept;
    successors_[kept].insert(successors_[gone].begin(), successors_[gone].end());
    successors_[gone].clear();
    for (auto& targets : successors_)
      if (targets.erase(gone) > 0) targets.insert(kept);
    successors_[kept].erase(kept);
  }

  const std::vector<std::int32_t>& operator_of_;
  std::vector<std::size_t> task_;                  // of each node, named by its first node
  std::vector<std::set<std::size_t>> successors_;  // of each task
};

}  // namespace

Result<std::vector<NodeIds>> claim_by_hand(const Graph& graph, const ByHand& spec) {
  return Claims(graph, spec).run();
}

std::vector<std::vector<NodeIds>> join_connected(const Graph& graph,
                                                 const std::vector<std::int32_t>& operator_of,
                                                 std::size_t operators) {
  return Joiner(graph, operator_of).run(operators);
}

}  // namespace opsplit::graph
