#include <algorithm>

#include "graph/split.hpp"

namespace opsplit::graph {
namespace {

// A machine of today does about ten operations (150 GFLOP/s on one core) in the time that one byte
// takes from memory (15 GB/s): so many operations stand for a byte.
constexpr double operations_per_byte = 10;

// What Winograd's algorithm takes off a convolution of 3x3 and stride 1, on the average.
constexpr double winograd_gain = 2;
constexpr std::int64_t winograd_channels = 8;

bool all_one(const std::vector<std::int64_t>& values) {
  return std::ranges::all_of(values, [](std::int64_t value) { return value == 1; });
}

bool is_for_winograd(const Node& node, const Shape& weights) {
  return weights.rank() == 4 && weights[0] >= winograd_channels &&
         weights[1] >= winograd_channels && weights[2] == 3 && weights[3] == 3 &&
         all_one(node.integers("strides")) && all_one(node.integers("dilations"));
}

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
    const double direct = 2 * elements(out) * elements(weights) /
                          static_cast<double>(std::max<std::int64_t>(1, weights[0]));
    return is_for_winograd(node, weights) ? direct / winograd_gain : direct;
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
  bool all_known = true;  // what lies in a bundle may have open types
  const auto bytes_of = [&](ValueId id) {
    if (id == no_value) return 0.0;
    const auto& type = graph.value(id).type;
    all_known = all_known && type;
    return type ? elements(type->shape) * static_cast<double>(type->dtype.bytes()) : 0.0;
  };
  double weights = 0, all = 0;
  for (const ValueId id : node.inputs) {
    all += bytes_of(id);
    if (id != no_value && graph.value(id).constant) weights += bytes_of(id);
  }
  for (const ValueId id : node.outputs) all += bytes_of(id);
  if (is_bundle(node)) return std::max<double>(all * operations_per_byte, node.real("cost", 0));
  // What is computed on has just been written and lies in a cache; weights come from memory.
  const double computed = all_known ? operations(graph, node) : 0;
  return computed > 0 ? computed + weights * operations_per_byte : all * operations_per_byte;
}

}  // namespace opsplit::graph
