#include "base/tensor_type.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

namespace opsplit {
namespace {

constexpr std::array<std::pair<DType, std::string_view>, 13> dtype_names{{
    {float32, "float32"},
    {float64, "float64"},
    {float16, "float16"},
    {bfloat16, "bfloat16"},
    {int8, "int8"},
    {int16, "int16"},
    {int32, "int32"},
    {int64, "int64"},
    {uint8, "uint8"},
    {uint16, "uint16"},
    {uint32, "uint32"},
    {uint64, "uint64"},
    {bool8, "bool"},
}};

constexpr std::array<std::string_view, layout_count> layout_names{"row_major", "nhwc", "nChw8c",
                                                                  "nChw16c"};

}  // namespace

std::string to_string(DType dtype) {
  for (const auto& [known, name] : dtype_names)
    if (known == dtype) return std::string(name);
  return fmt::format("{}/{}/{}", static_cast<int>(dtype.code), dtype.bits, dtype.lanes);
}

std::optional<DType> dtype_from_string(std::string_view name) {
  for (const auto& [dtype, known] : dtype_names)
    if (known == name) return dtype;
  return std::nullopt;
}

Shape::Shape(std::initializer_list<std::int64_t> dims)
    : rank_(static_cast<std::uint8_t>(std::min(dims.size(), max_rank))) {
  std::copy_n(dims.begin(), rank_, dims_.begin());
}

Result<Shape> Shape::from(std::span<const std::int64_t> dims) {
  if (dims.size() > max_rank)
    return fail(ErrorCode::limit_exceeded, "a tensor of rank {}: at most {} are supported",
                dims.size(), max_rank);
  Shape shape;
  shape.rank_ = static_cast<std::uint8_t>(dims.size());
  std::copy(dims.begin(), dims.end(), shape.dims_.begin());
  return shape;
}

Result<std::int64_t> Shape::elements() const {
  std::int64_t product = 1;
  bool overflow = false;
  for (const std::int64_t dim : dims()) {
    if (dim < 0) return fail(ErrorCode::invalid_input, "shape {}: negative", to_string(*this));
    // A zero anywhere makes the product 0, but 2^62 x 4 x 0 must not overflow on the way there.
    if (dim == 0) return 0;
    overflow = overflow || __builtin_mul_overflow(product, dim, &product);
  }
  if (overflow)
    return fail(ErrorCode::limit_exceeded, "shape {}: more elements than 63 bits can count",
                to_string(*this));
  return product;
}

bool fits(const Shape& shape, const Shape& bound) {
  return shape.rank() == bound.rank() &&
         std::equal(shape.begin(), shape.end(), bound.begin(),
                    [](std::int64_t size, std::int64_t most) { return size >= 0 && size <= most; });
}

std::string to_string(const Shape& shape) {
  if (shape.rank() == 0) return "scalar";
  return fmt::format("{}", fmt::join(shape.dims(), "x"));
}

std::string_view to_string(Layout layout) {
  const auto index = static_cast<std::size_t>(layout);
  return index < layout_names.size() ? layout_names[index] : "unknown layout";
}

std::optional<Layout> layout_from_string(std::string_view name) {
  const auto found = std::find(layout_names.begin(), layout_names.end(), name);
  if (found == layout_names.end()) return std::nullopt;
  return static_cast<Layout>(found - layout_names.begin());
}

std::string to_string(const TensorType& type) {
  return to_string(type.dtype) + " " + to_string(type.shape);
}

Result<std::uint64_t> byte_size(const TensorType& type, Layout layout) {
  Shape padded = type.shape;
  if (layout != Layout::row_major) {
    if (padded.rank() != 4)
      return fail(ErrorCode::invalid_input, "layout {} needs rank 4, not {}", to_string(layout),
                  to_string(type.shape));
    const std::int64_t block = layout == Layout::nChw8c ? 8 : layout == Layout::nChw16c ? 16 : 1;
    std::int64_t channels = 0;
    if (__builtin_add_overflow(padded[1], block - 1, &channels))
      return fail(ErrorCode::limit_exceeded, "shape {}: overflows", to_string(type.shape));
    if (padded[1] >= 0) padded[1] = channels / block * block;
  }
  OPSPLIT_TRY(const std::int64_t elements, padded.elements());
  std::uint64_t bytes = 0;
  if (__builtin_mul_overflow(static_cast<std::uint64_t>(elements), type.dtype.bytes(), &bytes) ||
      bytes > static_cast<std::uint64_t>(INT64_MAX))
    return fail(ErrorCode::limit_exceeded, "{}: more bytes than 63 bits can count",
                to_string(type));
  return bytes;
}

}  // namespace opsplit
