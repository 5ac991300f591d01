#include "operators/cuda/cuda_status.hpp"

namespace opsplit::operators::cuda {

bool is_sticky(cudaError_t status) {
  switch (status) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorAssert:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContained:
    case cudaErrorTensorMemoryLeak:
    case cudaErrorMpsClientTerminated:
    case cudaErrorExternalDevice:
    case cudaErrorContextIsDestroyed:
    case cudaErrorDeviceUninitialized:
      return true;
    default:
      return false;
  }
}

Result<> checked(cudaError_t status, std::string_view what) {
  if (status == cudaSuccess) return {};
  return fail(
      status == cudaErrorMemoryAllocation ? ErrorCode::limit_exceeded : ErrorCode::system,
      "{}: {}{}", what, cudaGetErrorString(status),
      is_sticky(status) ? " (this process can't use the GPU any more, and has to end)" : "");
}

}  // namespace opsplit::operators::cuda
