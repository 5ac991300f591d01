// The vocabulary of tensors: element type, shape, layout, and how many bytes that makes.
// Element types and devices use DLPack's codes, so that a header can be handed on as a DLTensor.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace opsplit {

// dlpack.h: DLDataTypeCode.
enum class TypeCode : std::uint8_t { int_ = 0, uint = 1, float_ = 2, bfloat = 4, bool_ = 6 };

struct DType {
  TypeCode code = TypeCode::float_;
  std::uint8_t bits = 32;
  std::uint16_t lanes = 1;

  // Bytes of one element; a bool takes a whole byte.
  [[nodiscard]] constexpr std::uint64_t bytes() const { return (bits * lanes + 7u) / 8u; }
  friend constexpr bool operator==(DType, DType) = default;
};

inline constexpr DType float32{TypeCode::float_, 32, 1};
inline constexpr DType float64{TypeCode::float_, 64, 1};
inline constexpr DType float16{TypeCode::float_, 16, 1};
inline constexpr DType bfloat16{TypeCode::bfloat, 16, 1};
inline constexpr DType int8{TypeCode::int_, 8, 1};
inline constexpr DType int16{TypeCode::int_, 16, 1};
inline constexpr DType int32{TypeCode::int_, 32, 1};
inline constexpr DType int64{TypeCode::int_, 64, 1};
inline constexpr DType uint8{TypeCode::uint, 8, 1};
inline constexpr DType uint16{TypeCode::uint, 16, 1};
inline constexpr DType uint32{TypeCode::uint, 32, 1};
inline constexpr DType uint64{TypeCode::uint, 64, 1};
inline constexpr DType bool8{TypeCode::bool_, 8, 1};

// "float32", "int64", "bool"; an unknown type reads "code/bits/lanes".
std::string to_string(DType dtype);
std::optional<DType> dtype_from_string(std::string_view name);

// Up to 8 dimensions, held in place. A dimension is >= 0 once a plan exists.
class Shape {
 public:
  static constexpr std::size_t max_rank = 8;

  constexpr Shape() = default;
  // Precondition: at most max_rank dimensions (use from() for anything that was read).
  Shape(std::initializer_list<std::int64_t> dims);
  static Result<Shape> from(std::span<const std::int64_t> dims);

  [[nodiscard]] std::size_t rank() const { return rank_; }
  [[nodiscard]] std::span<const std::int64_t> dims() const { return {dims_.data(), rank_}; }
  std::int64_t& operator[](std::size_t axis) { return dims_[axis]; }
  std::int64_t operator[](std::size_t axis) const { return dims_[axis]; }
  [[nodiscard]] auto begin() const { return dims_.begin(); }
  [[nodiscard]] auto end() const { return dims_.begin() + rank_; }

  // Number of elements (1 for a scalar), or an error if a dimension is negative or the product
  // does not fit into 63 bits.
  [[nodiscard]] Result<std::int64_t> elements() const;

  friend bool operator==(const Shape&, const Shape&) = default;

 private:
  std::array<std::int64_t, max_rank> dims_{};  // beyond rank_: 0, so that == may compare all
  std::uint8_t rank_ = 0;
};

std::string to_string(const Shape& shape);  // "1x3x224x224", a scalar is "scalar"

// Whether it has the rank of `bound`, and no size is negative or larger than there.
bool fits(const Shape& shape, const Shape& bound);

// How the elements of a tensor lie. A closed set: a place can only hold one of these.
// The blocked ones are oneDNN's: channels in groups of 8 or 16, the last group padded with zeros.
enum class Layout : std::uint8_t { row_major = 0, nhwc = 1, nChw8c = 2, nChw16c = 3 };
inline constexpr std::uint8_t layout_count = 4;

std::string_view to_string(Layout layout);
std::optional<Layout> layout_from_string(std::string_view name);

struct TensorType {
  DType dtype;
  Shape shape;
  friend bool operator==(const TensorType&, const TensorType&) = default;
};

std::string to_string(const TensorType& type);  // "float32 1x3x224x224"

// Bytes that a tensor of this type takes in this layout, padding included. An error if a dimension
// is negative, the layout does not fit the rank (all but row_major need 4), or the size overflows.
Result<std::uint64_t> byte_size(const TensorType& type, Layout layout = Layout::row_major);

}  // namespace opsplit
