// What `doctor` says of this machine's GPUs.
#pragma once

#include <string>
#include <vector>

#include "base/error.hpp"
#include "ipc/cuda_driver.hpp"

namespace opsplit::daemon {

// Rows of a table: what, its state, and advice, which is empty where all is well. `handles`: for each
// device, whether another process can open its memory.
std::vector<std::vector<std::string>> gpu_report(const Result<ipc::CudaMachine>& machine,
                                                 const std::vector<Result<>>& handles);

}  // namespace opsplit::daemon
