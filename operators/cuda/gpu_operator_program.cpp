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
  OPSPLIT_TRY(opened.driver, open.driver(to_string(attachment.gpu->uuid)));
  OPSPLIT_TRY(opened.gpu, open.gpu());
  opened.constants = std::make_unique<DeviceConstants>(*opened.gpu);
  const auto shape =
      ipc::shape_of(spec.plan, static_cast<std::size_t>(spec.op.gpu), attachment.depth);
  const Deadline deadline = Clock::now() + broker_timeout;
  OPSPLIT_TRY(opened.arena,
              ipc::DeviceArena::attach(*opened.driver, attachment.gpu->broker,
                                       {attachment.deployment, attachment.epoch}, shape, deadline));
  // A handle that opens need not lead anywhere: better said before this instance is ready than by its first request.
  if (const auto tried = opened.arena->try_reading(deadline); !tried)
    return within(
        fmt::format(
            "operator '{}' cannot read the memory that the device broker shares with it (in "
            "containers: all need runtime nvidia, one PID namespace and one IPC namespace)",
            spec.op.name),
        tried.error());
  return {};
}

}  // namespace

int gpu_operator_program(int argc, char** argv, const OpenGpu& open,
                         const CustomCudaKernels& custom) {
  Opened opened;
  const auto make = [&](const OperatorSpec& spec) -> Result<std::unique_ptr<Operator>> {
    if (!opened.arena) OPSPLIT_CHECK(open_all(spec, open, opened));
    return make_gpu_operator(spec,
                             {*opened.driver, *opened.gpu, *opened.arena, opened.futex,
                              *opened.constants, spec.attachment->gpu->priority},
                             custom);
  };
  std::vector<std::string> can_run = cuda_kernel_op_types();
  for (const auto& [op_type, make_kernel] : custom)
    if (find_cuda_kernel(op_type) == nullptr) can_run.push_back(op_type);
  return operator_main(argc, argv,
                       {make, std::move(can_run), /*for_threads=*/false, /*on_gpu=*/true});
}

}  // namespace opsplit::operators::cuda
