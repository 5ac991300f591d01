// Files and folders that commands write.
#pragma once

#include <filesystem>
#include <string_view>
#include <utility>

#include "base/error.hpp"

namespace opsplit::daemon::cli {

// Writes the file whole, or leaves what was there; devices and pipes are written to as they are.
Result<> write_output(const std::filesystem::path& file, std::string_view text);

// A folder for a while, in /tmp: its destructor removes it.
class ScratchFolder {
 public:
  static Result<ScratchFolder> make();
  ScratchFolder(ScratchFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  ScratchFolder& operator=(ScratchFolder&&) = delete;
  ~ScratchFolder();
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  explicit ScratchFolder(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

}  // namespace opsplit::daemon::cli
