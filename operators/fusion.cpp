#include "operators/fusion.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "operators/kernels/index_space.hpp"
#include "operators/kernels/kernels.hpp"
#include "operators/kernels/onednn.hpp"

namespace opsplit::operators {
namespace {

// oneDNN 2.6 takes 32, and each costs registers.
constexpr std::size_t most_post_ops = 12;

// A whole tensor, one number, or one per channel. oneDNN 2.6's convolutions take others as well, and
// then compute something else.
bool is_usual_operand(const Shape& operand, const Shape& result) {
  if (operand == result) return true;
  for (std::size_t axis = 0; axis < operand.rank(); ++axis) {
    const std::size_t of_result = axis + result.rank() - operand.rank();
    if (operand[axis] != 1 && of_result != 1) return false;
  }
  return true;
}

// A linear function after a linear one is one of both, after a clip it is one before another clip.
void append(std::vector<PostOp>& ops, const Activation& activation) {
  using enum ActivationFunction;
  const bool after_activation = !ops.empty() && ops.back().kind == PostOp::Kind::activation;
  const Activation before = after_activation ? ops.back().activation : Activation{};
  const auto [function, alpha, beta] = activation;
  if (function == linear && before.function == linear) {
    ops.back() = post_op(Activation{linear, alpha * before.alpha, alpha * before.beta + beta});
  } else if (function == linear && before.function == hard_sigmoid && alpha > 0) {
    ops.back() = post_op(Activation{linear, alpha * before.alpha, alpha * before.beta + beta});
    ops.push_back(post_op(Activation{clip, beta, alpha + beta}));
  } else {
    ops.push_back(post_op(activation));
  }
}

// oneDNN 2.6 computes the second of two functions of a kind with the parameters of the first.
bool repeats_function(const std::vector<PostOp>& ops) {
  std::vector<dnnl::algorithm> seen;
  for (const PostOp& op : ops) {
    if (op.kind != PostOp::Kind::activation) continue;
    for (const onednn::Eltwise& function : onednn::eltwise_of(op.activation)) {
      if (std::find(seen.begin(), seen.end(), function.algorithm) != seen.end()) return true;
      seen.push_back(function.algorithm);
    }
  }
  return false;
}

class Fusion {
 public:
  explicit Fusion(TaskGraph& task) : task_(task) {}

  void run() {
    // A step that takes another in moves to the other's place (its operands are there by then), so
    // the walk meets it again; it ends since steps only become fewer or are passed.
    for (std::size_t at = 0; at < task_.steps.size();)
      if (!grow(at)) ++at;
  }

 private:
  // Takes the reader of the step's output in. False if the step stays as it is.
  bool grow(std::size_t at) {
    Step& step = task_.steps[at];
    if (step.kind != Step::Kind::node || step.outputs.size() != 1) return false;
    const KernelKind* kind = find_kernel(step.node->op_type);
    if (kind == nullptr || !kind->takes_post_ops || step.post_ops.size() >= most_post_ops)
      return false;
    const TensorId result = step.outputs[0];
    const TaskTensor& tensor = task_.tensor(result);
    if (tensor.type.dtype != float32) return false;
    if (const auto product = take_hard_swish(step, result)) {
      move_into(task_, at, *product);
      return true;
    }
    const auto reader = task_.only_reader(result);
    if (!reader) return false;
    Step& next = task_.steps[*reader];
    if (next.kind != Step::Kind::node || next.outputs.size() != 1 || !next.post_ops.empty() ||
        task_.tensor(next.outputs[0]).type != tensor.type)
      return false;
    const bool by_convolution = kind->rule == LayoutRule::convolution;
    if (!take_activation(step, next) && !take_binary(step, next, result, by_convolution))
      return false;
    move_into(task_, at, *reader);
    return true;
  }

  // x HardSigmoid(x) of the step's output x: ONNX's HardSwish, where it is spelled out. The step that
  // makes the product, if that is what reads x.
  std::optional<std::size_t> take_hard_swish(Step& step, TensorId x) {
    if (task_.tensor(x).output >= 0) return std::nullopt;
    std::vector<std::size_t> readers;
    for (std::size_t i = 0; i < task_.steps.size(); ++i)
      for (const TensorId input : task_.steps[i].inputs)
        if (input == x) readers.push_back(i);
    if (readers.size() != 2 || task_.steps[readers[0]].kind != Step::Kind::node)
      return std::nullopt;
    const auto gate = activation_of(*task_.steps[readers[0]].node, task_.opset, {});
    const Step& product = task_.steps[readers[1]];
    if (!gate || gate->function != ActivationFunction::hard_sigmoid || gate->beta != 0.5F ||
        std::abs(gate->alpha * 6 - 1) > 1e-6F || !task_.steps[readers[0]].post_ops.empty() ||
        product.kind != Step::Kind::node || product.node->op_type != "Mul" ||
        !product.post_ops.empty() ||
        task_.only_reader(task_.steps[readers[0]].outputs[0]) != readers[1])
      return std::nullopt;
    std::vector<PostOp> ops = step.post_ops;
    ops.push_back(post_op(Activation{ActivationFunction::hard_swish, 1.0F / 6.0F, 0.5F}));
    if (repeats_function(ops)) return std::nullopt;
    step.post_ops = std::move(ops);
    const auto hard_sigmoid = static_cast<std::ptrdiff_t>(readers[0]);
    task_.steps.erase(task_.steps.begin() + hard_sigmoid);
    return readers[1] - 1;
  }

  bool take_activation(Step& step, const Step& next) const {
    const auto activation = activation_of(*next.node, task_.opset, constants_of(task_, next));
    if (!activation || activation->function == ActivationFunction::erf) return false;
    std::vector<PostOp> ops = step.post_ops;
    append(ops, *activation);
    if (repeats_function(ops)) return false;
    step.post_ops = std::move(ops);
    return true;
  }

  // `result` is what the step gives to `next`.
  bool take_binary(Step& step, const Step& next, TensorId result, bool by_convolution) const {
    const auto function = binary_function_of(next.node->op_type);
    if (!function || step.post_ops.size() + next.inputs.size() > most_post_ops) return false;
    if (!is_commutative(*function) && next.inputs[0] != result) return false;
    const TensorType& type = task_.tensor(result).type;
    for (const TensorId input : next.inputs)
      if (input == no_tensor || task_.tensor(input).type.dtype != float32 ||
          !is_broadcastable(task_.tensor(input).type.shape, type.shape) ||
          (by_convolution && !is_usual_operand(task_.tensor(input).type.shape, type.shape)))
        return false;
    take_operands(step, next, result, *function);
    return true;
  }

  TaskGraph& task_;
};

}  // namespace

void fuse(TaskGraph& task) { Fusion(task).run(); }

}  // namespace opsplit::operators
