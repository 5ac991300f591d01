// Pointwise nodes behind a node that takes them in become its post-ops.
#pragma once

#include "operators/task_graph.hpp"

namespace opsplit::operators::cuda {

// Unlike operators/fusion.hpp, which knows what oneDNN takes, this knows what PointwisePass does.
void fuse(TaskGraph& task);

}  // namespace opsplit::operators::cuda
