// ipc/cuda_driver.hpp in a build without the CUDA Toolkit.
#include "ipc/cuda_driver.hpp"

namespace opsplit::ipc {
namespace {

tl::unexpected<Error> no_cuda() {
  return fail(ErrorCode::unsupported,
              "this opsplit is built without CUDA: configure it with -DOPSPLIT_CUDA=ON");
}

}  // namespace

Result<CudaMachine> cuda_machine() { return no_cuda(); }

Result<std::unique_ptr<DeviceDriver>> open_cuda_device(std::string_view) { return no_cuda(); }

}  // namespace opsplit::ipc
