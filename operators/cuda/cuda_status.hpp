// What CUDA's libraries answer, as our errors.
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

#include <string_view>

#include "base/error.hpp"

namespace opsplit::operators::cuda {

// After one of these every call of this process fails, whatever it asks for.
bool is_sticky(cudaError_t status);

// `what` is the call, or what it was for. A sticky error says that the process has to end.
Result<> checked(cudaError_t status, std::string_view what);
// Error unsupported where cuDNN says so.
Result<> checked(cudnnStatus_t status, std::string_view what);
Result<> checked(cublasStatus_t status, std::string_view what);

}  // namespace opsplit::operators::cuda
