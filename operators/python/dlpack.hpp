// DLPack's structures (dlpack.h), as far as tensors are handed out with them: the old ones, and those of version 1,
// which can say that a tensor is read-only.
#pragma once

#include <cstdint>

#include "base/tensor_type.hpp"

namespace opsplit::python::dlpack {

inline constexpr std::int32_t cpu = 1, cuda = 2;  // DLDeviceType

struct Device {
  std::int32_t type = cpu;
  std::int32_t id = 0;
};

struct Tensor {
  void* data = nullptr;
  Device device = {};
  std::int32_t rank = 0;
  DType dtype = {};  // laid out as a DLDataType
  std::int64_t* shape = nullptr;
  std::int64_t* strides = nullptr;  // in elements
  std::uint64_t byte_offset = 0;
};
static_assert(sizeof(DType) == 4 && sizeof(Tensor) == 48);

struct Managed {
  static constexpr const char* name = "dltensor";
  static constexpr const char* used_name = "used_dltensor";
  Tensor tensor;
  void* context = nullptr;
  void (*deleter)(Managed*) = nullptr;
};
static_assert(sizeof(Managed) == 64);

struct ManagedVersioned {
  static constexpr const char* name = "dltensor_versioned";
  static constexpr const char* used_name = "used_dltensor_versioned";
  static constexpr std::uint64_t read_only = 1;  // a flag
  std::uint32_t major = 1, minor = 0;
  void* context = nullptr;
  void (*deleter)(ManagedVersioned*) = nullptr;
  std::uint64_t flags = 0;
  Tensor tensor;
};
static_assert(sizeof(ManagedVersioned) == 80);

}  // namespace opsplit::python::dlpack
