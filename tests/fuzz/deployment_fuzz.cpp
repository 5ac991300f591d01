// Deployment files.
#include <string_view>

#include "daemon/deployment.hpp"

using namespace opsplit;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto deployment = daemon::Deployment::parse(text, "fuzz.yaml");
  if (!deployment && deployment.error().message.find('\n') != std::string::npos) __builtin_trap();
  return 0;
}
