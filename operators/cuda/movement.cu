#include "operators/cuda/launch.cuh"
#include "operators/cuda/movement_body.hpp"

namespace opsplit::operators::cuda {

LaunchStatus launch(const Move& work, CUstream_st* stream) {
  return choose(work, OnDevice(stream));
}
LaunchStatus launch(const Pad& work, CUstream_st* stream) { return choose(work, OnDevice(stream)); }

}  // namespace opsplit::operators::cuda
