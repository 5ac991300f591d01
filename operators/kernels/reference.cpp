#include "operators/kernels/reference.hpp"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "operators/kernels/kernels.hpp"

namespace opsplit::operators {
namespace {

using Function = Result<> (*)(const reference::Call&);

struct Entry {
  std::string_view op_type;
  Function function;
  std::size_t inputs;           // at least
  bool takes_any_type = false;  // without it, the 16-bit floats come as float
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
    Entry{"Add", reference::elementwise_binary, 2},
    Entry{"Sub", reference::elementwise_binary, 2},
    Entry{"Mul", reference::elementwise_binary, 2},
    Entry{"Div", reference::elementwise_binary, 2},
    Entry{"Pow", reference::power, 2},
    Entry{"Sum", reference::elementwise_binary, 1},
    Entry{"Max", reference::elementwise_binary, 1},
    Entry{"Min", reference::elementwise_binary, 1},
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
    Entry{"Concat", reference::concat, 1, true},
    Entry{"Transpose", reference::transpose, 1, true},
    Entry{"Resize", reference::resize, 1},
    Entry{"Upsample", reference::resize, 1},
    Entry{"PRelu", reference::elementwise_binary, 2},
    Entry{"LogSoftmax", reference::softmax, 1},
    Entry{"ReduceMean", reference::reduce, 1},
    Entry{"ReduceSum", reference::reduce, 1},
    Entry{"ReduceMax", reference::reduce, 1},
    Entry{"Slice", reference::slice, 1, true},
    Entry{"Gather", reference::gather, 2, true},
    Entry{"Pad", reference::pad, 1, true},
    Entry{"Split", reference::split, 1, true},
    Entry{"Acos", reference::elementwise_unary, 1},
    Entry{"Acosh", reference::elementwise_unary, 1},
    Entry{"Asin", reference::elementwise_unary, 1},
    Entry{"Asinh", reference::elementwise_unary, 1},
    Entry{"Atan", reference::elementwise_unary, 1},
    Entry{"Atanh", reference::elementwise_unary, 1},
    Entry{"BitwiseNot", reference::elementwise_unary, 1},
    Entry{"Ceil", reference::elementwise_unary, 1},
    Entry{"Celu", reference::elementwise_unary, 1},
    Entry{"Cos", reference::elementwise_unary, 1},
    Entry{"Cosh", reference::elementwise_unary, 1},
    Entry{"Floor", reference::elementwise_unary, 1},
    Entry{"Gelu", reference::elementwise_unary, 1},
    Entry{"Mish", reference::elementwise_unary, 1},
    Entry{"Reciprocal", reference::elementwise_unary, 1},
    Entry{"Round", reference::elementwise_unary, 1},
    Entry{"Selu", reference::elementwise_unary, 1},
    Entry{"Shrink", reference::elementwise_unary, 1},
    Entry{"Sign", reference::elementwise_unary, 1},
    Entry{"Sin", reference::elementwise_unary, 1},
    Entry{"Sinh", reference::elementwise_unary, 1},
    Entry{"Softplus", reference::elementwise_unary, 1},
    Entry{"Softsign", reference::elementwise_unary, 1},
    Entry{"Tan", reference::elementwise_unary, 1},
    Entry{"ThresholdedRelu", reference::elementwise_unary, 1},
    Entry{"BitShift", reference::elementwise_binary, 2},
    Entry{"BitwiseAnd", reference::elementwise_binary, 2},
    Entry{"BitwiseOr", reference::elementwise_binary, 2},
    Entry{"BitwiseXor", reference::elementwise_binary, 2},
    Entry{"Mod", reference::elementwise_binary, 2},
    Entry{"Mean", reference::elementwise_binary, 1},
    Entry{"Equal", reference::comparison, 2},
    Entry{"Greater", reference::comparison, 2},
    Entry{"GreaterOrEqual", reference::comparison, 2},
    Entry{"Less", reference::comparison, 2},
    Entry{"LessOrEqual", reference::comparison, 2},
    Entry{"And", reference::logic, 2},
    Entry{"Or", reference::logic, 2},
    Entry{"Xor", reference::logic, 2},
    Entry{"Not", reference::logic, 1},
    Entry{"IsInf", reference::elementwise_question, 1},
    Entry{"IsNaN", reference::elementwise_question, 1},
    Entry{"Where", reference::where, 3, true},
    Entry{"Cast", reference::cast, 1, true},
    Entry{"CastLike", reference::cast, 2, true},
    Entry{"ReduceL1", reference::reduce, 1},
    Entry{"ReduceL2", reference::reduce, 1},
    Entry{"ReduceLogSum", reference::reduce, 1},
    Entry{"ReduceLogSumExp", reference::reduce, 1},
    Entry{"ReduceMin", reference::reduce, 1},
    Entry{"ReduceProd", reference::reduce, 1},
    Entry{"ReduceSumSquare", reference::reduce, 1},
    Entry{"ArgMax", reference::arg_extreme, 1},
    Entry{"ArgMin", reference::arg_extreme, 1},
    Entry{"Hardmax", reference::hardmax, 1},
    Entry{"TopK", reference::top_k, 1},
    Entry{"CumSum", reference::cumulative_sum, 2},
    Entry{"Expand", reference::expand, 1, true},
    Entry{"Tile", reference::tile, 1, true},
    Entry{"Trilu", reference::trilu, 1, true},
    Entry{"DepthToSpace", reference::depth_to_space, 1, true},
    Entry{"SpaceToDepth", reference::depth_to_space, 1, true},
    Entry{"ReverseSequence", reference::reverse_sequence, 2, true},
    Entry{"EyeLike", reference::eye_like, 1},
    Entry{"Range", reference::range, 3},
    Entry{"GatherElements", reference::gather_elements, 2, true},
    Entry{"GatherND", reference::gather_nd, 2, true},
    Entry{"Scatter", reference::scatter_elements, 3},
    Entry{"ScatterElements", reference::scatter_elements, 3},
    Entry{"ScatterND", reference::scatter_nd, 3},
    Entry{"OneHot", reference::one_hot, 3},
    Entry{"LayerNormalization", reference::layer_normalization, 2},
    Entry{"InstanceNormalization", reference::group_normalization, 3},
    Entry{"GroupNormalization", reference::group_normalization, 3},
    Entry{"NegativeLogLikelihoodLoss", reference::loss, 2},
    Entry{"SoftmaxCrossEntropyLoss", reference::loss, 2},
    Entry{"GridSample", reference::grid_sample, 2},
    Entry{"QuantizeLinear", reference::quantize, 2},
    Entry{"DequantizeLinear", reference::dequantize, 2},
    Entry{"DynamicQuantizeLinear", reference::dynamic_quantize, 1},
    Entry{"LpPool", reference::lp_pool, 1},
};

const Entry* find(const graph::Node& node) {
  for (const Entry& entry : entries)
    if (entry.op_type == node.op_type) return &entry;
  static constexpr Entry view{"a view", reference::view, 1, true};
  return graph::is_view(node) ? &view : nullptr;
}

bool is_short_float(DType dtype) { return dtype == float16 || dtype == bfloat16; }

// As floats, where they are shorter ones.
Result<> evaluate_widened(Function function, const reference::Call& call) {
  std::vector<std::vector<float>> memory;
  const auto widened = [&](const auto& view) -> Result<MutableTensorView> {
    OPSPLIT_TRY(const std::int64_t elements, view.type.shape.elements());
    memory.emplace_back(static_cast<std::size_t>(elements) + 1);  // never without an address
    return MutableTensorView{{float32, view.type.shape},
                             Layout::row_major,
                             reinterpret_cast<std::byte*>(memory.back().data())};
  };
  const auto convert = [&](const TensorView& from, const MutableTensorView& to) {
    return reference::cast({call.node, call.opset, {&from, 1}, {&to, 1}});
  };
  std::vector<TensorView> inputs(call.inputs.begin(), call.inputs.end());
  for (TensorView& input : inputs) {
    if (input.data == nullptr || !is_short_float(input.type.dtype)) continue;
    OPSPLIT_TRY(const MutableTensorView wide, widened(input));
    OPSPLIT_CHECK(convert(input, wide));
    input = {wide.type, wide.layout, wide.data};
  }
  std::vector<MutableTensorView> outputs(call.outputs.begin(), call.outputs.end());
  for (MutableTensorView& output : outputs)
    if (output.data != nullptr && is_short_float(output.type.dtype)) {
      OPSPLIT_TRY(output, widened(output));
    }
  OPSPLIT_CHECK(function({call.node, call.opset, inputs, outputs}));
  for (std::size_t i = 0; i < outputs.size(); ++i)
    if (outputs[i].data != call.outputs[i].data)
      OPSPLIT_CHECK(
          convert({outputs[i].type, outputs[i].layout, outputs[i].data}, call.outputs[i]));
  return {};
}

Result<> evaluate(const Entry& entry, const reference::Call& call) {
  bool complete = call.inputs.size() >= entry.inputs && !call.outputs.empty();
  for (std::size_t i = 0; i < entry.inputs && complete; ++i)
    complete = call.inputs[i].data != nullptr;
  if (!complete)
    return fail(ErrorCode::invalid_input, "{} needs {} inputs and an output", call.node.op_type,
                entry.inputs);
  const auto is_short = [](const auto& view) {
    return view.data != nullptr && is_short_float(view.type.dtype);
  };
  if (!entry.takes_any_type && (std::any_of(call.inputs.begin(), call.inputs.end(), is_short) ||
                                std::any_of(call.outputs.begin(), call.outputs.end(), is_short)))
    return evaluate_widened(entry.function, call);
  return entry.function(call);
}

class ReferenceKernel final : public Kernel {
 public:
  ReferenceKernel(const Entry& entry, const graph::Node& node, std::int64_t opset)
      : entry_(entry), node_(node), opset_(opset) {}

  Result<> run(std::span<const TensorView> inputs,
               std::span<const MutableTensorView> outputs) override {
    return evaluate(entry_, {node_, opset_, inputs, outputs});
  }

 private:
  const Entry& entry_;
  const graph::Node node_;  // a copy: the graph need not outlive its kernels
  const std::int64_t opset_;
};

}  // namespace

bool reference::knows(std::string_view op_type) {
  return std::ranges::any_of(entries, [&](const Entry& entry) { return entry.op_type == op_type; });
}

std::vector<std::string_view> reference::op_types() {
  std::vector<std::string_view> types;
  for (const Entry& entry : entries) types.push_back(entry.op_type);
  return types;
}

Result<> reference::evaluate(const graph::Node& node, std::int64_t opset,
                             std::span<const TensorView> inputs,
                             std::span<const MutableTensorView> outputs) {
  const Entry* entry = find(node);
  if (entry == nullptr)
    return fail(ErrorCode::invalid_input, "operation {} is not supported", node.op_type);
  return operators::evaluate(*entry, {node, opset, inputs, outputs});
}

Result<std::unique_ptr<Kernel>> make_reference(const KernelSpec& spec, const KernelResources&) {
  const Entry* entry = find(*spec.node);
  if (entry == nullptr)
    return fail(ErrorCode::invalid_input, "operation {} is not supported", spec.node->op_type);
  if (!spec.post_ops.empty())
    return fail(ErrorCode::invalid_input, "{} takes no post-ops here", spec.node->op_type);
  for (const auto* operands : {&spec.inputs, &spec.outputs})
    for (const Operand& operand : *operands)
      if (operand.layout != Layout::row_major)
        return fail(ErrorCode::invalid_input, "{} is computed on row-major tensors only",
                    spec.node->op_type);
  return std::make_unique<ReferenceKernel>(*entry, *spec.node, spec.opset);
}

}  // namespace opsplit::operators
