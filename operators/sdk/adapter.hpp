// What stands between the SDK's kernels and ours, on the CPU and on a GPU.
#pragma once

#include <string>

#include "base/error.hpp"
#include "operators/kernels/kernel_spec.hpp"
#include "operators/sdk/opsplit/operator.hpp"

namespace opsplit::sdk {

// The node that a kernel is to be made for. Its constants are views of the shapes in it, and of spec's bytes: it must
// stay where it is. Error: a type that the SDK does not know.
Result<Node> node_of(const operators::KernelSpec& spec);

// What the exception that is being handled says.
std::string described();

}  // namespace opsplit::sdk
