// Kernels run one after the other on the same inputs and outputs: the first writes the output, the
// others change it in place.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "operators/kernels/kernel_spec.hpp"

namespace opsplit::operators {

// For kernels that can't apply post-ops themselves: each of the spec's becomes a pass of its own
// over output 0. With none, `kernel` itself.
Result<std::unique_ptr<Kernel>> with_separate_post_ops(std::unique_ptr<Kernel> kernel,
                                                       const KernelSpec& spec,
                                                       const KernelResources& resources);

// The spec without its post-ops.
KernelSpec without_post_ops(KernelSpec spec);

}  // namespace opsplit::operators
