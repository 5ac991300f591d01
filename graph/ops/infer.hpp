// The type rules, by family; which operation uses which is in registry.cpp.
#pragma once

#include "graph/ops/op.hpp"

namespace opsplit::graph::ops {

// elementwise.cpp
Result<Types> infer_same(const Site& site);          // any type, as input 0
Result<Types> infer_unary_float(const Site& site);   // as input 0, floating
Result<Types> infer_unary_number(const Site& site);  // as input 0, not bool
Result<Types> infer_broadcast(const Site& site);     // numpy's broadcasting of all inputs
Result<Types> infer_integers(const Site& site);      // the same, of integers
Result<Types> infer_comparison(const Site& site);    // the same, giving bool
Result<Types> infer_logic(const Site& site);         // the same, of bool
Result<Types> infer_question(const Site& site);      // bool, of a floating type
Result<Types> infer_where(const Site& site);
Result<Types> infer_prelu(const Site& site);
Result<Types> infer_clip(const Site& site);
Result<Types> infer_cast(const Site& site);
Result<Types> infer_cast_like(const Site& site);
Result<Types> infer_dropout(const Site& site);

// normalization.cpp
Result<Types> infer_batch_normalization(const Site& site);
Result<Types> infer_lrn(const Site& site);
Result<Types> infer_softmax(const Site& site);
Result<Types> infer_layer_normalization(const Site& site);
Result<Types> infer_group_normalization(const Site& site);  // and InstanceNormalization

// loss.cpp
Result<Types> infer_loss(const Site& site);

// quantization.cpp
Result<Types> infer_quantize(const Site& site);
Result<Types> infer_dequantize(const Site& site);
Result<Types> infer_dynamic_quantize(const Site& site);

// window.cpp
Result<Types> infer_conv(const Site& site);
Result<Types> infer_conv_transpose(const Site& site);
Result<Types> infer_pool(const Site& site);
Result<Types> infer_global_pool(const Site& site);

// matrix.cpp
Result<Types> infer_gemm(const Site& site);
Result<Types> infer_matmul(const Site& site);

// reshape.cpp: the same elements under another shape
Result<Types> infer_reshape(const Site& site);
Result<Types> infer_flatten(const Site& site);
Result<Types> infer_squeeze(const Site& site);
Result<Types> infer_unsqueeze(const Site& site);
Result<Types> infer_shape(const Site& site);
Result<Types> infer_size(const Site& site);
Result<Types> infer_constant(const Site& site);
Result<Types> infer_constant_of_shape(const Site& site);

// movement.cpp: elements picked and put elsewhere
Result<Types> infer_transpose(const Site& site);
Result<Types> infer_concat(const Site& site);
Result<Types> infer_split(const Site& site);
Result<Types> infer_slice(const Site& site);
Result<Types> infer_gather(const Site& site);
Result<Types> infer_pad(const Site& site);
Result<Types> infer_resize(const Site& site);
Result<Types> infer_grid_sample(const Site& site);

// arrangement.cpp: elements in another arrangement, by a rule that needs no indices
Result<Types> infer_expand(const Site& site);
Result<Types> infer_tile(const Site& site);
Result<Types> infer_matrices(const Site& site);  // as input 0, of rank 2 or more
Result<Types> infer_depth_to_space(const Site& site);
Result<Types> infer_space_to_depth(const Site& site);
Result<Types> infer_reverse_sequence(const Site& site);
Result<Types> infer_eye_like(const Site& site);
Result<Types> infer_range(const Site& site);

// indexing.cpp: elements picked, or put, where indices say
Result<Types> infer_gather_elements(const Site& site);
Result<Types> infer_gather_nd(const Site& site);
Result<Types> infer_scatter_elements(const Site& site);
Result<Types> infer_scatter_nd(const Site& site);
Result<Types> infer_one_hot(const Site& site);

// reduce.cpp
Result<Types> infer_reduce(const Site& site);
Result<Types> infer_arg_extreme(const Site& site);
Result<Types> infer_top_k(const Site& site);
Result<Types> infer_cumulative_sum(const Site& site);

}  // namespace opsplit::graph::ops
