// Makes the plan (base/plan.hpp) of a split graph, and writes each operator's part.
#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <span>
#include <string>

#include "base/plan.hpp"
#include "graph/split.hpp"

namespace opsplit::graph {

struct PlanOptions {
  // The channel-blocked layout that this machine's convolutions prefer, for tensors whose producer
  // and readers all take it; row_major: none.
  Layout blocked = Layout::row_major;
  // Operators that take and give row-major tensors only, by name. Those with foreign nodes do, too.
  std::set<std::string, std::less<>> row_major_operators = {};
  // Operators that run on a GPU, by name, and on which: 0, 1, ... without a gap. Their tensors are row-major.
  std::map<std::string, std::int32_t, std::less<>> gpus = {};
  std::size_t max_operators = 280;  // RouDi registers at most 300 processes: clients need some
  std::uint32_t depth = 8;
  std::uint64_t max_arena_bytes = opsplit::max_arena_bytes;
};

// Tensors get places: a place is used again only by a task that is a strict descendant of every
// task that reads it under any of its names; inputs and outputs of one task never overlap; the
// graph's inputs and outputs are not used again. A place holds the largest layout of its tensor, but
// where only row-major is possible (client's tensors, those with views) no more than that.
// What only tasks on one GPU use lies in its memory alone.
// Precondition: infer_shapes() succeeded. An error names the limit that does not fit.
Result<Plan> make_plan(const Graph& graph, const SplitSpec& spec, const PlanOptions& options);

// Writes into `folder` one ONNX model per operator (`PlannedOperator::part`). Constants that are stored
// (graph/stored_graph.hpp) are ONNX external data of it, the others lie in the part itself.
// A part's inputs and outputs are the tensors that its tasks read and write, by the plan's names (a
// tensor that passes between two tasks of one operator is only an output); the names of its nodes
// are those in PlannedTask::nodes. Views inside a task are nodes of the part, and of the task.
Result<> write_parts(const Graph& graph, const Plan& plan, const std::filesystem::path& folder);

// One task of a part as a serialized ONNX model of its own: the nodes, their weights, and inputs and
// outputs with their types, by name. Precondition: infer_shapes() succeeded. Errors: a name that the part
// does not have, or more bytes than protobuf can hold (2 GiB).
Result<std::string> export_task(const Graph& part, std::span<const std::string> nodes,
                                std::span<const std::string> inputs,
                                std::span<const std::string> outputs);

// For Graphviz: tasks, each in its operator's colour and with its share of the cost; on the edges the
// tensors that cross, with shape and bytes of their place.
std::string to_dot(const Plan& plan);

}  // namespace opsplit::graph
