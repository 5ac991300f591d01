// Where in a slot each tensor of a plan lies.
#pragma once

#include "base/plan.hpp"

namespace opsplit::graph {

// Sets the offset of every tensor in each memory that it lies in, and how large a slot is there, from
// everything else in the plan.
// Largest first, each at the lowest offset that is free. Two tensors share bytes only if every task
// that uses the one, under any name, is a strict ancestor of the task that writes the other: then
// nothing that may still have to run (again) reads what was written over.
// Nothing ever shares the bytes of an input: a client may have to send them again.
// Error: the slot would be larger than 63 bits can count.
Result<> assign_places(Plan& plan);

}  // namespace opsplit::graph
