// ONNX's numbers for element types (TensorProto.DataType), without the protobuf headers.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <utility>

#include "base/tensor_type.hpp"

namespace opsplit::graph {

// The types that a tensor may have here: all of fixed size that DLPack has a code for.
inline constexpr std::array<std::pair<int, DType>, 13> onnx_dtypes{{
    {1, float32},
    {2, uint8},
    {3, int8},
    {4, uint16},
    {5, int16},
    {6, int32},
    {7, int64},
    {9, bool8},
    {10, float16},
    {11, float64},
    {12, uint32},
    {13, uint64},
    {16, bfloat16},
}};

constexpr std::optional<DType> dtype_from_onnx(std::int64_t number) {
  for (const auto& [known, dtype] : onnx_dtypes)
    if (known == number) return dtype;
  return std::nullopt;
}

// Precondition: one of onnx_dtypes.
constexpr int dtype_to_onnx(DType dtype) {
  for (const auto& [number, known] : onnx_dtypes)
    if (known == dtype) return number;
  return 0;
}

}  // namespace opsplit::graph
