#include "graph/topological.hpp"

#include <algorithm>
#include <functional>
#include <queue>

namespace opsplit::graph {
namespace {

// Every vertex with `waiting` > 0 has a predecessor of that kind: walking backwards must meet a
// vertex again.
std::vector<std::int32_t> find_cycle(const Successors& successors,
                                     const std::vector<int>& waiting) {
  std::vector<std::int32_t> predecessor(successors.size(), -1);
  std::int32_t at = -1;
  for (std::size_t from = 0; from < successors.size(); ++from) {
    if (waiting[from] == 0) continue;
    for (const std::int32_t to : successors[from]) {
      predecessor[static_cast<std::size_t>(to)] = static_cast<std::int32_t>(from);
      if (waiting[static_cast<std::size_t>(to)] > 0) at = to;
    }
  }
  std::vector<std::int32_t> path;
  while (std::find(path.begin(), path.end(), at) == path.end()) {
    path.push_back(at);
    at = predecessor[static_cast<std::size_t>(at)];
  }
  path.erase(path.begin(), std::find(path.begin(), path.end(), at));
  std::reverse(path.begin(), path.end());
  return path;
}

}  // namespace

Order topological_order(const Successors& successors) {
  std::vector<int> waiting(successors.size());  // for how many predecessors
  for (const auto& targets : successors)
    for (const std::int32_t to : targets) ++waiting[static_cast<std::size_t>(to)];

  std::priority_queue<std::int32_t, std::vector<std::int32_t>, std::greater<>> ready;
  for (std::size_t vertex = 0; vertex < waiting.size(); ++vertex)
    if (waiting[vertex] == 0) ready.push(static_cast<std::int32_t>(vertex));

  Order order;
  order.vertices.reserve(successors.size());
  while (!ready.empty()) {
    const std::int32_t vertex = ready.top();
    ready.pop();
    order.vertices.push_back(vertex);
    for (const std::int32_t to : successors[static_cast<std::size_t>(vertex)])
      if (--waiting[static_cast<std::size_t>(to)] == 0) ready.push(to);
  }
  if (order.vertices.size() < successors.size()) order.cycle = find_cycle(successors, waiting);
  return order;
}

}  // namespace opsplit::graph
