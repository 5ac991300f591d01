// What operations between constants compute; which operation uses which is in registry.cpp.
// Output types come from the type rules, so that sizes are known to match and to fit into memory.
#pragma once

#include "graph/ops/op.hpp"

namespace opsplit::graph::ops {

// fold_movement.cpp: any element type
Result<Constants> fold_view(const Site& site, const Types& outputs);   // no copy
Result<Constants> fold_shape(const Site& site, const Types& outputs);  // needs no constant input
Result<Constants> fold_size(const Site& site, const Types& outputs);   // nor does this
Result<Constants> fold_where(const Site& site, const Types& outputs);
Result<Constants> fold_constant(const Site& site, const Types& outputs);
Result<Constants> fold_constant_of_shape(const Site& site, const Types& outputs);
Result<Constants> fold_transpose(const Site& site, const Types& outputs);
Result<Constants> fold_concat(const Site& site, const Types& outputs);
Result<Constants> fold_split(const Site& site, const Types& outputs);
Result<Constants> fold_slice(const Site& site, const Types& outputs);
Result<Constants> fold_gather(const Site& site, const Types& outputs);

// fold_arithmetic.cpp: float32, float64, int32, int64; of other types nothing (error unsupported)
Result<Constants> fold_unary(const Site& site, const Types& outputs);
Result<Constants> fold_arithmetic(const Site& site, const Types& outputs);
Result<Constants> fold_comparison(const Site& site, const Types& outputs);  // of bool, too
Result<Constants> fold_range(const Site& site, const Types& outputs);
Result<Constants> fold_cast(const Site& site, const Types& outputs);  // any type

}  // namespace opsplit::graph::ops
