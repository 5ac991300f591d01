// opsplit-operator-cuda: runs any operator of any split with our kernels on a GPU
// (operators/cuda/gpu_operator_program.hpp). opsplitd starts it, and says on which.
#include "ipc/cuda_driver.hpp"
#include "operators/cuda/gpu_operator_program.hpp"
#include "operators/cuda/library_gpu.hpp"

int main(int argc, char** argv) {
  using namespace opsplit;
  return operators::cuda::gpu_operator_program(argc, argv,
                                               {ipc::open_cuda_device, operators::cuda::open_gpu});
}
