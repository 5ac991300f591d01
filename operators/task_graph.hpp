// A task while it is compiled: its tensors and steps, changed by one pass after the other (fusion,
// layouts, memory) until every step has a kernel and every tensor a place.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "graph/graph.hpp"
#include "operators/kernels/kernel_spec.hpp"
#include "operators/program.hpp"

namespace opsplit::operators {

using TensorId = std::int32_t;
inline constexpr TensorId no_tensor = -1;

struct TaskTensor {
  std::string name = {};
  TensorType type = {};
  Layout layout = Layout::row_major;

  // Where it lies: at an edge, in fixed bytes, inside another tensor, or (none of these) in the
  // program's private memory.
  std::int32_t input = -1;   // index of the edge
  std::int32_t output = -1;  // index of the edge
  const std::byte* fixed = nullptr;
  TensorId inside = no_tensor;
  std::uint64_t inside_offset = 0;  // bytes

  const graph::Constant* constant = nullptr;  // that `fixed` are the bytes of
};

struct Step {
  enum class Kind {
    node,  // computes `node` and its post-ops
    custom,  // computes `node`, or all of the task, by somebody else's kernel: nothing is fused with it
    view,     // output 0 is another name for input 0; gone once layouts are chosen
    copy,     // input 0 to output 0, converted between layouts if they differ
    shuffle,  // the channels of input 0, seen as groups x channels of a group, transposed
  };
  Kind kind = Kind::node;
  std::int64_t groups = 1;            // of a shuffle
  const graph::Node* node = nullptr;  // of the part; null for what stands for none, or several
  std::vector<TensorId> inputs = {};  // the node's, no_tensor where absent, then post-ops' operands
  std::vector<TensorId> outputs = {};  // no_tensor where nobody reads it
  std::vector<PostOp> post_ops = {};
  std::unique_ptr<Kernel> kernel = nullptr;  // of a node once layouts are chosen
};

struct TaskGraph {
  std::int64_t opset = 0;
  std::vector<TaskTensor> tensors;
  std::vector<Step> steps;  // in the order of execution

  [[nodiscard]] TaskTensor& tensor(TensorId id) { return tensors[static_cast<std::size_t>(id)]; }
  [[nodiscard]] const TaskTensor& tensor(TensorId id) const {
    return tensors[static_cast<std::size_t>(id)];
  }
  TensorId add(TaskTensor tensor) {
    tensors.push_back(std::move(tensor));
    return static_cast<TensorId>(tensors.size() - 1);
  }
  // The tensor whose memory this one's is a part of, and where in it: itself, 0, if of none.
  struct Whole {
    TensorId tensor;
    std::uint64_t offset;
  };
  [[nodiscard]] Whole whole(TensorId id) const;
  // The step that alone reads a tensor, once, that lies at no edge.
  [[nodiscard]] std::optional<std::size_t> only_reader(TensorId id) const;
};

// The nodes of the part that make up the task. Each reads what an edge, a constant or a node before
// it gives.
Result<TaskGraph> extract_task(const graph::Graph& part, std::span<const std::string> nodes,
                               std::span<const EdgeTensor> inputs,
                               std::span<const EdgeTensor> outputs);

// A task that is one step, by somebody else's kernel.
Result<TaskGraph> task_of_kernel(const graph::Graph& part, std::span<const EdgeTensor> inputs,
                                 std::span<const EdgeTensor> outputs,
                                 std::unique_ptr<Kernel> kernel);

// Gives the nodes that there are custom kernels for theirs.
Result<> take_custom_kernels(TaskGraph& task, const CustomKernels& kernels);

// -- What passes that fuse have in common ------------------------------------------------------------------

// What is constant of a step's inputs; null: it is not, or absent.
std::vector<const graph::Constant*> constants_of(const TaskGraph& task, const Step& step);
// What `next` reads besides `result`, which the step gives, becomes operands of post-ops of the step.
void take_operands(Step& step, const Step& next, TensorId result, BinaryFunction function);
// The step at `at` gives what the one at `reader` gave, and takes its place: its operands are there by then.
void move_into(TaskGraph& task, std::size_t at, std::size_t reader);

// What the kernel of a step that stands for a node is made from.
KernelSpec spec_of(const TaskGraph& task, const Step& step);

// Do a tensor's bytes lie the same in both layouts?
bool same_bytes(const TensorType& type, Layout a, Layout b);

}  // namespace opsplit::operators
