// A GPU as a process has it that runs an operator there.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "ipc/device_driver.hpp"
#include "ipc/device_memory.hpp"
#include "ipc/futex.hpp"
#include "operators/cuda/cuda_program.hpp"
#include "operators/cuda/gpu.hpp"
#include "operators/operator.hpp"

namespace opsplit::operators::cuda {

// One device, as its driver and as what computes.
struct OpenGpu {
  ipc::OpenDevice driver;
  std::function<Result<std::unique_ptr<Gpu>>()> gpu;  // after that, in the same process
};

// All of it outlives the operator.
struct GpuSite {
  ipc::DeviceDriver& driver;
  Gpu& gpu;  // the same device
  const ipc::DeviceArena& arena;
  ipc::Futex& futex;
  DeviceConstants& constants;
  ipc::DeviceStream stream;  // the operator's, on which all its work goes
};

// Opened when the operator is made, since only then its GPU is known; closed once that has gone.
class OpenedGpu {
 public:
  OpenedGpu() = default;
  OpenedGpu(const OpenedGpu&) = delete;
  OpenedGpu& operator=(const OpenedGpu&) = delete;
  ~OpenedGpu();

  // The GPU that opsplitd says; the same one the next time. Errors: the operator has none, or the process cannot
  // use it.
  Result<GpuSite> site(const OperatorSpec& spec, const OpenGpu& open);

 private:
  Result<> open_all(const OperatorSpec& spec, const OpenGpu& open);

  std::unique_ptr<ipc::DeviceDriver> driver_;
  std::unique_ptr<Gpu> gpu_;
  std::unique_ptr<DeviceConstants> constants_;
  std::optional<ipc::DeviceArena> arena_;
  ipc::SystemFutex futex_;
  std::optional<ipc::DeviceStream> stream_;  // the last that is opened
};

}  // namespace opsplit::operators::cuda
