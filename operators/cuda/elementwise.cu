#include "operators/cuda/elementwise_body.hpp"
#include "operators/cuda/launch.cuh"

namespace opsplit::operators::cuda {

LaunchStatus launch(const Pointwise& work, CUstream_st* stream) {
  return choose(work, OnDevice(stream));
}
LaunchStatus launch(const Cast& work, CUstream_st* stream) {
  return choose(work, OnDevice(stream));
}
LaunchStatus launch(const Normalization& work, CUstream_st* stream) {
  return choose(work, OnDevice(stream));
}

}  // namespace opsplit::operators::cuda
