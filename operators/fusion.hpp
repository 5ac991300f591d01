// Fusion: pointwise nodes become post-ops of the node whose output they alone read.
#pragma once

#include "operators/task_graph.hpp"

namespace opsplit::operators {

void fuse(TaskGraph& task);

}  // namespace opsplit::operators
