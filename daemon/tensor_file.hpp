// Tensors in files, as the command line takes and gives them: .npy, and ONNX TensorProto (.pb) in.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "daemon/npy.hpp"

namespace opsplit::daemon {

// By content if that says .npy, else by the ending. Errors begin with the path.
Result<HostTensor> read_tensor(const std::filesystem::path& path);

// `bytes` are row-major, byte_size(type) of them. The file is there whole or not at all.
Result<> write_npy(const std::filesystem::path& path, const TensorType& type,
                   std::span<const std::byte> bytes);

// A file name for each tensor: its name with what no file name may hold replaced by '_', and
// ".npy". An error if two would share a file.
Result<std::vector<std::string>> output_files(std::span<const std::string> tensors);

// "image=a.npy", of an option such as --input. The first '=' counts: paths hold one more often than
// tensors' names do.
struct NamedFile {
  std::string tensor;
  std::filesystem::path file;
};
Result<NamedFile> parse_named_file(std::string_view text);

}  // namespace opsplit::daemon
