// Weights that lie beside a model, in files that the model names. The model is not trusted: no
// path that it gives leaves its folder.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "base/error.hpp"

namespace opsplit::graph {

// A file mapped read-only; unmapped with its last owner.
struct MappedFile {
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;
};

Result<MappedFile> map_file(int fd);

class ExternalData {
 public:
  explicit ExternalData(std::filesystem::path folder) : folder_(std::move(folder)) {}

  // The file at `location`, relative to the folder; mapped once however often it is asked for.
  // Refused: absolute paths, "..", symbolic links on the way, and what is not a plain file.
  Result<MappedFile> file(const std::string& location);

 private:
  std::filesystem::path folder_;
  std::map<std::string, MappedFile> mapped_;
};

}  // namespace opsplit::graph
