#include "ipc/device_broker_program.hpp"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>

#include "ipc/device_broker.hpp"
#include "ipc/message_server.hpp"

namespace opsplit::ipc {
namespace {

Result<> serve(const OpenDevice& open, const std::string& socket, const std::string& device,
               const ArenaId& id, const DeviceArenaShape& shape) {
  const FileDescriptor end = catch_end_signals();
  OPSPLIT_TRY(const auto driver, open(device));
  OPSPLIT_TRY(const auto broker, DeviceBroker::start(*driver, socket, id, shape));
  spdlog::info("ready: {} slots of {} bytes for {}, epoch {}, on {}", shape.depth, shape.slot_bytes,
               id.deployment, id.epoch, to_string(driver->uuid()));
  OPSPLIT_CHECK(broker->run(end));
  spdlog::info("ended");
  return {};
}

}  // namespace

int device_broker_program(int argc, char** argv, const OpenDevice& open) {
  spdlog::set_default_logger(spdlog::stderr_logger_mt("device-broker"));
  spdlog::set_pattern("%Y-%m-%d %H:%M:%S.%e device-broker[%P] %l: %v");
  CLI::App app("opsplit-device-broker: owns the memory of an opsplit deployment on one GPU.");
  std::string socket, device;
  ArenaId id;
  DeviceArenaShape shape;
  app.add_option("--socket", socket, "where it listens; the folder belongs to this user alone")
      ->required();
  app.add_option("--device", device, "the GPU, by number or UUID (`opsplit doctor` lists them)")
      ->required();
  app.add_option("--deployment", id.deployment, "whose arena")->required();
  app.add_option("--epoch", id.epoch, "of which epoch")->required();
  app.add_option("--slot-bytes", shape.slot_bytes, "of each slot; a multiple of 64")
      ->required()
      ->transform(CLI::AsSizeValue(false));
  app.add_option("--depth", shape.depth, "how many slots")->required();
  app.set_version_flag("--version", OPSPLIT_VERSION);
  CLI11_PARSE(app, argc, argv);
  const auto ended = serve(open, socket, device, id, shape);
  if (ended) return 0;
  spdlog::error("{}", ended.error().message);
  return 1;
}

}  // namespace opsplit::ipc
