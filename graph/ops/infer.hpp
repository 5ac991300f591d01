// The type rules, by family; which operation uses which is in registry.cpp.
#pragma once

#include "graph/ops/op.hpp"

namespace opsplit::graph::ops {

// elementwise.cpp
Result<Types> infer_same(const Site& site);          // any type, as input 0
Result<Types> infer_unary_float(const Site& site);   // as input 0, floating
Result<Types> infer_unary_number(const Site& site);  // as input 0, not bool
Result<Types> infer_broadcast(const Site& site);     // numpy's broadcasting of all inputs
Result<Types> infer_prelu(const Site& site);
Result<Types> infer_clip(const Site& site);
Result<Types> infer_cast(const Site& site);
Result<Types> infer_dropout(const Site& site);

// normalization.cpp
Result<Types> infer_batch_normalization(const Site& site);
Result<Types> infer_lrn(const Site& site);
Result<Types> infer_softmax(const Site& site);

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

// reduce.cpp
Result<Types> infer_reduce(const Site& site);

}  // namespace opsplit::graph::ops
