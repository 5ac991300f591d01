// opsplit-device-broker: owns the arena of one deployment on one GPU (ipc/device_broker.hpp). SIGTERM ends
// it as soon as nobody has the arena open.
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>

#include "ipc/cuda_driver.hpp"
#include "ipc/device_broker.hpp"
#include "ipc/message_server.hpp"

namespace opsplit::ipc {
namespace {

Result<> device_broker_main(const std::string& socket, const std::string& device, const ArenaId& id,
                            const DeviceArenaShape& shape) {
  const FileDescriptor end = catch_end_signals();
  OPSPLIT_TRY(const DeviceUuid uuid, parse_device_uuid(device));
  OPSPLIT_TRY(const auto driver, open_cuda_device(uuid));
  OPSPLIT_TRY(const auto broker, DeviceBroker::start(*driver, socket, id, shape));
  spdlog::info("ready: {} slots of {} bytes for {}, epoch {}, on {}", shape.depth, shape.slot_bytes,
               id.deployment, id.epoch, device);
  OPSPLIT_CHECK(broker->run(end));
  spdlog::info("ended");
  return {};
}

}  // namespace
}  // namespace opsplit::ipc

int main(int argc, char** argv) {
  spdlog::set_default_logger(spdlog::stderr_logger_mt("device-broker"));
  spdlog::set_pattern("%Y-%m-%d %H:%M:%S.%e device-broker[%P] %l: %v");
  CLI::App app("opsplit-device-broker: owns the memory of an opsplit deployment on one GPU.");
  std::string socket, device;
  opsplit::ipc::ArenaId id;
  opsplit::ipc::DeviceArenaShape shape;
  app.add_option("--socket", socket, "where it listens; the folder belongs to this user alone")
      ->required();
  app.add_option("--device", device, "the GPU, by UUID (`opsplit doctor` lists them)")->required();
  app.add_option("--deployment", id.deployment, "whose arena")->required();
  app.add_option("--epoch", id.epoch, "of which epoch")->required();
  app.add_option("--slot-bytes", shape.slot_bytes, "of each slot; a multiple of 64")
      ->required()
      ->transform(CLI::AsSizeValue(false));
  app.add_option("--depth", shape.depth, "how many slots")->required();
  app.set_version_flag("--version", OPSPLIT_VERSION);
  CLI11_PARSE(app, argc, argv);
  const auto ended = opsplit::ipc::device_broker_main(socket, device, id, shape);
  if (ended) return 0;
  spdlog::error("{}", ended.error().message);
  return 1;
}
