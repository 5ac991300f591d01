// Enqueues our kernels: each piece of work in the .cu file of its family. The arguments' pointers are
// the device's; of what is empty nothing is enqueued.
#pragma once

#include "operators/cuda/work.hpp"

struct CUstream_st;

namespace opsplit::operators::cuda {

// A cudaError_t, as a number: 0 is success.
using LaunchStatus = int;

LaunchStatus launch(const Pointwise& work, CUstream_st* stream);
LaunchStatus launch(const Cast& work, CUstream_st* stream);
LaunchStatus launch(const Normalization& work, CUstream_st* stream);
LaunchStatus launch(const Pool& work, CUstream_st* stream);
LaunchStatus launch(const RowReduction& work, CUstream_st* stream);
LaunchStatus launch(const SoftmaxRows& work, CUstream_st* stream);
LaunchStatus launch(const Move& work, CUstream_st* stream);
LaunchStatus launch(const Pad& work, CUstream_st* stream);

}  // namespace opsplit::operators::cuda
