#include <algorithm>
#include <limits>

#include "graph/split_steps.hpp"

namespace opsplit::graph {
namespace {

constexpr double tolerance = 1.05;  // costs are estimates: cuts within 5 % count as equally good

double bytes_of(const Graph& graph, ValueId id) {
  const auto bytes = byte_size(graph.type(id));
  return bytes ? static_cast<double>(*bytes) : 0;
}

// For each position in the order, the bytes of tensors that cross a cut before it.
std::vector<double> cut_bytes(const Graph& graph, const NodeIds& order) {
  const auto roots = view_roots(graph);
  std::vector<std::size_t> first(graph.values.size());  // position after the producer; 0: no node
  std::vector<std::size_t> last(graph.values.size());   // position of the last reader
  for (std::size_t position = 0; position < order.size(); ++position) {
    const Node& node = graph.nodes[static_cast<std::size_t>(order[position])];
    for (const ValueId id : node.outputs)
      if (id != no_value) first[static_cast<std::size_t>(id)] = position + 1;
    for (const ValueId id : node.inputs)
      if (id != no_value)
        last[static_cast<std::size_t>(roots[static_cast<std::size_t>(id)])] = position;
  }
  std::vector<double> change(order.size() + 2);
  for (std::size_t id = 0; id < first.size(); ++id) {
    if (first[id] == 0 || last[id] < first[id]) continue;
    const double bytes = bytes_of(graph, static_cast<ValueId>(id));
    change[first[id]] += bytes;
    change[last[id] + 1] -= bytes;
  }
  for (std::size_t i = 1; i < change.size(); ++i) change[i] += change[i - 1];
  return change;
}

// The smallest possible cost of the costliest of `count` contiguous pieces.
double smallest_maximum(const std::vector<double>& costs, int count) {
  double low = *std::max_element(costs.begin(), costs.end());
  double high = 0;
  for (const double cost : costs) high += cost;
  for (int i = 0; i < 64 && low < high; ++i) {
    const double middle = low + (high - low) / 2;
    int pieces = 1;
    double piece = 0;
    for (const double cost : costs) {
      if (piece + cost > middle) {
        ++pieces;
        piece = 0;
      }
      piece += cost;
    }
    (pieces <= count ? high : low) = middle;
  }
  return high;
}

}  // namespace

Result<std::vector<NodeIds>> cut_into_stages(const Graph& graph, int count) {
  const NodeIds order = run_nodes(graph);
  const std::size_t nodes = order.size();
  if (count < 1 || static_cast<std::size_t>(count) > nodes)
    return fail(ErrorCode::invalid_input,
                "stages:{}: the model has {} nodes to run, say stages:1 to stages:{}", count, nodes,
                nodes);
  std::vector<double> costs;
  for (const std::int32_t id : order)
    costs.push_back(cost(graph, graph.nodes[static_cast<std::size_t>(id)]));
  const double limit = smallest_maximum(costs, count) * tolerance;
  const auto crossing = cut_bytes(graph, order);

  // least[end]: the fewest bytes that cross when the nodes before `end` are `stage` pieces, none
  // costlier than the limit; begins[stage][end]: where the last of them begins.
  constexpr double impossible = std::numeric_limits<double>::infinity();
  std::vector<double> least(nodes + 1, impossible);
  least[0] = 0;
  std::vector<std::vector<std::size_t>> begins;
  for (int stage = 0; stage < count; ++stage) {
    std::vector<double> next(nodes + 1, impossible);
    begins.emplace_back(nodes + 1);
    for (std::size_t end = 1; end <= nodes; ++end) {
      double piece = 0;
      for (std::size_t begin = end; begin-- > 0;) {
        piece += costs[begin];
        if (piece > limit && begin + 1 < end) break;
        const double bytes = least[begin] + (begin > 0 ? crossing[begin] : 0);
        if (bytes < next[end]) {
          next[end] = bytes;
          begins.back()[end] = begin;
        }
      }
    }
    least = std::move(next);
  }

  std::vector<NodeIds> stages(static_cast<std::size_t>(count));
  std::size_t end = nodes;
  for (std::size_t stage = stages.size(); stage-- > 0;) {
    const std::size_t begin = begins[stage][end];
    stages[stage].assign(order.begin() + static_cast<std::ptrdiff_t>(begin),
                         order.begin() + static_cast<std::ptrdiff_t>(end));
    end = begin;
  }
  return stages;
}

}  // namespace opsplit::graph
