#include "daemon/cli/graphviz.hpp"

#include "daemon/cli/program.hpp"

namespace opsplit::daemon::cli {

Result<std::string> render_svg(const std::string& graph) {
  auto end = run_program({"dot", "-Tsvg"}, graph);
  if (!end && end.error().code == ErrorCode::not_found)
    return fail(
        ErrorCode::not_found,
        "dot is not installed: install the Debian package graphviz, or take the text of --dot "
        "to where it is");
  if (!end) return tl::unexpected(end.error());
  if (end->exit_code == 0 && !end->out.empty()) return std::move(end->out);
  return fail(ErrorCode::system, "dot -Tsvg failed with {}: {}", end->how,
              end->err.empty() ? "it says nothing" : end->err.substr(0, end->err.find('\n')));
}

}  // namespace opsplit::daemon::cli
