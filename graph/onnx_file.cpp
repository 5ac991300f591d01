#include "graph/onnx_file.hpp"

#include <fcntl.h>
#include <onnx/onnx_pb.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdint>
#include <fstream>
#include <map>

#include "graph/external_data.hpp"

namespace opsplit::graph {
namespace {

using google::protobuf::io::CodedInputStream;

constexpr int varint = 0;
constexpr int length_delimited = 2;

// The fields of a ModelProto, and their wire types: by them a model that was cut off is told from
// a file that never was one.
const std::map<int, int> model_fields{
    {1, varint},             // ir_version
    {2, length_delimited},   // producer_name
    {3, length_delimited},   // producer_version
    {4, length_delimited},   // domain
    {5, varint},             // model_version
    {6, length_delimited},   // doc_string
    {7, length_delimited},   // graph
    {8, length_delimited},   // opset_import
    {14, length_delimited},  // metadata_props
    {20, length_delimited},  // training_info
    {25, length_delimited},  // functions
};

tl::unexpected<Error> not_onnx() { return fail(ErrorCode::invalid_input, "not an ONNX model"); }

// Why protobuf could not parse these bytes.
tl::unexpected<Error> diagnose(const std::uint8_t* bytes, int size) {
  CodedInputStream stream(bytes, size);
  bool known = false;  // at least one field was whole and looked like a model's
  while (const std::uint32_t tag = stream.ReadTag()) {
    const auto field = model_fields.find(static_cast<int>(tag >> 3));
    if (field == model_fields.end() || static_cast<int>(tag & 7) != field->second)
      return known ? fail(ErrorCode::invalid_input, "damaged: not readable from byte {} on",
                          stream.CurrentPosition())
                   : not_onnx();
    std::uint64_t value = 0;
    if (!stream.ReadVarint64(&value)) return fail(ErrorCode::invalid_input, "cut off");
    if (field->second == length_delimited) {
      const auto rest = static_cast<std::uint64_t>(size - stream.CurrentPosition());
      if (value > rest && (known || field->first == 7))
        return fail(ErrorCode::invalid_input, "cut off: {} bytes are missing at its end",
                    value - rest);
      if (value > rest) return not_onnx();
      stream.Skip(static_cast<int>(value));
    }
    known = true;
  }
  return known ? fail(ErrorCode::invalid_input, "damaged: its graph is not readable") : not_onnx();
}

}  // namespace

Result<> read_onnx(const std::filesystem::path& file, onnx::ModelProto& model) {
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0 && errno == ENOENT) return fail(ErrorCode::not_found, "no such file");
  if (fd < 0) return fail_errno(errno, "cannot open");
  const auto content = read_whole(fd);
  ::close(fd);
  if (!content) return tl::unexpected(content.error());
  if (content->bytes.empty()) return fail(ErrorCode::invalid_input, "empty: not an ONNX model");
  if (content->bytes.size() > INT_MAX)
    return fail(ErrorCode::limit_exceeded,
                "{} bytes: protobuf reads at most 2 GiB; keep the weights in a file beside the "
                "model (ONNX external data)",
                content->bytes.size());
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(content->bytes.data());
  const int size = static_cast<int>(content->bytes.size());
  CodedInputStream stream(bytes, size);
  if (!model.ParseFromCodedStream(&stream) || !stream.ConsumedEntireMessage())
    return diagnose(bytes, size);
  // A file that ends between two fields parses.
  if (!model.has_graph())
    return model.has_ir_version() || model.opset_import_size() > 0
               ? fail(ErrorCode::invalid_input, "has no graph: cut off?")
               : not_onnx();
  if (model.opset_import_size() == 0)
    return fail(ErrorCode::invalid_input, "names no operator set (opset_import): cut off?");
  return {};
}

Result<> write_onnx(const onnx::ModelProto& model, const std::filesystem::path& file) {
  std::ofstream stream(file, std::ios::binary | std::ios::trunc);
  if (!stream) return fail_errno(errno, "cannot write '{}'", file.string());
  if (!model.SerializeToOstream(&stream) && stream)
    return fail(ErrorCode::limit_exceeded, "'{}': too large for one protobuf message (2 GiB)",
                file.string());
  stream.close();
  if (!stream) return fail_errno(errno, "writing '{}'", file.string());
  return {};
}

}  // namespace opsplit::graph
