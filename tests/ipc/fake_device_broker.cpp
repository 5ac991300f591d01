// opsplit-device-broker on a machine whose GPUs are host memory.
#include "ipc/device_broker_program.hpp"
#include "tests/ipc/host_device.hpp"

int main(int argc, char** argv) {
  return opsplit::ipc::device_broker_program(argc, argv, opsplit::test::open_host_device);
}
