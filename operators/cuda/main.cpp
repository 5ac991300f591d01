// opsplit-operator-cuda: runs any operator of any split with our kernels on a GPU. opsplitd starts it, and
// says on which.
#include <chrono>
#include <memory>
#include <optional>
#include <thread>

#include "ipc/cuda_driver.hpp"
#include "ipc/session.hpp"
#include "operators/cuda/cuda_gpu.hpp"
#include "operators/cuda/cuda_kernels.hpp"
#include "operators/cuda/gpu_operator.hpp"
#include "operators/operator_main.hpp"

namespace opsplit::operators::cuda {
namespace {

constexpr auto look_again = std::chrono::milliseconds(20);
constexpr auto broker_timeout = std::chrono::seconds(30);  // it makes a context and allocates

// All that this process has of its GPU.
struct Opened {
  std::unique_ptr<ipc::DeviceDriver> driver;
  std::unique_ptr<Gpu> gpu;
  std::unique_ptr<DeviceConstants> constants;
  std::optional<ipc::DeviceArena> arena;
  ipc::SystemFutex futex;
};

Result<> open(const OperatorSpec& spec, Opened& opened) {
  if (spec.attachment == nullptr || !spec.attachment->gpu || spec.op.gpu == PlannedTensor::none)
    return fail(ErrorCode::refused,
                "operator '{}' has no GPU: give it one in the deployment file (gpu: 0)",
                spec.op.name);
  const ipc::Attachment& attachment = *spec.attachment;
  OPSPLIT_TRY(opened.driver, ipc::open_cuda_device(attachment.gpu->uuid));
  OPSPLIT_TRY(opened.gpu, open_gpu());
  opened.constants = std::make_unique<DeviceConstants>(*opened.gpu);
  const std::uint64_t slot_bytes = spec.plan.gpu_slot_bytes[static_cast<std::size_t>(spec.op.gpu)];
  const Deadline deadline = Clock::now() + broker_timeout;
  const auto attach = [&] {
    return ipc::DeviceArena::attach(*opened.driver, attachment.gpu->broker,
                                    {attachment.deployment, attachment.epoch},
                                    {slot_bytes, attachment.depth}, deadline);
  };
  auto arena = attach();
  for (; !arena && arena.error().code == ErrorCode::unavailable && Clock::now() < deadline;
       arena = attach())
    std::this_thread::sleep_for(look_again);  // it does not listen yet
  OPSPLIT_TRY(opened.arena, std::move(arena));
  return {};
}

}  // namespace
}  // namespace opsplit::operators::cuda

int main(int argc, char** argv) {
  using namespace opsplit::operators;
  cuda::Opened opened;
  const auto make =
      [&opened](const OperatorSpec& spec) -> opsplit::Result<std::unique_ptr<Operator>> {
    if (!opened.arena) OPSPLIT_CHECK(cuda::open(spec, opened));
    return cuda::make_gpu_operator(spec, {*opened.driver, *opened.gpu, *opened.arena, opened.futex,
                                          *opened.constants, spec.attachment->gpu->priority});
  };
  return operator_main(argc, argv, OperatorKind{make, cuda::cuda_kernel_op_types(), false});
}
