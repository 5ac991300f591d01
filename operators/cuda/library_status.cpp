#include "operators/cuda/library_status.hpp"

namespace opsplit::operators::cuda {

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
