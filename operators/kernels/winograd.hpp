// Convolutions by Winograd's algorithm (winograd_tile.hpp says how it works): fewer multiplications
// than the direct way for 3x3 and stride 1, more memory for weights (16/9 or 4 times as much), results
// that differ in the last digits; a number that is not finite reaches the whole tile. Whether it is faster depends on the sizes; who asks has to measure.
#pragma once

#include <memory>

#include "operators/kernels/convolution.hpp"
#include "operators/kernels/kernel_spec.hpp"
#include "operators/kernels/winograd_tile.hpp"

namespace opsplit::operators {

// Squares of so many outputs on a side are computed at once.
enum class WinogradTile { two = 2, four = 4 };

// Weights must be constant, and the layouts ones that keep a vector's channels side by side. Null:
// there is no code for this CPU, and nothing is taken.
bool takes_winograd(const KernelSpec& spec, const Convolution& convolution,
                    const winograd::Code* code);

// Precondition: takes_winograd(). For as many threads as OpenMP has now.
Result<std::unique_ptr<Kernel>> make_winograd(const KernelSpec& spec,
                                              const Convolution& convolution, WinogradTile tile,
                                              const KernelResources& resources,
                                              const winograd::Code& code);

}  // namespace opsplit::operators
