#include "operators/kernels/kernels.hpp"

#include <algorithm>
#include <array>

#include "operators/kernels/reference.hpp"
#include "operators/kernels/sequence.hpp"

namespace opsplit::operators {
namespace {

constexpr std::array kinds{
    KernelKind{"Conv", make_convolution, LayoutRule::convolution, true},
    KernelKind{"ConvTranspose", make_transposed_convolution, LayoutRule::convolution, true},
    KernelKind{"MaxPool", make_pooling, LayoutRule::image, false},
    KernelKind{"AveragePool", make_pooling, LayoutRule::image, false},
    KernelKind{"GlobalAveragePool", make_pooling, LayoutRule::image, false},
    KernelKind{"GlobalMaxPool", make_pooling, LayoutRule::image, false},
    KernelKind{"LRN", make_lrn, LayoutRule::image, false},
    KernelKind{"BatchNormalization", make_batch_normalization, LayoutRule::image, true},
    KernelKind{"Gemm", make_gemm, LayoutRule::row_major, true},
    KernelKind{"MatMul", make_matmul, LayoutRule::row_major, true},
    KernelKind{"Softmax", make_softmax, LayoutRule::row_major, false},
    KernelKind{"Add", make_binary, LayoutRule::pointwise, true},
    KernelKind{"Sub", make_binary, LayoutRule::pointwise, true},
    KernelKind{"Mul", make_binary, LayoutRule::pointwise, true},
    KernelKind{"Div", make_binary, LayoutRule::pointwise, true},
    KernelKind{"Sum", make_binary, LayoutRule::pointwise, true},
    KernelKind{"Max", make_binary, LayoutRule::pointwise, true},
    KernelKind{"Min", make_binary, LayoutRule::pointwise, true},
    KernelKind{"Relu", make_activation, LayoutRule::pointwise, false},
    KernelKind{"LeakyRelu", make_activation, LayoutRule::pointwise, false},
    KernelKind{"Clip", make_activation, LayoutRule::pointwise, false},
    KernelKind{"Sigmoid", make_activation, LayoutRule::pointwise, false},
    KernelKind{"HardSigmoid", make_activation, LayoutRule::pointwise, false},
    KernelKind{"HardSwish", make_activation, LayoutRule::pointwise, false},
    KernelKind{"Tanh", make_activation, LayoutRule::pointwise, false},
    KernelKind{"Elu", make_activation, LayoutRule::pointwise, false},
    KernelKind{"Exp", make_activation, LayoutRule::pointwise, false},
    KernelKind{"Log", make_activation, LayoutRule::pointwise, false},
    KernelKind{"Erf", make_activation, LayoutRule::pointwise, false},
    KernelKind{"Sqrt", make_activation, LayoutRule::pointwise, false},
    KernelKind{"Abs", make_activation, LayoutRule::pointwise, false},
    KernelKind{"Neg", make_activation, LayoutRule::pointwise, false},
    KernelKind{"Concat", make_concat, LayoutRule::concat, false},
    KernelKind{"Transpose", make_transpose, LayoutRule::row_major, false},
    KernelKind{"Resize", make_resize, LayoutRule::image, false},
    KernelKind{"Upsample", make_resize, LayoutRule::image, false},
    KernelKind{"ReduceMean", make_reduction, LayoutRule::row_major, false},
    KernelKind{"ReduceSum", make_reduction, LayoutRule::row_major, false},
    KernelKind{"ReduceMax", make_reduction, LayoutRule::row_major, false},
};

// What has no faster way, the reference computes.
constexpr KernelKind by_reference{"", make_reference, LayoutRule::row_major, false};

bool is_empty(const Operand& operand) {
  return operand.present && operand.type.shape.elements() == 0;
}

class NothingToDo final : public Kernel {
  Result<> run(std::span<const TensorView>, std::span<const MutableTensorView>) override {
    return {};
  }
};

Result<std::unique_ptr<Kernel>> make(const KernelKind& kind, const KernelSpec& spec,
                                     const KernelResources& resources) {
  if (std::all_of(spec.outputs.begin(), spec.outputs.end(),
                  [](const Operand& output) { return !output.present || is_empty(output); }))
    return std::make_unique<NothingToDo>();
  // oneDNN does nothing at all where an input is empty; ONNX may want zeros, or a bias. Concat and
  // Resize (whose region often is) know what to do.
  if (kind.make != make_concat && kind.make != make_resize &&
      std::any_of(spec.inputs.begin(), spec.inputs.end(), is_empty)) {
    OPSPLIT_TRY(auto reference, make_reference(without_post_ops(spec), resources));
    return with_separate_post_ops(std::move(reference), spec, resources);
  }
  return kind.make(spec, resources);
}

}  // namespace

std::vector<std::string> kernel_op_types() {
  std::vector<std::string> names;
  for (const KernelKind& kind : kinds) names.emplace_back(kind.op_type);
  for (const std::string_view op_type : reference::op_types())
    if (std::ranges::find(names, op_type) == names.end()) names.emplace_back(op_type);
  return names;
}

const KernelKind* find_kernel(std::string_view op_type) {
  const auto* found = std::find_if(kinds.begin(), kinds.end(),
                                   [&](const KernelKind& kind) { return kind.op_type == op_type; });
  if (found != kinds.end()) return found;
  return reference::knows(op_type) ? &by_reference : nullptr;
}

Result<std::unique_ptr<Kernel>> make_kernel(const KernelSpec& spec,
                                            const KernelResources& resources) {
  const graph::Node& node = *spec.node;
  const KernelKind* kind = find_kernel(node.op_type);
  if (kind == nullptr)
    return fail(ErrorCode::invalid_input, "node {}: operation {} has no kernel", node.name,
                node.op_type);
  auto kernel = make(*kind, spec, resources);
  if (!kernel) return within("node " + node.name, kernel.error());
  return kernel;
}

}  // namespace opsplit::operators
