// What a command line may say against a deployment file: the same for `opsplit` and `opsplitd`.
#pragma once

#include <CLI/CLI.hpp>

#include "daemon/deployment.hpp"

namespace opsplit::daemon {

inline void add_split_option(CLI::App& command, Target& target) {
  command.add_option("--split", target.split,
                     "fused, by-type, per-node or stages:N (instead of the file's)");
}

inline void add_name_and_shapes(CLI::App& command, Target& target) {
  command.add_option("--name", target.name, "Name of the deployment (default: the file's)");
  command
      .add_option("--shape", target.shapes,
                  "Shape of an input that the model leaves open, or the largest one of an output")
      ->type_name("TENSOR=1,3,736,736");
}

}  // namespace opsplit::daemon
