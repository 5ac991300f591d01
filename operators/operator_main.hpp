// main() of a program that runs an operator: opsplit-operator, and those made with the SDK.
#pragma once

#include "operators/host.hpp"
#include "operators/program.hpp"

namespace opsplit::operators {

// Runs the operator that the command line names with our own kernels, and the custom ones instead of
// those for the same ops, until SIGTERM, SIGINT or the end of the deployment. The process's exit code;
// errors are one line on stderr.
int operator_main(int argc, char** argv, const CustomKernels& custom);
// The same of any kind.
int operator_main(int argc, char** argv, const OperatorKind& kind);

// Runs tasks by our own kernels, and the custom ones instead of those for the same ops. `custom` outlives it.
OperatorKind kind_of(const CustomKernels& custom);

}  // namespace opsplit::operators
