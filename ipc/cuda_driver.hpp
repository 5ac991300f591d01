// CUDA behind the interface of ipc/device_driver.hpp. Built with or without the toolkit; a program that is
// built with it starts on any machine, and looks for the driver with the first call.
//
// Errors of both: unsupported (this build is without CUDA), unavailable (no driver, too old a driver, no
// GPU).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ipc/device_driver.hpp"

namespace opsplit::ipc {

struct CudaDevice {
  DeviceUuid uuid;
  std::string name;
  std::uint64_t total_bytes = 0;
  int compute_major = 0;
  int compute_minor = 0;
  bool unified_addressing = false;  // without it there are no handles
};

struct CudaMachine {
  std::string driver_version;       // the newest CUDA that the driver knows, "13.0"
  std::string runtime_version;      // the CUDA that this was built with
  std::vector<CudaDevice> devices;  // numbered by their places on the bus, as nvidia-smi does
  // peers[a][b]: device a can read and write device b's memory.
  std::vector<std::vector<bool>> peers;
};

// Makes no context on any device: cheap in device memory. From here on the process must not fork without
// exec.
Result<CudaMachine> cuda_machine();

// Makes this process's context on the device (some hundred MB there, and a few 100 ms). By its number in
// CudaMachine::devices, or its UUID. Error not_found: there is no such device; the message lists those that there
// are. Error unsupported, too: MPS serves it.
Result<std::unique_ptr<DeviceDriver>> open_cuda_device(std::string_view name);

}  // namespace opsplit::ipc
