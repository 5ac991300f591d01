#include "daemon/tensor_file.hpp"

#include <onnx/onnx_pb.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <limits>
#include <map>
#include <memory>

#include "base/system.hpp"
#include "graph/external_data.hpp"
#include "graph/onnx_tensor.hpp"

namespace opsplit::daemon {
namespace {

// No arena is larger than 4 GiB, so no tensor is; the rest is room for headers.
constexpr std::size_t max_file = (std::size_t{4} << 30) + (std::size_t{1} << 20);

Result<HostTensor> parse_onnx(std::string_view file, const std::filesystem::path& folder) {
  onnx::TensorProto message;
  if (file.size() > static_cast<std::size_t>(std::numeric_limits<int>::max()) ||
      !message.ParseFromArray(file.data(), static_cast<int>(file.size())) ||
      message.data_type() == onnx::TensorProto::UNDEFINED)
    return fail(ErrorCode::invalid_input, "is not an ONNX TensorProto, or is cut off");
  graph::ExternalData external(folder);
  OPSPLIT_TRY(const graph::Constant constant, graph::constant_from_onnx(message, external));
  HostTensor tensor{constant.type, {constant.bytes.begin(), constant.bytes.end()}};
  OPSPLIT_CHECK(check_elements(tensor));
  return tensor;
}

Result<HostTensor> parse(std::string_view file, const std::filesystem::path& path) {
  const auto bytes = std::as_bytes(std::span(file));
  if (looks_like_npy(bytes)) return parse_npy(bytes);
  if (path.extension() == ".pb") return parse_onnx(file, path.parent_path());
  return fail(ErrorCode::invalid_input,
              "is neither a .npy file nor an ONNX TensorProto whose name ends in .pb");
}

Result<> write_all(const std::filesystem::path& path, std::string_view header,
                   std::span<const std::byte> bytes) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "wbe"),
                                                             &std::fclose);
  if (!file) return fail_errno(errno, "cannot be written");
  if (std::fwrite(header.data(), 1, header.size(), file.get()) != header.size() ||
      std::fwrite(bytes.data(), 1, bytes.size(), file.get()) != bytes.size() ||
      std::fflush(file.get()) != 0)
    return fail_errno(errno, "cannot be written");
  return {};
}

std::string file_name(std::string_view tensor) {
  constexpr std::size_t longest = 200;  // of the 255 bytes that Linux allows
  std::string name(tensor.substr(0, longest));
  const auto is_unfit = [](unsigned char c) { return c == '/' || c < 0x20 || c == 0x7f; };
  std::replace_if(name.begin(), name.end(), is_unfit, '_');
  return name + ".npy";
}

}  // namespace

Result<HostTensor> read_tensor(const std::filesystem::path& path) {
  OPSPLIT_TRY(const std::string file, read_file(path, max_file));
  auto tensor = parse(file, path);
  if (!tensor) return within(path.native(), std::move(tensor).error());
  return tensor;
}

Result<> write_npy(const std::filesystem::path& path, const TensorType& type,
                   std::span<const std::byte> bytes) {
  const auto header = npy_header(type);
  if (!header) return within(path.native(), header.error());
  OPSPLIT_TRY(const std::uint64_t size, byte_size(type));
  if (size != bytes.size())
    return fail(ErrorCode::invalid_input, "{}: {} bytes to write, {} takes {}", path.native(),
                bytes.size(), to_string(type), size);
  std::filesystem::path part = path;
  part += fmt::format(".{}.part", ::getpid());
  auto written = write_all(part, *header, bytes);
  if (written && std::rename(part.c_str(), path.c_str()) != 0)
    written = fail_errno(errno, "cannot be written");
  if (written) return {};
  std::remove(part.c_str());
  return within(path.native(), std::move(written).error());
}

Result<std::vector<std::string>> output_files(std::span<const std::string> tensors) {
  std::vector<std::string> files;
  std::map<std::string, std::string> taken;
  for (const std::string& tensor : tensors) {
    files.push_back(file_name(tensor));
    const auto [other, is_new] = taken.try_emplace(files.back(), tensor);
    if (!is_new)
      return fail(ErrorCode::already_exists, "outputs '{}' and '{}' would both be written to {}",
                  other->second, tensor, files.back());
  }
  return files;
}

Result<NamedFile> parse_named_file(std::string_view text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0 || equals + 1 == text.size())
    return fail(ErrorCode::invalid_input, "'{}' is not of the form NAME=FILE, e.g. image=a.npy",
                text);
  return NamedFile{std::string(text.substr(0, equals)), text.substr(equals + 1)};
}

}  // namespace opsplit::daemon
