// opsplit-device-broker but for the driver: owns the arena of one deployment on one GPU until SIGTERM, and then
// until nobody has it open (ipc/device_broker.hpp).
#pragma once

#include "ipc/device_driver.hpp"

namespace opsplit::ipc {

// The process's exit code; errors are one line on stderr.
int device_broker_program(int argc, char** argv, const OpenDevice& open);

}  // namespace opsplit::ipc
