// opsplit-device-broker but for the driver: owns the arena of one deployment on one GPU until SIGTERM, and then
// until nobody has it open (ipc/device_broker.hpp).
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "ipc/device_driver.hpp"

namespace opsplit::ipc {

// By number or UUID (choose_device()).
using OpenDevice = std::function<Result<std::unique_ptr<DeviceDriver>>(std::string_view name)>;

// The process's exit code; errors are one line on stderr.
int device_broker_program(int argc, char** argv, const OpenDevice& open);

}  // namespace opsplit::ipc
