#include "operators/cuda/cuda_fusion.hpp"

#include <algorithm>

#include "operators/cuda/cuda_kernels.hpp"
#include "operators/kernels/index_space.hpp"

namespace opsplit::operators::cuda {
namespace {

// Functions that a node is in a pass, at the most: of its bias, if it is none itself.
std::size_t functions_of(const graph::Node& node) {
  return std::max<std::size_t>(node.inputs.size(), 2) - 1;
}

// May one pass do what both do?
bool fits(const Step& step, const Step& next) {
  return step.inputs.size() + next.inputs.size() - 1 <= Pointwise::max_operands &&
         functions_of(*step.node) + step.post_ops.size() + functions_of(*next.node) <=
             Pointwise::max_steps;
}

// Makes `next`, which reads `result`, post-ops of the step that gives it. False: it stays a step.
bool take(const TaskGraph& task, Step& step, const Step& next, TensorId result) {
  if (const auto activation = activation_of(*next.node, task.opset, constants_of(task, next))) {
    step.post_ops.push_back(post_op(*activation));
    return true;
  }
  const auto function = binary_function_of(next.node->op_type);
  if (!function || (!is_commutative(*function) && next.inputs[0] != result)) return false;
  const TensorType& type = task.tensor(result).type;
  for (const TensorId input : next.inputs)
    if (input == no_tensor || task.tensor(input).type.dtype != type.dtype ||
        !is_broadcastable(task.tensor(input).type.shape, type.shape))
      return false;
  take_operands(step, next, result, *function);
  return true;
}

// Takes the only reader of the step's output in, and moves to its place, where its operands are there.
bool grow(TaskGraph& task, std::size_t at) {
  Step& step = task.steps[at];
  if (step.kind != Step::Kind::node || step.outputs.size() != 1) return false;
  const CudaKernelKind* kind = find_cuda_kernel(step.node->op_type);
  if (kind == nullptr || !kind->takes_post_ops) return false;
  const TensorId result = step.outputs[0];
  const auto reader = task.only_reader(result);
  if (!reader) return false;
  const Step& next = task.steps[*reader];
  if (next.kind != Step::Kind::node || next.outputs.size() != 1 || !next.post_ops.empty() ||
      task.tensor(next.outputs[0]).type != task.tensor(result).type || !fits(step, next) ||
      !take(task, step, next, result))
    return false;
  move_into(task, at, *reader);
  return true;
}

}  // namespace

void fuse(TaskGraph& task) {
  // A step that grows is met again at its new place; steps only become fewer, or are passed.
  for (std::size_t at = 0; at < task.steps.size();)
    if (!grow(task, at)) ++at;
}

}  // namespace opsplit::operators::cuda
