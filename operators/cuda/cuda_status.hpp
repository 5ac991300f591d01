// What CUDA's runtime answers, as our errors.
#pragma once

#include <cuda_runtime_api.h>

#include <string_view>

#include "base/error.hpp"

namespace opsplit::operators::cuda {

// After one of these every call of this process fails, whatever it asks for.
bool is_sticky(cudaError_t status);

// `what` is the call, or what it was for. A sticky error says that the process has to end.
Result<> checked(cudaError_t status, std::string_view what);

}  // namespace opsplit::operators::cuda
