// Convolutions by cuDNN.
#pragma once

#include <cudnn.h>

#include "operators/cuda/gpu.hpp"

namespace opsplit::operators::cuda {

// Chooses the algorithm and tries it once, on memory that it allocates for that time. `handle` outlives
// it. Error unsupported: cuDNN has none, or none with what is fused.
Result<std::unique_ptr<Convolver>> make_cudnn_convolver(const ConvolutionCall& call,
                                                        cudnnHandle_t handle, Gpu& gpu);

}  // namespace opsplit::operators::cuda
