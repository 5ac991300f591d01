// opsplit-operator-cuda on a machine whose GPUs are host memory and the CPU.
#include "operators/cuda/gpu_operator_program.hpp"
#include "tests/ipc/host_device.hpp"
#include "tests/operators/cuda/host_gpu.hpp"

int main(int argc, char** argv) {
  using namespace opsplit;
  using operators::cuda::testing::HostGpu;
  return operators::cuda::gpu_operator_program(
      argc, argv, {test::open_host_device, []() -> Result<std::unique_ptr<operators::cuda::Gpu>> {
                     return std::make_unique<HostGpu>();
                   }});
}
