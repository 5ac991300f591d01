// The operations that there are. An operation that is not here is refused when a model is read.
#include <algorithm>
#include <array>

#include "graph/ops/fold.hpp"
#include "graph/ops/infer.hpp"

namespace opsplit::graph::ops {
namespace {

// Sorted by name. Type, inputs (least, most), outputs (most), types, values.
constexpr std::array registry{
    Op{"Abs", 1, 1, 1, infer_unary_number, fold_unary},
    Op{"Add", 2, 2, 1, infer_broadcast, fold_arithmetic},
    Op{"AveragePool", 1, 1, 1, infer_pool},
    Op{"BatchNormalization", 5, 5, 1, infer_batch_normalization},
    Op{"Cast", 1, 1, 1, infer_cast, fold_cast},
    Op{"Clip", 1, 3, 1, infer_clip},
    Op{"Concat", 1, any_number, 1, infer_concat, fold_concat},
    Op{"Constant", 0, 0, 1, infer_constant, fold_constant},
    Op{"ConstantOfShape", 1, 1, 1, infer_constant_of_shape, fold_constant_of_shape},
    Op{"Conv", 2, 3, 1, infer_conv},
    Op{"ConvTranspose", 2, 3, 1, infer_conv_transpose},
    Op{"Div", 2, 2, 1, infer_broadcast, fold_arithmetic},
    Op{"Dropout", 1, 3, 1, infer_dropout, fold_view},
    Op{"Elu", 1, 1, 1, infer_unary_float},
    Op{"Erf", 1, 1, 1, infer_unary_number, fold_unary},
    Op{"Exp", 1, 1, 1, infer_unary_float, fold_unary},
    Op{"Flatten", 1, 1, 1, infer_flatten, fold_view},
    Op{"Gather", 2, 2, 1, infer_gather, fold_gather},
    Op{"Gemm", 2, 3, 1, infer_gemm},
    Op{"GlobalAveragePool", 1, 1, 1, infer_global_pool},
    Op{"GlobalMaxPool", 1, 1, 1, infer_global_pool},
    Op{"HardSigmoid", 1, 1, 1, infer_unary_float},
    Op{"HardSwish", 1, 1, 1, infer_unary_float},
    Op{"Identity", 1, 1, 1, infer_same, fold_view},
    Op{"LRN", 1, 1, 1, infer_lrn},
    Op{"LeakyRelu", 1, 1, 1, infer_unary_float},
    Op{"Log", 1, 1, 1, infer_unary_float, fold_unary},
    Op{"LogSoftmax", 1, 1, 1, infer_softmax},
    Op{"MatMul", 2, 2, 1, infer_matmul},
    Op{"Max", 1, any_number, 1, infer_broadcast, fold_arithmetic},
    Op{"MaxPool", 1, 1, 1, infer_pool},
    Op{"Min", 1, any_number, 1, infer_broadcast, fold_arithmetic},
    Op{"Mul", 2, 2, 1, infer_broadcast, fold_arithmetic},
    Op{"Neg", 1, 1, 1, infer_unary_number, fold_unary},
    Op{"PRelu", 2, 2, 1, infer_prelu},
    Op{"Pad", 1, 4, 1, infer_pad},
    Op{"Pow", 2, 2, 1, infer_broadcast, fold_arithmetic},
    Op{"ReduceMax", 1, 2, 1, infer_reduce},
    Op{"ReduceMean", 1, 2, 1, infer_reduce},
    Op{"ReduceSum", 1, 2, 1, infer_reduce},
    Op{"Relu", 1, 1, 1, infer_unary_number, fold_unary},
    Op{"Reshape", 2, 2, 1, infer_reshape, fold_view},
    Op{"Resize", 1, 4, 1, infer_resize},
    Op{"Shape", 1, 1, 1, infer_shape, fold_shape},
    Op{"Sigmoid", 1, 1, 1, infer_unary_float, fold_unary},
    Op{"Slice", 1, 5, 1, infer_slice, fold_slice},
    Op{"Softmax", 1, 1, 1, infer_softmax},
    Op{"Split", 1, 2, any_number, infer_split, fold_split},
    Op{"Sqrt", 1, 1, 1, infer_unary_float, fold_unary},
    Op{"Squeeze", 1, 2, 1, infer_squeeze, fold_view},
    Op{"Sub", 2, 2, 1, infer_broadcast, fold_arithmetic},
    Op{"Sum", 1, any_number, 1, infer_broadcast, fold_arithmetic},
    Op{"Tanh", 1, 1, 1, infer_unary_float, fold_unary},
    Op{"Transpose", 1, 1, 1, infer_transpose, fold_transpose},
    Op{"Unsqueeze", 1, 2, 1, infer_unsqueeze, fold_view},
    Op{"Upsample", 1, 2, 1, infer_resize},
};

constexpr bool by_type(const Op& a, const Op& b) { return a.type < b.type; }
static_assert(std::is_sorted(registry.begin(), registry.end(), by_type));

}  // namespace

const Op* find(std::string_view op_type) {
  const auto found =
      std::lower_bound(registry.begin(), registry.end(), Op{.type = op_type}, by_type);
  return found != registry.end() && found->type == op_type ? &*found : nullptr;
}

}  // namespace opsplit::graph::ops
