// Which of several kernels that compute the same is the fastest: by measurement, since no rule knows
// every CPU.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "operators/kernels/kernel_spec.hpp"

namespace opsplit::operators {

// Makes a candidate with the resources given, which are not those of the program.
using MakeCandidate = std::function<Result<std::unique_ptr<Kernel>>(const KernelResources&)>;

// CPU time of this thread, in nanoseconds: others that run at the same time count little.
using CpuClock = std::function<std::uint64_t()>;

// The index of the one that took the least CPU time with one thread, on tensors as the spec describes
// them, whose content is none in particular, with weights that are in no cache. A later one must be
// clearly faster than those before it. One that can't be made is none. Takes some runs of each.
std::size_t fastest(const KernelSpec& spec, std::span<const MakeCandidate> candidates,
                    const CpuClock& clock);

// The same, kept under `key` with the packed weights: asked again, also by another process, the answer
// is the same.
Result<std::size_t> kept_fastest(const std::string& key, const KernelSpec& spec,
                                 std::span<const MakeCandidate> candidates, PackedWeights& weights);

}  // namespace opsplit::operators
