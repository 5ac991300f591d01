#include "daemon/cli/output_file.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>

namespace opsplit::daemon::cli {
namespace {

// errno, or 0.
int write_to(const std::filesystem::path& file, std::string_view text) {
  std::ofstream stream(file, std::ios::binary | std::ios::trunc);
  stream << text;
  stream.close();
  return stream ? 0 : errno;
}

}  // namespace

Result<> write_output(const std::filesystem::path& file, std::string_view text) {
  std::error_code error;
  const auto there = std::filesystem::status(file, error);
  const bool in_place = std::filesystem::exists(there) && !std::filesystem::is_regular_file(there);
  std::filesystem::path part = file;
  if (!in_place) part += fmt::format(".{}.part", ::getpid());
  int failed = write_to(part, text);
  if (in_place) return failed == 0 ? Result<>() : fail_errno(failed, "{}", file.string());
  if (failed == 0) {
    std::filesystem::rename(part, file, error);
    failed = error.value();
  }
  if (failed == 0) return {};
  std::filesystem::remove(part, error);
  return fail_errno(failed, "{}", file.string());
}

Result<ScratchFolder> ScratchFolder::make() {
  std::string name = (std::filesystem::temp_directory_path() / "opsplit-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) return fail_errno(errno, "{}", name);
  return ScratchFolder(name);
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

}  // namespace opsplit::daemon::cli
