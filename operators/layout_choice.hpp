// Layouts: every tensor gets one, steps that convert between them are put in where needed, views
// become other names for the same memory, and steps get their kernels.
#pragma once

#include "operators/task_graph.hpp"

namespace opsplit::operators {

// `preferred`: what images should lie in where convolutions have no objection.
Result<> choose_layouts(TaskGraph& task, Layout preferred, const KernelResources& resources);

}  // namespace opsplit::operators
