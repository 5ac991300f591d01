// opsplit-device-broker: owns the arena of one deployment on one GPU (ipc/device_broker_program.hpp).
#include "ipc/cuda_driver.hpp"
#include "ipc/device_broker_program.hpp"

int main(int argc, char** argv) {
  return opsplit::ipc::device_broker_program(argc, argv, opsplit::ipc::open_cuda_device);
}
