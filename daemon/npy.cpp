#include "daemon/npy.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

namespace opsplit::daemon {
namespace {

static_assert(std::endian::native == std::endian::little, "elements are copied as they lie");

constexpr std::string_view magic = "\x93NUMPY";
constexpr std::size_t max_header = 64 * 1024;  // numpy itself stops at 10,000 by default

constexpr std::array<std::pair<std::string_view, DType>, 12> descriptors{{
    {"f4", float32},
    {"f8", float64},
    {"f2", float16},
    {"i1", int8},
    {"i2", int16},
    {"i4", int32},
    {"i8", int64},
    {"u1", uint8},
    {"u2", uint16},
    {"u4", uint32},
    {"u8", uint64},
    {"b1", bool8},
}};

Result<DType> dtype_of(std::string_view descriptor) {
  if (descriptor.starts_with('>'))
    return fail(ErrorCode::invalid_input,
                "big-endian elements ('{}'): save x.astype(x.dtype.newbyteorder('<'))", descriptor);
  if (!descriptor.empty() && std::string_view("<|=").find(descriptor[0]) != std::string_view::npos)
    for (const auto& [name, dtype] : descriptors)
      if (descriptor.substr(1) == name) return dtype;
  return fail(
      ErrorCode::invalid_input,
      "element type '{}' is not supported; there are float16/32/64, int8 to int64, uint8 to "
      "uint64, bool: save x.astype('float32')",
      descriptor);
}

// Reads the header: a Python dict of three entries, of which only the forms that NumPy writes are
// understood: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
class HeaderParser {
 public:
  explicit HeaderParser(std::string_view text) : text_(text) {}

  Result<TensorType> parse() {
    if (!accept('{')) return malformed("a dict");
    while (!accept('}')) {
      const auto key = string();
      if (!key || !accept(':')) return malformed("'key': value");
      if (*key == "descr" && !dtype_) {
        OPSPLIT_CHECK(descriptor());
      } else if (*key == "fortran_order" && !fortran_order_) {
        OPSPLIT_CHECK(fortran_order());
      } else if (*key == "shape" && !shape_) {
        OPSPLIT_CHECK(shape());
      } else {
        return malformed("descr, fortran_order and shape, each once");
      }
      if (!accept(',') && peek() != '}') return malformed("',' or '}'");
    }
    skip_space();
    if (!text_.empty()) return malformed("nothing after the dict");
    if (!dtype_ || !fortran_order_ || !shape_)
      return malformed("descr, fortran_order and shape, each once");
    if (*fortran_order_)
      return fail(ErrorCode::invalid_input, "is in Fortran order: save numpy.ascontiguousarray(x)");
    return TensorType{*dtype_, *shape_};
  }

 private:
  static tl::unexpected<Error> malformed(std::string_view expected) {
    return fail(ErrorCode::invalid_input, "its header is damaged: expected {}", expected);
  }

  void skip_space() {
    const std::size_t first = text_.find_first_not_of(" \t\r\n");
    text_.remove_prefix(std::min(first, text_.size()));
  }

  char peek() {
    skip_space();
    return text_.empty() ? '\0' : text_.front();
  }

  bool accept(char wanted) {
    if (peek() != wanted || text_.empty()) return false;
    text_.remove_prefix(1);
    return true;
  }

  bool accept_word(std::string_view word) {
    skip_space();
    if (!text_.starts_with(word)) return false;
    text_.remove_prefix(word.size());
    return true;
  }

  std::optional<std::string_view> string() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') return std::nullopt;
    const std::size_t end = text_.find(quote, 1);
    if (end == std::string_view::npos) return std::nullopt;
    const std::string_view content = text_.substr(1, end - 1);
    const auto plain = [](char c) { return c >= 0x20 && c < 0x7f && c != '\\'; };
    if (!std::all_of(content.begin(), content.end(), plain)) return std::nullopt;
    text_.remove_prefix(end + 1);
    return content;
  }

  Result<> descriptor() {
    if (peek() == '[' || peek() == '(')
      return fail(ErrorCode::invalid_input,
                  "holds records of several fields: save the fields one by one");
    const auto text = string();
    if (!text) return malformed("descr as a string");
    OPSPLIT_TRY(dtype_, dtype_of(*text));
    return {};
  }

  Result<> fortran_order() {
    if (accept_word("True"))
      fortran_order_ = true;
    else if (accept_word("False"))
      fortran_order_ = false;
    else
      return malformed("fortran_order as True or False");
    return {};
  }

  Result<> shape() {
    if (!accept('(')) return malformed("shape as a tuple of numbers");
    std::vector<std::int64_t> dims;
    while (!accept(')')) {
      std::int64_t dim = 0;
      if (peek() < '0' || peek() > '9') return malformed("shape as a tuple of numbers");
      const auto [next, problem] = std::from_chars(text_.data(), text_.data() + text_.size(), dim);
      if (problem != std::errc{}) return malformed("dimensions below 2^63");
      text_.remove_prefix(static_cast<std::size_t>(next - text_.data()));
      dims.push_back(dim);
      const bool comma = accept(',');
      // "(3)" is a number in Python, no tuple; NumPy refuses it, too.
      if (!comma && (peek() != ')' || dims.size() == 1)) return malformed("',' or ')' in shape");
    }
    OPSPLIT_TRY(shape_, Shape::from(dims));
    return {};
  }

  std::string_view text_;  // what is left
  std::optional<DType> dtype_;
  std::optional<bool> fortran_order_;
  std::optional<Shape> shape_;
};

}  // namespace

Result<> check_elements(const HostTensor& tensor) {
  if (tensor.type.dtype != bool8) return {};
  for (const std::byte value : tensor.bytes)
    if (value > std::byte{1})
      return fail(ErrorCode::invalid_input, "holds a bool that is {}, neither 0 nor 1",
                  static_cast<int>(value));
  return {};
}

bool looks_like_npy(std::span<const std::byte> file) {
  return file.size() >= magic.size() && std::memcmp(file.data(), magic.data(), magic.size()) == 0;
}

Result<HostTensor> parse_npy(std::span<const std::byte> file) {
  if (!looks_like_npy(file)) return fail(ErrorCode::invalid_input, "is not a .npy file");
  const auto byte_at = [file](std::size_t i) { return std::to_integer<std::size_t>(file[i]); };
  const auto cut_off = [] { return fail(ErrorCode::invalid_input, "is cut off in its header"); };
  if (file.size() < 10) return cut_off();
  const std::size_t version = byte_at(6);
  if (version < 1 || version > 3)
    return fail(ErrorCode::invalid_input, "is .npy version {}.{}; 1 to 3 are supported", version,
                byte_at(7));
  const std::size_t length_bytes = version == 1 ? 2 : 4;
  const std::size_t begin = 8 + length_bytes;
  if (file.size() < begin) return cut_off();
  std::size_t length = 0;
  for (std::size_t i = 0; i < length_bytes; ++i) length |= byte_at(8 + i) << (8 * i);
  if (length > max_header)
    return fail(ErrorCode::limit_exceeded, "has a header of {} bytes; at most {} are supported",
                length, max_header);
  if (length > file.size() - begin) return cut_off();

  const std::string_view header(reinterpret_cast<const char*>(file.data()) + begin, length);
  HostTensor tensor;
  OPSPLIT_TRY(tensor.type, HeaderParser(header).parse());
  OPSPLIT_TRY(const std::uint64_t bytes, byte_size(tensor.type));
  const auto content = file.subspan(begin + length);
  if (content.size() != bytes)
    return fail(ErrorCode::invalid_input, "{}: {} takes {} bytes, the file has {}",
                content.size() < bytes ? "is cut off" : "is too long", to_string(tensor.type),
                bytes, content.size());
  tensor.bytes.assign(content.begin(), content.end());
  OPSPLIT_CHECK(check_elements(tensor));
  return tensor;
}

Result<std::string> npy_header(const TensorType& type) {
  const auto known = std::find_if(descriptors.begin(), descriptors.end(),
                                  [&](const auto& entry) { return entry.second == type.dtype; });
  if (known == descriptors.end())
    return fail(ErrorCode::invalid_input, "NumPy has no element type {}", to_string(type.dtype));
  const auto dims = type.shape.dims();
  std::string header = fmt::format("{{'descr': '{}{}', 'fortran_order': False, 'shape': ({}{}), }}",
                                   type.dtype.bytes() == 1 ? '|' : '<', known->first,
                                   fmt::join(dims, ", "), dims.size() == 1 ? "," : "");
  // Padded so that the elements begin at a multiple of 64; at most 8 dimensions fit into version 1.
  constexpr std::size_t before = magic.size() + 4;
  header.append(63 - (before + header.size()) % 64, ' ');
  header += '\n';
  std::string file(magic);
  file += {'\x01', '\x00', static_cast<char>(header.size() & 0xff),
           static_cast<char>(header.size() >> 8)};
  return file + header;
}

}  // namespace opsplit::daemon
