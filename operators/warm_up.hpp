// An operator's first run, before anybody waits for it.
#pragma once

#include "base/error.hpp"
#include "base/plan.hpp"
#include "operators/operator.hpp"

namespace opsplit::operators {

// Runs each task once on ones, in memory of its own, or on zeros where it fails on ones: neither is right for
// every node (a divisor must not be 0, an index must not reach beyond one element). Error: a task that can do
// neither, named, and why not on ones. Where a run loses the process (context.lost), its error, and nothing is
// run after it.
Result<> warm_up(Operator& op, const Plan& plan, const PlannedOperator& planned,
                 RunContext& context);

}  // namespace opsplit::operators
