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

// Of places in the arena, and of the slots there.
inline constexpr std::uint64_t place_alignment = 64;
// Of places in a GPU's memory: what allocations there have, too.
inline constexpr std::uint64_t gpu_alignment = 256;
inline constexpr std::int32_t max_gpus = 64;

// A tensor that crosses between tasks, or is an input or output of the graph.
struct PlannedTensor {
  static constexpr std::int32_t none = -1;

  std::string name;
  TensorType type;
  Layout layout = Layout::row_major;  // what its producer writes when it can
  std::uint64_t offset = 0;           // of its place in the slot's arena; a multiple of 64
  std::uint64_t bytes = 0;            // of its place: the largest layout that it may take
  // Tasks on one GPU hand tensors to each other in its memory: what one writes and another reads has a
  // place there, row-major, and none in the arena unless the client or another processor reads it, too.
  std::int32_t gpu = none;       // index in Plan::gpu_slot_bytes; none: it lies in the arena only
  std::uint64_t gpu_offset = 0;  // in the memory of a slot there; a multiple of gpu_alignment
  bool in_arena = true;          // else offset and bytes are 0
  std::int32_t producer = none;  // task; none: the client writes it
  std::vector<std::int32_t> readers;  // tasks, ascending; the client reads the graph's outputs too
  std::int32_t view_of = none;        // tensor whose place and header this is another name for
  // Its sizes follow from data: `type` has the largest ones, the header those of a request. Only what a task
  // in the arena gives the client and nobody else.
  bool varies = false;

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
  std::int32_t gpu = PlannedTensor::none;  // index in Plan::gpu_slot_bytes; none: it runs on CPUs

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
  // Bytes of one slot in the memory of each GPU that operators run on; multiples of gpu_alignment. Which GPUs these
  // are is not the plan's to say.
  std::vector<std::uint64_t> gpu_slot_bytes;

  [[nodiscard]] bool uses_workspace(std::int32_t task) const {
    return gpu_of(task) == PlannedTensor::none &&
           tasks[static_cast<std::size_t>(task)].nodes.size() > 1;
  }
  // The GPU that a task runs on; none: CPUs.
  [[nodiscard]] std::int32_t gpu_of(std::int32_t task) const {
    return operators[static_cast<std::size_t>(tasks[static_cast<std::size_t>(task)].op)].gpu;
  }
  // The tensor whose place and header `tensor` is a name for: itself, or what it is a view of.
  [[nodiscard]] std::int32_t root(std::int32_t tensor) const {
    const auto view_of = tensors[static_cast<std::size_t>(tensor)].view_of;
    return view_of == PlannedTensor::none ? tensor : view_of;
  }
  friend bool operator==(const Plan&, const Plan&) = default;
};

// In which memories a tensor must lie, by who writes and reads it under any of its names.
struct Residence {
  std::int32_t gpu = PlannedTensor::none;
  bool in_arena = true;

  friend bool operator==(const Residence&, const Residence&) = default;
};
// For each tensor that of its root. Preconditions: indices in range, views of roots.
std::vector<Residence> residences(const Plan& plan);

// A tensor that a task on a GPU copies: what it reads and the GPU does not hold, what it writes and the
// arena is to hold.
struct DeviceCopy {
  std::int32_t task = 0;
  std::int32_t tensor = 0;
  bool to_device = true;  // else to the arena
  std::uint64_t bytes = 0;

  friend bool operator==(const DeviceCopy&, const DeviceCopy&) = default;
};
// All of a request, by task. Precondition: the plan is validated.
std::vector<DeviceCopy> device_copies(const Plan& plan);

// Every index in range, places inside the slot, views consistent: what a reader of a plan file
// must know before it uses the plan.
Result<> validate(const Plan& plan);

nlohmann::json to_json(const Plan& plan);
Result<Plan> plan_from_json(const nlohmann::json& json);  // validated

// A digest of the whole plan: two parties that hold different plans must not meet on one board.
std::uint64_t digest(const Plan& plan);

}  // namespace opsplit
