// Graphviz's program `dot`, which lays graphs out.
#pragma once

#include <string>

#include "base/error.hpp"

namespace opsplit::daemon::cli {

// The picture of a graph in the dot language, as SVG. Errors: dot is not installed (what to do), or
// it failed (its exit code and first words).
Result<std::string> render_svg(const std::string& graph);

}  // namespace opsplit::daemon::cli
