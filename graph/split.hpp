// A split: which nodes run in which operator, and which of them run in one go.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "graph/graph.hpp"

namespace opsplit::graph {

struct Fused {};    // everything in one operator, one task
struct ByType {};   // one operator per op type, one task per node; nothing is fused across types
struct PerNode {};  // one operator per node
struct Stages {     // `count` operators of about equal cost, each one task, cut along the order
  int count = 1;
};
struct ByHand {  // from the deployment file; what no operator claims is an error
  struct Group {
    std::string op;                     // operator name
    std::vector<std::string> nodes;     // node names; "a..b" is the range in execution order
    std::vector<std::string> op_types;  // and/or all nodes of these types
  };
  std::vector<Group> groups;
};
using SplitSpec = std::variant<Fused, ByType, PerNode, Stages, ByHand>;

// "fused", "by-type", "per-node", "stages:4". The error lists what there is.
Result<SplitSpec> parse_split(std::string_view text);
std::string to_string(const SplitSpec& spec);

struct OperatorNodes {
  std::string name;
  std::vector<std::vector<std::int32_t>>
      tasks;  // node indices, ascending; view nodes appear in none
};

// Every node that is not a view is in exactly one task, and the tasks form no cycle. By hand,
// connected nodes of one operator run as one task where that makes no cycle, else as several.
Result<std::vector<OperatorNodes>> split(const Graph& graph, const SplitSpec& spec);

// Estimated floating point operations of a node (memory-bound nodes count their bytes instead).
double cost(const Graph& graph, const Node& node);

}  // namespace opsplit::graph
