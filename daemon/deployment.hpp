// A deployment: a model, its split, and where and on what each operator runs. Read from a YAML file
// (docs/deployment.md is its reference, docs/deployment.schema.json its schema; a test holds the
// three together), or made up for a model that is started without a file.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "daemon/backend.hpp"
#include "daemon/cores.hpp"
#include "graph/model.hpp"
#include "graph/split.hpp"
#include "ipc/device_driver.hpp"

namespace opsplit::daemon {

struct GpuRequest {
  std::string device;  // its number in doctor's order, or its UUID: ipc::choose_device()
  std::optional<ipc::StreamPriority> priority;  // default: by cost (daemon/gpus.hpp)
  int line = 0;                                 // in the deployment file
};

struct OperatorSettings {
  std::optional<CoreRequest> cores;
  int instances = 1;                               // that claim tasks
  int standby = 0;                                 // further ones that take the place of who dies
  std::optional<std::chrono::seconds> hung_after;  // without progress on a task; default: measured
  // Others than native have row-major tensors only. One that is to be attached need not be there
  // for the deployment to be ready: requests wait for it.
  Backend backend = Backend::native;
  bool backend_given = false;     // else what opsplit has no kernels for goes to another backend
  std::optional<GpuRequest> gpu;  // native, pytorch or attach only
  int line = 0;                   // in the deployment file
};

// What is to be started: a deployment file or a model, and what a command line says against it.
struct Target {
  std::filesystem::path path = {};
  std::string split = {};                // empty: the file's
  std::string name = {};                 // empty: the file's
  std::vector<std::string> shapes = {};  // INPUT=1,3,736,736
  bool attach = false;                   // somebody else starts all operators
};

struct Deployment {
  static constexpr int max_depth = 64;
  static constexpr int max_instances = 32;
  static constexpr int max_hung_after = 86'400;  // seconds

  std::string name;  // [a-z0-9_-]{1,32}
  std::filesystem::path model;
  graph::SplitSpec split = graph::ByType{};
  graph::GivenShapes shapes;  // bounds for symbolic sizes
  int depth = 8;              // requests in flight: slots
  int slots_per_client = 8;
  Objective objective = Objective::latency;
  bool attach = false;  // somebody else starts all operators; it is ready once they have attached
  std::map<std::string, OperatorSettings, std::less<>> operators;
  // A program and its arguments that run once beside the deployment in containers; empty: none.
  std::vector<std::string> client;
  std::filesystem::path file;  // that this was read from; empty: none

  // A deployment file (.yaml, .yml) or a model (.onnx). Errors are one line, "FILE:LINE: ...", and
  // say what is allowed. The model's file must exist; whether it is a model is the importer's to say.
  static Result<Deployment> open(const std::filesystem::path& path);
  static Result<Deployment> open(const Target& target);
  // The text of a deployment file; `file` gives the folder that `model` is relative to, and the
  // name for messages. Looks at no file.
  static Result<Deployment> parse(std::string_view text, const std::filesystem::path& file);
  // All defaults, named after the model.
  static Deployment for_model(const std::filesystem::path& model);

  // What the command line says against the file. Another split than the file's has other operators,
  // so that the settings for operators go, too.
  Result<> set_split(std::string_view text);  // --split
  Result<> set_name(std::string_view text);   // --name
  Result<> set_shape(std::string_view text);  // --shape image=1,3,736,736
  // Every operator that has settings must exist in the plan.
  Result<> check_operators(std::span<const std::string> planned) const;
};

bool is_deployment_name(std::string_view name);

// Keys that the file may have at its top, and under operators.NAME. (For the test of the schema.)
std::vector<std::string> deployment_keys();
std::vector<std::string> operator_keys();

// A commented file to start from, for `opsplit init`; it parses as it is.
std::string commented_example();

}  // namespace opsplit::daemon
