// Where opsplitd's socket and logs are, unless somebody says otherwise.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <string>

namespace opsplit {

// In /tmp like RouDi's own files: whoever has another /tmp has another opsplitd, too.
inline std::filesystem::path default_folder() {
  return "/tmp/opsplit-" + std::to_string(::getuid());
}

}  // namespace opsplit
