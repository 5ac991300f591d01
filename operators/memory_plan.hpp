// Memory: what a task computes on the way lies in one block, in which tensors that are never alive
// together share bytes. Concat's inputs are computed where they are to lie; a sum is added where one
// of its operands lies.
#pragma once

#include "operators/task_graph.hpp"

namespace opsplit::operators {

// Where each tensor lies, parallel to TaskGraph::tensors.
struct Location {
  enum class Where { nowhere, input, output, fixed, memory };
  Where where = Where::nowhere;
  std::size_t index = 0;             // of the edge
  const std::byte* fixed = nullptr;  // offset included
  std::uint64_t offset = 0;          // into the edge's place, or the block
};

// Where a pointer to an edge's place, or into the memory that is computed in, is to be put in each run.
struct Patch {
  std::size_t step, operand;
  bool is_output;  // the operand is an output of the step
  Location from;
};

struct MemoryPlan {
  std::vector<Location> locations;
  std::uint64_t bytes = 0;  // of the block
};

// Places for the tensors of a task whose steps run one after the other, as they are.
Result<MemoryPlan> place_tensors(const TaskGraph& task);

// Precondition: layouts are chosen. Steps whose kernels change are given new ones; a Concat that has
// nothing left to do is removed. Then places for all tensors.
Result<MemoryPlan> plan_memory(TaskGraph& task, const KernelResources& resources);

}  // namespace opsplit::operators
