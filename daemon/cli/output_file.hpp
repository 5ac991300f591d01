// Files that commands write.
#pragma once

#include <filesystem>
#include <string_view>

#include "base/error.hpp"

namespace opsplit::daemon::cli {

// Writes the file whole, or leaves what was there; devices and pipes are written to as they are.
Result<> write_output(const std::filesystem::path& file, std::string_view text);

}  // namespace opsplit::daemon::cli
