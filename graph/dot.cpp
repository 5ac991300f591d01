#include <fmt/format.h>

#include <iterator>

#include "graph/planner.hpp"

namespace opsplit::graph {
namespace {

std::string dot_string(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result + '"';
}

}  // namespace

std::string to_dot(const Plan& plan) {
  std::string dot = fmt::format("digraph {} {{\n  node [shape=box];\n", dot_string(plan.model));
  const auto out = std::back_inserter(dot);
  for (const PlannedOperator& op : plan.operators) {
    fmt::format_to(out, "  subgraph {} {{\n    label={};\n", dot_string("cluster_" + op.name),
                   dot_string(op.name));
    for (const std::int32_t id : op.tasks) {
      const PlannedTask& task = plan.tasks[static_cast<std::size_t>(id)];
      const std::string more =
          task.nodes.size() > 1 ? fmt::format(" (+{} nodes)", task.nodes.size() - 1) : "";
      fmt::format_to(out, "    t{} [label={}];\n", id, dot_string(task.name + more));
    }
    dot += "  }\n";
  }
  dot += "  in [label=\"client\", shape=ellipse];\n  out [label=\"client\", shape=ellipse];\n";
  const auto vertex = [](std::int32_t task, const char* client) {
    return task == PlannedTensor::none ? client : fmt::format("t{}", task);
  };
  const auto edge = [&](const PlannedTensor& tensor, const std::string& to) {
    fmt::format_to(out, "  {} -> {} [label={}];\n", vertex(tensor.producer, "in"), to,
                   dot_string(fmt::format("{} {} B", to_string(tensor.type.shape), tensor.bytes)));
  };
  for (const PlannedTensor& tensor : plan.tensors)
    for (const std::int32_t reader : tensor.readers) edge(tensor, vertex(reader, ""));
  for (const std::int32_t output : plan.outputs)
    edge(plan.tensors[static_cast<std::size_t>(output)], "out");
  return dot + "}\n";
}

}  // namespace opsplit::graph
