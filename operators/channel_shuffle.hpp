// Finds ShuffleNet's channel shuffle: Reshape into groups, Transpose, Reshape back.
#pragma once

#include "operators/task_graph.hpp"

namespace opsplit::operators {

// Each becomes one step of kind shuffle, which needs no row-major tensor as the three would.
void join_channel_shuffles(TaskGraph& task);

}  // namespace opsplit::operators
