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

// Kosaraju's: whoever was left last is reached, against the edges, by its component alone.
std::vector<std::int32_t> strong_components(const Successors& successors) {
  const std::size_t count = successors.size();
  Successors predecessors(count);
  for (std::size_t from = 0; from < count; ++from)
    for (const std::int32_t to : successors[from])
      predecessors[static_cast<std::size_t>(to)].push_back(static_cast<std::int32_t>(from));

  std::vector<std::int32_t> left;  // each after all that it leads to
  std::vector<std::size_t> next(count);
  std::vector<bool> entered(count);
  std::vector<std::int32_t> path;
  for (std::size_t start = 0; start < count; ++start) {
    if (entered[start]) continue;
    entered[start] = true;
    path.push_back(static_cast<std::int32_t>(start));
    while (!path.empty()) {
      const auto at = static_cast<std::size_t>(path.back());
      if (next[at] == successors[at].size()) {
        left.push_back(path.back());
        path.pop_back();
        continue;
      }
      const std::int32_t to = successors[at][next[at]++];
      if (entered[static_cast<std::size_t>(to)]) continue;
      entered[static_cast<std::size_t>(to)] = true;
      path.push_back(to);
    }
  }

  std::vector<std::int32_t> component(count, -1);
  std::int32_t found = 0;
  for (auto start = left.rbegin(); start != left.rend(); ++start) {
    if (component[static_cast<std::size_t>(*start)] >= 0) continue;
    component[static_cast<std::size_t>(*start)] = found;
    path.push_back(*start);
    while (!path.empty()) {
      const auto at = static_cast<std::size_t>(path.back());
      path.pop_back();
      for (const std::int32_t from : predecessors[at]) {
        if (component[static_cast<std::size_t>(from)] >= 0) continue;
        component[static_cast<std::size_t>(from)] = found;
        path.push_back(from);
      }
    }
    ++found;
  }
  return component;
}

}  // namespace opsplit::graph
