#include "operators/cuda/launch.cuh"
#include "operators/cuda/softmax_body.hpp"

namespace opsplit::operators::cuda {

LaunchStatus launch(const SoftmaxRows& work, CUstream_st* stream) {
  return choose(work, OnDevice(stream));
}

}  // namespace opsplit::operators::cuda
