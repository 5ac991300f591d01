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

// The bytes of a file, as long as somebody owns them.
struct FileBytes {
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;
};

// A plain file, whole. Error: it became shorter meanwhile.
Result<FileBytes> read_whole(int fd);

// Read into memory; or mapped, which is for files that opsplitd wrote: shared with all who map them,
// and nobody cuts them off.
enum class Weights { read, mapped };

class ExternalData {
 public:
  explicit ExternalData(std::filesystem::path folder, Weights weights = Weights::read)
      : folder_(std::move(folder)), weights_(weights) {}

  // The file at `location`, relative to the folder; one copy however often it is asked for.
  // Refused: absolute paths, "..", symbolic links on the way, and what is not a plain file.
  Result<FileBytes> file(const std::string& location);
  [[nodiscard]] bool any() const { return !files_.empty(); }  // that was asked for
  // Whether what these files are said to be may be believed: opsplitd wrote them.
  [[nodiscard]] bool ours() const { return weights_ == Weights::mapped; }

 private:
  std::filesystem::path folder_;
  Weights weights_;
  std::map<std::string, FileBytes> files_;
};

}  // namespace opsplit::graph
