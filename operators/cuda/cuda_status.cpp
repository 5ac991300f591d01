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

Result<> checked(cudnnStatus_t status, std::string_view what) {
  if (status == CUDNN_STATUS_SUCCESS) return {};
  // Those from 3000 to 3999 are kinds of CUDNN_STATUS_NOT_SUPPORTED.
  const bool unsupported = status / 1000 == CUDNN_STATUS_NOT_SUPPORTED / 1000;
  return fail(unsupported ? ErrorCode::unsupported : ErrorCode::system, "{}: {}", what,
              cudnnGetErrorString(status));
}

Result<> checked(cublasStatus_t status, std::string_view what) {
  if (status == CUBLAS_STATUS_SUCCESS) return {};
  return fail(ErrorCode::system, "{}: {}", what, cublasGetStatusString(status));
}

}  // namespace opsplit::operators::cuda
