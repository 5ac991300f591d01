#include "graph/onnx_tensor.hpp"

#include <onnx/onnx_pb.h>

#include <bit>
#include <charconv>
#include <cstring>

#include "graph/onnx_types.hpp"

namespace opsplit::graph {
namespace {

static_assert(std::endian::native == std::endian::little, "raw tensor data is little endian");

// Of an entry of external_data that is ours alone: the bytes' content_hash().
constexpr const char* hash_key = "opsplit_hash";

Result<TensorType> type_of(const onnx::TensorProto& tensor) {
  const auto dtype = dtype_from_onnx(tensor.data_type());
  if (!dtype)
    return fail(ErrorCode::unsupported, "element type {} (TensorProto.DataType) is not supported",
                tensor.data_type());
  OPSPLIT_TRY(const Shape shape,
              Shape::from({tensor.dims().data(), static_cast<std::size_t>(tensor.dims_size())}));
  return TensorType{*dtype, shape};
}

// Copies one of the typed fields, each element narrowed from what protobuf stores it in.
template <class To, class From>
Result<Constant> from_field(const TensorType& type,
                            const google::protobuf::RepeatedField<From>& field) {
  OPSPLIT_TRY(const std::int64_t elements, type.shape.elements());
  if (field.size() != elements)
    return fail(ErrorCode::invalid_input, "holds {} elements, {} needs {}", field.size(),
                to_string(type), elements);
  OPSPLIT_TRY(auto allocated, Constant::allocate(type));
  auto* out = reinterpret_cast<To*>(allocated.second);
  for (const From element : field) *out++ = static_cast<To>(element);
  return allocated.first;
}

Result<Constant> from_typed_fields(const TensorType& type, const onnx::TensorProto& tensor) {
  if (type.dtype == float32) return from_field<float>(type, tensor.float_data());
  if (type.dtype == float64) return from_field<double>(type, tensor.double_data());
  if (type.dtype == int64) return from_field<std::int64_t>(type, tensor.int64_data());
  if (type.dtype == uint64) return from_field<std::uint64_t>(type, tensor.uint64_data());
  if (type.dtype == uint32) return from_field<std::uint32_t>(type, tensor.uint64_data());
  // Everything narrower lies in int32_data, the 16-bit floats as their bits.
  switch (type.dtype.bytes()) {
    case 4:
      return from_field<std::int32_t>(type, tensor.int32_data());
    case 2:
      return from_field<std::uint16_t>(type, tensor.int32_data());
    default:
      return from_field<std::uint8_t>(type, tensor.int32_data());
  }
}

Result<Constant> copy_of(const TensorType& type, const void* data) {
  OPSPLIT_TRY(auto allocated, Constant::allocate(type));
  std::memcpy(allocated.second, data, allocated.first.bytes.size());
  return allocated.first;
}

Result<std::uint64_t> parse_size(std::string_view key, std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    return fail(ErrorCode::invalid_input, "external data: {} is not a number of bytes", key);
  return value;
}

Result<Constant> from_file(const TensorType& type, std::uint64_t bytes,
                           const onnx::TensorProto& tensor, ExternalData& external) {
  std::string location;
  std::string hash;
  std::uint64_t offset = 0;
  std::uint64_t length = bytes;
  for (const auto& entry : tensor.external_data()) {
    if (entry.key() == "location") location = entry.value();
    if (entry.key() == hash_key) hash = entry.value();
    if (entry.key() == "offset") {
      OPSPLIT_TRY(offset, parse_size("offset", entry.value()));
    }
    if (entry.key() == "length") {
      OPSPLIT_TRY(length, parse_size("length", entry.value()));
    }
  }
  OPSPLIT_TRY(const FileBytes file, external.file(location));
  if (length != bytes)
    return fail(ErrorCode::invalid_input, "external data '{}': length {}, {} needs {} bytes",
                location, length, to_string(type), bytes);
  if (bytes > file.bytes.size() || offset > file.bytes.size() - bytes)
    return fail(ErrorCode::invalid_input,
                "external data '{}': {} bytes at {} lie beyond its end at {}: cut off?", location,
                bytes, offset, file.bytes.size());
  const auto slice = file.bytes.subspan(offset, bytes);
  if (offset % type.dtype.bytes() != 0) return copy_of(type, slice.data());
  Constant constant{type, slice, file.owner};
  if (external.ours() && !hash.empty())
    constant.stored = std::make_shared<StoredBytes>(StoredBytes{location, offset, hash});
  return constant;
}

void type_to_onnx(const TensorType& type, onnx::TensorProto& tensor) {
  tensor.set_data_type(dtype_to_onnx(type.dtype));
  tensor.clear_dims();
  for (const std::int64_t dim : type.shape.dims()) tensor.add_dims(dim);
}

}  // namespace

Result<Constant> constant_from_onnx(const onnx::TensorProto& tensor, ExternalData& external) {
  OPSPLIT_TRY(const TensorType type, type_of(tensor));
  OPSPLIT_TRY(const std::uint64_t bytes, byte_size(type));
  if (tensor.has_segment())
    return fail(ErrorCode::invalid_input, "is stored in segments, which is not supported");
  if (tensor.data_location() == onnx::TensorProto::EXTERNAL)
    return from_file(type, bytes, tensor, external);
  if (!tensor.has_raw_data()) return from_typed_fields(type, tensor);
  if (tensor.raw_data().size() != bytes)
    return fail(ErrorCode::invalid_input, "holds {} bytes, {} needs {}", tensor.raw_data().size(),
                to_string(type), bytes);
  return copy_of(type, tensor.raw_data().data());
}

void constant_to_onnx(const Constant& constant, onnx::TensorProto& tensor) {
  type_to_onnx(constant.type, tensor);
  if (!constant.stored) {
    tensor.set_raw_data(constant.bytes.data(), constant.bytes.size());
    return;
  }
  tensor.set_data_location(onnx::TensorProto::EXTERNAL);
  const auto entry = [&](const char* key, const std::string& value) {
    auto* added = tensor.add_external_data();
    added->set_key(key);
    added->set_value(value);
  };
  entry("location", constant.stored->file);
  entry("offset", std::to_string(constant.stored->offset));
  entry("length", std::to_string(constant.bytes.size()));
  entry(hash_key, constant.stored->hash);
}

}  // namespace opsplit::graph
