// The operations that there are. An operation that is not here is refused when a model is read.
#include <algorithm>
#include <array>

#include "graph/ops/fold.hpp"
#include "graph/ops/infer.hpp"

namespace opsplit::graph::ops {
namespace {

// What there are kernels for, where that is less than what ONNX allows.
constexpr bool float32_only(DType dtype) { return dtype == float32; }
constexpr bool floats(DType dtype) {
  return dtype.code == TypeCode::float_ || dtype.code == TypeCode::bfloat;
}
constexpr bool unsigned_integers(DType dtype) { return dtype.code == TypeCode::uint; }
constexpr bool floats_and_bytes(DType dtype) {
  return floats(dtype) || dtype == int8 || dtype == uint8;
}
constexpr bool floats_and_wide_integers(DType dtype) {
  return floats(dtype) || (dtype != bool8 && dtype.bits >= 32);
}

// Sorted by name. Type, inputs (least, most), outputs (most), types, values, whether all outputs must be there, the
// element types of kernels.
constexpr std::array registry{
    Op{"Abs", 1, 1, 1, infer_unary_number, fold_unary},
    Op{"Acos", 1, 1, 1, infer_unary_float},
    Op{"Acosh", 1, 1, 1, infer_unary_float},
    Op{"Add", 2, 2, 1, infer_broadcast, fold_arithmetic},
    Op{"And", 2, 2, 1, infer_logic},
    Op{"ArgMax", 1, 1, 1, infer_arg_extreme},
    Op{"ArgMin", 1, 1, 1, infer_arg_extreme},
    Op{"Asin", 1, 1, 1, infer_unary_float},
    Op{"Asinh", 1, 1, 1, infer_unary_float},
    Op{"Atan", 1, 1, 1, infer_unary_float},
    Op{"Atanh", 1, 1, 1, infer_unary_float},
    Op{"AveragePool", 1, 1, 1, infer_pool, nullptr, false, floats},
    Op{"BatchNormalization", 5, 5, 1, infer_batch_normalization},
    Op{"BitShift", 2, 2, 1, infer_integers, nullptr, false, unsigned_integers},
    Op{"BitwiseAnd", 2, 2, 1, infer_integers},
    Op{"BitwiseNot", 1, 1, 1, infer_integers},
    Op{"BitwiseOr", 2, 2, 1, infer_integers},
    Op{"BitwiseXor", 2, 2, 1, infer_integers},
    Op{"Cast", 1, 1, 1, infer_cast, fold_cast},
    Op{"CastLike", 2, 2, 1, infer_cast_like, fold_cast},
    Op{"Ceil", 1, 1, 1, infer_unary_float},
    Op{"Celu", 1, 1, 1, infer_unary_float},
    Op{"Clip", 1, 3, 1, infer_clip},
    Op{"Concat", 1, any_number, 1, infer_concat, fold_concat},
    Op{"Constant", 0, 0, 1, infer_constant, fold_constant},
    Op{"ConstantOfShape", 1, 1, 1, infer_constant_of_shape, fold_constant_of_shape},
    Op{"Conv", 2, 3, 1, infer_conv, nullptr, false, float32_only},
    Op{"ConvTranspose", 2, 3, 1, infer_conv_transpose, nullptr, false, float32_only},
    Op{"Cos", 1, 1, 1, infer_unary_float},
    Op{"Cosh", 1, 1, 1, infer_unary_float},
    Op{"CumSum", 2, 2, 1, infer_cumulative_sum},
    Op{"DepthToSpace", 1, 1, 1, infer_depth_to_space},
    Op{"DequantizeLinear", 2, 3, 1, infer_dequantize},
    Op{"Div", 2, 2, 1, infer_broadcast, fold_arithmetic},
    Op{"Dropout", 1, 3, 1, infer_dropout, fold_view},
    Op{"DynamicQuantizeLinear", 1, 1, 3, infer_dynamic_quantize, nullptr, true},
    Op{"Elu", 1, 1, 1, infer_unary_float},
    Op{"Equal", 2, 2, 1, infer_comparison, fold_comparison},
    Op{"Erf", 1, 1, 1, infer_unary_number, fold_unary, false, floats},
    Op{"Exp", 1, 1, 1, infer_unary_float, fold_unary},
    Op{"Expand", 2, 2, 1, infer_expand},
    Op{"EyeLike", 1, 1, 1, infer_eye_like},
    Op{"Flatten", 1, 1, 1, infer_flatten, fold_view},
    Op{"Floor", 1, 1, 1, infer_unary_float},
    Op{"Gather", 2, 2, 1, infer_gather, fold_gather},
    Op{"GatherElements", 2, 2, 1, infer_gather_elements},
    Op{"GatherND", 2, 2, 1, infer_gather_nd},
    Op{"Gelu", 1, 1, 1, infer_unary_float},
    Op{"Gemm", 2, 3, 1, infer_gemm, nullptr, false, floats},
    Op{"GlobalAveragePool", 1, 1, 1, infer_global_pool, nullptr, false, floats},
    Op{"GlobalMaxPool", 1, 1, 1, infer_global_pool, nullptr, false, floats},
    Op{"Greater", 2, 2, 1, infer_comparison, fold_comparison},
    Op{"GreaterOrEqual", 2, 2, 1, infer_comparison, fold_comparison},
    Op{"GridSample", 2, 2, 1, infer_grid_sample, nullptr, false, float32_only},
    Op{"GroupNormalization", 3, 3, 1, infer_group_normalization},
    Op{"HardSigmoid", 1, 1, 1, infer_unary_float},
    Op{"HardSwish", 1, 1, 1, infer_unary_float},
    Op{"Hardmax", 1, 1, 1, infer_softmax},
    Op{"Identity", 1, 1, 1, infer_same, fold_view},
    Op{"InstanceNormalization", 3, 3, 1, infer_group_normalization},
    Op{"IsInf", 1, 1, 1, infer_question},
    Op{"IsNaN", 1, 1, 1, infer_question},
    Op{"LRN", 1, 1, 1, infer_lrn},
    Op{"LayerNormalization", 2, 3, 3, infer_layer_normalization},
    Op{"LeakyRelu", 1, 1, 1, infer_unary_float},
    Op{"Less", 2, 2, 1, infer_comparison, fold_comparison},
    Op{"LessOrEqual", 2, 2, 1, infer_comparison, fold_comparison},
    Op{"Log", 1, 1, 1, infer_unary_float, fold_unary},
    Op{"LogSoftmax", 1, 1, 1, infer_softmax},
    Op{"LpPool", 1, 1, 1, infer_pool, nullptr, false, floats},
    Op{"MatMul", 2, 2, 1, infer_matmul, nullptr, false, floats_and_wide_integers},
    Op{"Max", 1, any_number, 1, infer_broadcast, fold_arithmetic},
    Op{"MaxPool", 1, 1, 1, infer_pool, nullptr, false, floats_and_bytes},
    Op{"Mean", 1, any_number, 1, infer_broadcast},
    Op{"Min", 1, any_number, 1, infer_broadcast, fold_arithmetic},
    Op{"Mish", 1, 1, 1, infer_unary_float},
    Op{"Mod", 2, 2, 1, infer_broadcast},
    Op{"Mul", 2, 2, 1, infer_broadcast, fold_arithmetic},
    Op{"Neg", 1, 1, 1, infer_unary_number, fold_unary},
    Op{"NegativeLogLikelihoodLoss", 2, 3, 1, infer_loss},
    Op{"Not", 1, 1, 1, infer_logic},
    Op{"OneHot", 3, 3, 1, infer_one_hot},
    Op{"Or", 2, 2, 1, infer_logic},
    Op{"PRelu", 2, 2, 1, infer_prelu},
    Op{"Pad", 1, 4, 1, infer_pad},
    Op{"Pow", 2, 2, 1, infer_broadcast, fold_arithmetic},
    Op{"QuantizeLinear", 2, 3, 1, infer_quantize},
    Op{"Range", 3, 3, 1, infer_range, fold_range},
    Op{"Reciprocal", 1, 1, 1, infer_unary_float},
    Op{"ReduceL1", 1, 2, 1, infer_reduce},
    Op{"ReduceL2", 1, 2, 1, infer_reduce},
    Op{"ReduceLogSum", 1, 2, 1, infer_reduce},
    Op{"ReduceLogSumExp", 1, 2, 1, infer_reduce},
    Op{"ReduceMax", 1, 2, 1, infer_reduce},
    Op{"ReduceMean", 1, 2, 1, infer_reduce},
    Op{"ReduceMin", 1, 2, 1, infer_reduce},
    Op{"ReduceProd", 1, 2, 1, infer_reduce},
    Op{"ReduceSum", 1, 2, 1, infer_reduce},
    Op{"ReduceSumSquare", 1, 2, 1, infer_reduce},
    Op{"Relu", 1, 1, 1, infer_unary_number, fold_unary},
    Op{"Reshape", 2, 2, 1, infer_reshape, fold_view},
    Op{"Resize", 1, 4, 1, infer_resize},
    Op{"ReverseSequence", 2, 2, 1, infer_reverse_sequence},
    Op{"Round", 1, 1, 1, infer_unary_float},
    Op{"Scatter", 3, 3, 1, infer_scatter_elements},
    Op{"ScatterElements", 3, 3, 1, infer_scatter_elements},
    Op{"ScatterND", 3, 3, 1, infer_scatter_nd},
    Op{"Selu", 1, 1, 1, infer_unary_float},
    Op{"Shape", 1, 1, 1, infer_shape, fold_shape},
    Op{"Shrink", 1, 1, 1, infer_unary_number},
    Op{"Sigmoid", 1, 1, 1, infer_unary_float, fold_unary},
    Op{"Sign", 1, 1, 1, infer_unary_number},
    Op{"Sin", 1, 1, 1, infer_unary_float},
    Op{"Sinh", 1, 1, 1, infer_unary_float},
    Op{"Size", 1, 1, 1, infer_size, fold_size},
    Op{"Slice", 1, 5, 1, infer_slice, fold_slice},
    Op{"Softmax", 1, 1, 1, infer_softmax},
    Op{"SoftmaxCrossEntropyLoss", 2, 3, 2, infer_loss},
    Op{"Softplus", 1, 1, 1, infer_unary_float},
    Op{"Softsign", 1, 1, 1, infer_unary_float},
    Op{"SpaceToDepth", 1, 1, 1, infer_space_to_depth},
    Op{"Split", 1, 2, any_number, infer_split, fold_split, true},
    Op{"Sqrt", 1, 1, 1, infer_unary_float, fold_unary},
    Op{"Squeeze", 1, 2, 1, infer_squeeze, fold_view},
    Op{"Sub", 2, 2, 1, infer_broadcast, fold_arithmetic},
    Op{"Sum", 1, any_number, 1, infer_broadcast, fold_arithmetic},
    Op{"Tan", 1, 1, 1, infer_unary_float},
    Op{"Tanh", 1, 1, 1, infer_unary_float, fold_unary},
    Op{"ThresholdedRelu", 1, 1, 1, infer_unary_float},
    Op{"Tile", 2, 2, 1, infer_tile},
    Op{"TopK", 1, 2, 2, infer_top_k, nullptr, true},
    Op{"Transpose", 1, 1, 1, infer_transpose, fold_transpose},
    Op{"Trilu", 1, 2, 1, infer_matrices},
    Op{"Unsqueeze", 1, 2, 1, infer_unsqueeze, fold_view},
    Op{"Upsample", 1, 2, 1, infer_resize},
    Op{"Where", 3, 3, 1, infer_where, fold_where},
    Op{"Xor", 2, 2, 1, infer_logic},
};

constexpr bool by_type(const Op& a, const Op& b) { return a.type < b.type; }
static_assert(std::is_sorted(registry.begin(), registry.end(), by_type));

}  // namespace

std::span<const Op> all() { return registry; }

const Op* find(std::string_view op_type) {
  const auto found =
      std::lower_bound(registry.begin(), registry.end(), Op{.type = op_type}, by_type);
  return found != registry.end() && found->type == op_type ? &*found : nullptr;
}

const Op* find_named(const Node& node) {
  return is_bundle(node) ? nullptr : find(named_op_type(node));
}

}  // namespace opsplit::graph::ops
