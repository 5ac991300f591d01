// Reads and writes the protobuf of a model file.
#pragma once

#include <filesystem>

#include "base/error.hpp"

namespace onnx {
class ModelProto;
}

namespace opsplit::graph {

// Errors say whether the file is cut off or not ONNX at all; they do not name the file.
Result<> read_onnx(const std::filesystem::path& file, onnx::ModelProto& model);

Result<> write_onnx(const onnx::ModelProto& model, const std::filesystem::path& file);

}  // namespace opsplit::graph
