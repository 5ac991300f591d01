#include <algorithm>

#include "graph/split.hpp"

namespace opsplit::graph {
namespace {

// A machine of today does about ten operations (100 GFLOP/s on one core) in the time that one byte
// takes from memory (10 GB/s): so many operations stand for a byte.
constexpr double operations_per_byte = 10;

// As a number, so that no product overflows.
double elements(const Shape& shape) {
  double product = 1;
  for (const std::int64_t dim : shape) product *= static_cast<double>(dim);
  return product;
}

double operations(const Graph& graph, const Node& node) {
  const Shape& out = graph.type(node.outputs[0]).shape;
  if (node.op_type == "Conv") {
    const Shape& weights = graph.type(node.inputs[1]).shape;  // out, in / group, kernel
    return 2 * elements(out) * elements(weights) /
           static_cast<double>(std::max<std::int64_t>(1, weights[0]));
  }
  if (node.op_type == "ConvTranspose") {
    const Shape& in = graph.type(node.inputs[0]).shape;
    const Shape& weights = graph.type(node.inputs[1]).shape;  // in, out / group, kernel
    return 2 * elements(in) * elements(weights) /
           static_cast<double>(std::max<std::int64_t>(1, weights[0]));
  }
  if (node.op_type == "Gemm" || node.op_type == "MatMul") {
    const Shape& a = graph.type(node.inputs[0]).shape;
    const bool transposed = node.integer("transA", 0) != 0;
    return 2 * elements(out) * static_cast<double>(a[transposed ? 0 : a.rank() - 1]);
  }
  return 0;
}

}  // namespace

double cost(const Graph& graph, const Node& node) {
  double bytes = 0;
  const auto count = [&](const std::vector<ValueId>& ids) {
    for (const ValueId id : ids)
      if (id != no_value)
        bytes += elements(graph.type(id).shape) * static_cast<double>(graph.type(id).dtype.bytes());
  };
  count(node.inputs);
  count(node.outputs);
  return std::max(operations(graph, node), bytes * operations_per_byte);
}

}  // namespace opsplit::graph
