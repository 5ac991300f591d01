#include "operators/cuda/launch.cuh"
#include "operators/cuda/pooling_body.hpp"

namespace opsplit::operators::cuda {

LaunchStatus launch(const Pool& work, CUstream_st* stream) {
  return choose(work, OnDevice(stream));
}
LaunchStatus launch(const RowReduction& work, CUstream_st* stream) {
  return choose(work, OnDevice(stream));
}

}  // namespace opsplit::operators::cuda
