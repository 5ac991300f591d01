#include "operators/cuda/gpu_site.hpp"

#include <chrono>

#include "ipc/session.hpp"

namespace opsplit::operators::cuda {
namespace {

constexpr auto broker_timeout = std::chrono::seconds(10);  // it serves when opsplitd names it

}  // namespace

OpenedGpu::~OpenedGpu() {
  if (stream_) (void)driver_->destroy_stream(*stream_);
}

Result<GpuSite> OpenedGpu::site(const OperatorSpec& spec, const OpenGpu& open) {
  if (!stream_) OPSPLIT_CHECK(open_all(spec, open));
  return GpuSite{*driver_, *gpu_, *arena_, futex_, *constants_, *stream_};
}

Result<> OpenedGpu::open_all(const OperatorSpec& spec, const OpenGpu& open) {
  if (spec.attachment == nullptr || !spec.attachment->gpu || spec.op.gpu == PlannedTensor::none)
    return fail(ErrorCode::refused,
                "operator '{}' has no GPU: give it one in the deployment file (gpu: 0)",
                spec.op.name);
  const ipc::Attachment& attachment = *spec.attachment;
  OPSPLIT_TRY(driver_, open.driver(to_string(attachment.gpu->uuid)));
  OPSPLIT_TRY(gpu_, open.gpu());
  constants_ = std::make_unique<DeviceConstants>(*gpu_);
  const auto shape =
      ipc::shape_of(spec.plan, static_cast<std::size_t>(spec.op.gpu), attachment.depth);
  const Deadline deadline = Clock::now() + broker_timeout;
  OPSPLIT_TRY(arena_,
              ipc::DeviceArena::attach(*driver_, attachment.gpu->broker,
                                       {attachment.deployment, attachment.epoch}, shape, deadline));
  // A handle that opens need not lead anywhere: better said before this instance is ready than by its first request.
  if (const auto tried = arena_->try_reading(deadline); !tried)
    return within(
        fmt::format(
            "operator '{}' cannot read the memory that the device broker shares with it (in "
            "containers: all need runtime nvidia, one PID namespace and one IPC namespace)",
            spec.op.name),
        tried.error());
  OPSPLIT_TRY(stream_, driver_->create_stream(attachment.gpu->priority));
  return {};
}

}  // namespace opsplit::operators::cuda
