#include "operators/cuda/gpu_operator_program.hpp"

#include <chrono>
#include <optional>

#include "ipc/session.hpp"
#include "operators/cuda/cuda_kernels.hpp"
#include "operators/cuda/gpu_operator.hpp"
#include "operators/operator_main.hpp"

namespace opsplit::operators::cuda {
namespace {

constexpr auto broker_timeout = std::chrono::seconds(10);  // it serves when opsplitd names it

// All that this process has of its GPU.
struct Opened {
  std::unique_ptr<ipc::DeviceDriver> driver;
  std::unique_ptr<Gpu> gpu;
  std::unique_ptr<DeviceConstants> constants;
  std::optional<ipc::DeviceArena> arena;
  ipc::SystemFutex futex;
};

Result<> open_all(const OperatorSpec& spec, const OpenGpu& open, Opened& opened) {
  if (spec.attachment == nullptr || !spec.attachment->gpu || spec.op.gpu == PlannedTensor::none)
    return fail(ErrorCode::refused,
                "operator '{}' has no GPU: give it one in the deployment file (gpu: 0)",
                spec.op.name);
  const ipc::Attachment& attachment = *spec.attachment;
  OPSPLIT_TRY(opened.driver, open.driver(attachment.gpu->uuid));
  OPSPLIT_TRY(opened.gpu, open.gpu());
  opened.constants = std::make_unique<DeviceConstants>(*opened.gpu);
  const auto shape =
      ipc::shape_of(spec.plan, static_cast<std::size_t>(spec.op.gpu), attachment.depth);
  OPSPLIT_TRY(opened.arena, ipc::DeviceArena::attach(*opened.driver, attachment.gpu->broker,
                                                     {attachment.deployment, attachment.epoch},
                                                     shape, Clock::now() + broker_timeout));
  return {};
}

}  // namespace

int gpu_operator_program(int argc, char** argv, const OpenGpu& open) {
  Opened opened;
  const auto make = [&opened,
                     &open](const OperatorSpec& spec) -> Result<std::unique_ptr<Operator>> {
    if (!opened.arena) OPSPLIT_CHECK(open_all(spec, open, opened));
    return make_gpu_operator(spec, {*opened.driver, *opened.gpu, *opened.arena, opened.futex,
                                    *opened.constants, spec.attachment->gpu->priority});
  };
  return operator_main(argc, argv,
                       {make, cuda_kernel_op_types(), /*for_threads=*/false, /*on_gpu=*/true});
}

}  // namespace opsplit::operators::cuda
