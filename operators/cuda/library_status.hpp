// What cuDNN and cuBLAS answer, as our errors.
#pragma once

#include <cublas_v2.h>
#include <cudnn.h>

#include <string_view>

#include "base/error.hpp"

namespace opsplit::operators::cuda {

// `what` is the call, or what it was for. Error unsupported where cuDNN says so.
Result<> checked(cudnnStatus_t status, std::string_view what);
Result<> checked(cublasStatus_t status, std::string_view what);

}  // namespace opsplit::operators::cuda
