#include "operators/cuda/gpu_operator_program.hpp"

#include "operators/cuda/cuda_kernels.hpp"
#include "operators/cuda/gpu_operator.hpp"
#include "operators/operator_main.hpp"

namespace opsplit::operators::cuda {

int gpu_operator_program(int argc, char** argv, const OpenGpu& open,
                         const CustomCudaKernels& custom) {
  OpenedGpu opened;
  const auto make = [&](const OperatorSpec& spec) -> Result<std::unique_ptr<Operator>> {
    OPSPLIT_TRY(const GpuSite site, opened.site(spec, open));
    return make_gpu_operator(spec, site, custom);
  };
  std::vector<std::string> can_run = cuda_kernel_op_types();
  for (const auto& [op_type, make_kernel] : custom)
    if (find_cuda_kernel(op_type) == nullptr) can_run.push_back(op_type);
  return operator_main(
      argc, argv, {make, std::move(can_run), /*for_threads=*/false, {.cpus = false, .gpu = true}});
}

}  // namespace opsplit::operators::cuda
