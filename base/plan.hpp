// A plan: which operators there are, which tasks each runs, which tensors cross between tasks, and
// where in a slot's arena each lies. Made by graph/planner, read by everyone else; everything that
// one party must know of another before a request flows is in here. Pure data, immutable once made.
//
// Indices: an operator, task or tensor is named by its index in the vectors below. Vectors of tasks
// are in topological order: a task's producers have smaller indices.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/tensor_type.hpp"

namespace opsplit {

// iceoryx counts a pool's bytes in 32 bits, its own overhead included; beyond that chunks would
// overlap silently.
inline constexpr std::uint64_t max_arena_bytes =
    (std::uint64_t{1} << 32) - (std::uint64_t{3} << 12);

// A tensor that crosses between tasks, or is an input or output of the graph.
struct PlannedTensor {
  static constexpr std::int32_t none = -1;

  std::string name;
  TensorType type;
  Layout layout = Layout::row_major;  // what its producer writes when it can
  std::uint64_t offset = 0;           // of its place in the slot's arena; a multiple of 64
  std::uint64_t bytes = 0;            // of its place: the largest layout that it may take
  std::int32_t producer = none;       // task; none: the client writes it
  std::vector<std::int32_t> readers;  // tasks, ascending; the client reads the graph's outputs too
  std::int32_t view_of = none;        // tensor whose place and header this is another name for

  friend bool operator==(const PlannedTensor&, const PlannedTensor&) = default;
};

// Nodes of one operator that run in one go.
struct PlannedTask {
  std::string name;  // of its first node
  std::int32_t op = 0;
  std::vector<std::string> nodes;       // names, in execution order
  std::vector<std::int32_t> inputs;     // tensors, views by their own index
  std::vector<std::int32_t> outputs;    // tensors, never views
  std::vector<std::int32_t> producers;  // tasks whose outputs it reads, ascending, each once
  std::vector<std::int32_t> consumers;  // tasks that read its outputs, ascending, each once
  bool reads_client = false;            // one of its inputs is written by the client
  bool feeds_client = false;            // one of its outputs is an output of the graph
  double cost = 0;                      // estimated floating point operations

  friend bool operator==(const PlannedTask&, const PlannedTask&) = default;
};

struct PlannedOperator {
  std::string name;                 // [a-z0-9_-]+, unique
  std::string part;                 // file name of its ONNX model, within the deployment's folder
  std::vector<std::int32_t> tasks;  // ascending
  double cost = 0;

  friend bool operator==(const PlannedOperator&, const PlannedOperator&) = default;
};

struct Plan {
  std::string model;  // file name, for people
  std::string split;  // "fused", "by-type", "per-node", "stages:4", "by hand"
  std::vector<PlannedOperator> operators;
  std::vector<PlannedTask> tasks;
  std::vector<PlannedTensor> tensors;
  std::vector<std::int32_t> inputs;   // tensors, in the model's order
  std::vector<std::int32_t> outputs;  // tensors, in the model's order; may be views
  std::uint64_t slot_bytes = 0;       // arena bytes of one slot; a multiple of 64
  // Bytes behind the slots in which tasks of several nodes may compute what stays inside them, for
  // requests in slot 0: those tasks follow one another, so that they never run at the same time. So
  // a request on its own finds memory in the caches that its last task used. 0: none.
  std::uint64_t workspace_bytes = 0;  // a multiple of 64

  [[nodiscard]] bool uses_workspace(std::int32_t task) const {
    return tasks[static_cast<std::size_t>(task)].nodes.size() > 1;
  }
  // The tensor whose place and header `tensor` is a name for: itself, or what it is a view of.
  [[nodiscard]] std::int32_t root(std::int32_t tensor) const {
    const auto view_of = tensors[static_cast<std::size_t>(tensor)].view_of;
    return view_of == PlannedTensor::none ? tensor : view_of;
  }
  friend bool operator==(const Plan&, const Plan&) = default;
};

// Every index in range, places inside the slot, views consistent: what a reader of a plan file
// must know before it uses the plan.
Result<> validate(const Plan& plan);

nlohmann::json to_json(const Plan& plan);
Result<Plan> plan_from_json(const nlohmann::json& json);  // validated

// A digest of the whole plan: two parties that hold different plans must not meet on one board.
std::uint64_t digest(const Plan& plan);

}  // namespace opsplit
