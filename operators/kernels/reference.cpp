#include "operators/kernels/reference.hpp"

#include <array>
#include <utility>

#include "operators/kernels/kernels.hpp"

namespace opsplit::operators {
namespace {

using Function = Result<> (*)(const reference::Call&);

struct Entry {
  std::string_view op_type;
  Function function;
  std::size_t inputs;  // at least
};

constexpr std::array entries{
    Entry{"Conv", reference::convolution, 2},
    Entry{"ConvTranspose", reference::transposed_convolution, 2},
    Entry{"MaxPool", reference::max_pool, 1},
    Entry{"AveragePool", reference::average_pool, 1},
    Entry{"GlobalAveragePool", reference::global_pool, 1},
    Entry{"GlobalMaxPool", reference::global_pool, 1},
    Entry{"Gemm", reference::gemm, 2},
    Entry{"MatMul", reference::matmul, 2},
    Entry{"Softmax", reference::softmax, 1},
    Entry{"LRN", reference::lrn, 1},
    Entry{"BatchNormalization", reference::batch_normalization, 5},
    Entry{"Add", reference::binary, 2},
    Entry{"Sub", reference::binary, 2},
    Entry{"Mul", reference::binary, 2},
    Entry{"Div", reference::binary, 2},
    Entry{"Pow", reference::binary, 2},
    Entry{"Sum", reference::binary, 1},
    Entry{"Max", reference::binary, 1},
    Entry{"Min", reference::binary, 1},
    Entry{"Relu", reference::activation, 1},
    Entry{"LeakyRelu", reference::activation, 1},
    Entry{"Clip", reference::activation, 1},
    Entry{"Sigmoid", reference::activation, 1},
    Entry{"HardSigmoid", reference::activation, 1},
    Entry{"HardSwish", reference::activation, 1},
    Entry{"Tanh", reference::activation, 1},
    Entry{"Elu", reference::activation, 1},
    Entry{"Exp", reference::activation, 1},
    Entry{"Log", reference::activation, 1},
    Entry{"Erf", reference::activation, 1},
    Entry{"Sqrt", reference::activation, 1},
    Entry{"Abs", reference::activation, 1},
    Entry{"Neg", reference::activation, 1},
    Entry{"Concat", reference::concat, 1},
    Entry{"Transpose", reference::transpose, 1},
    Entry{"Resize", reference::resize, 1},
    Entry{"Upsample", reference::resize, 1},
    Entry{"PRelu", reference::binary, 2},
    Entry{"LogSoftmax", reference::softmax, 1},
    Entry{"ReduceMean", reference::reduce, 1},
    Entry{"ReduceSum", reference::reduce, 1},
    Entry{"ReduceMax", reference::reduce, 1},
    Entry{"Slice", reference::slice, 1},
    Entry{"Gather", reference::gather, 2},
    Entry{"Pad", reference::pad, 1},
    Entry{"Split", reference::split, 1},
};

const Entry* find(const graph::Node& node) {
  for (const Entry& entry : entries)
    if (entry.op_type == node.op_type) return &entry;
  static constexpr Entry view{"a view", reference::view, 1};
  return graph::is_view(node) ? &view : nullptr;
}

class ReferenceKernel final : public Kernel {
 public:
  ReferenceKernel(const graph::Node& node, std::int64_t opset) : node_(node), opset_(opset) {}

  Result<> run(std::span<const TensorView> inputs,
               std::span<const MutableTensorView> outputs) override {
    return reference::evaluate(node_, opset_, inputs, outputs);
  }

 private:
  const graph::Node node_;  // a copy: the graph need not outlive its kernels
  const std::int64_t opset_;
};

}  // namespace

Result<> reference::evaluate(const graph::Node& node, std::int64_t opset,
                             std::span<const TensorView> inputs,
                             std::span<const MutableTensorView> outputs) {
  const Entry* entry = find(node);
  if (entry == nullptr)
    return fail(ErrorCode::invalid_input, "operation {} is not supported", node.op_type);
  bool complete = inputs.size() >= entry->inputs && !outputs.empty();
  for (std::size_t i = 0; i < entry->inputs && complete; ++i) complete = inputs[i].data != nullptr;
  if (!complete)
    return fail(ErrorCode::invalid_input, "{} needs {} inputs and an output", node.op_type,
                entry->inputs);
  return entry->function({node, opset, inputs, outputs});
}

Result<std::unique_ptr<Kernel>> make_reference(const KernelSpec& spec, const KernelResources&) {
  if (find(*spec.node) == nullptr)
    return fail(ErrorCode::invalid_input, "operation {} is not supported", spec.node->op_type);
  if (!spec.post_ops.empty())
    return fail(ErrorCode::invalid_input, "{} takes no post-ops here", spec.node->op_type);
  for (const auto* operands : {&spec.inputs, &spec.outputs})
    for (const Operand& operand : *operands)
      if (operand.layout != Layout::row_major)
        return fail(ErrorCode::invalid_input, "{} is computed on row-major tensors only",
                    spec.node->op_type);
  return std::make_unique<ReferenceKernel>(*spec.node, spec.opset);
}

}  // namespace opsplit::operators
