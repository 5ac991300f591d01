// NumPy's file format, .npy: a tensor in C order, little-endian, versions 1 to 3.
// https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/tensor_type.hpp"

namespace opsplit::daemon {

// A tensor on the heap, row-major.
struct HostTensor {
  TensorType type;
  std::vector<std::byte> bytes;  // byte_size(type) of them

  friend bool operator==(const HostTensor&, const HostTensor&) = default;
};

// Refuses bools that are neither 0 nor 1: in C++ such a bool is no value at all.
Result<> check_elements(const HostTensor& tensor);

// Whether the bytes begin as every .npy does.
bool looks_like_npy(std::span<const std::byte> file);

// Takes whatever bytes there are: an error says what is wrong with them and how to save it right.
Result<HostTensor> parse_npy(std::span<const std::byte> file);

// The header that numpy.save() writes for this type; the elements follow it. An error if NumPy has
// no such type (bfloat16).
Result<std::string> npy_header(const TensorType& type);

}  // namespace opsplit::daemon
