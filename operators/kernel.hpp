// The interface between an operator and what computes in it. A kernel gets views of its inputs and
// writes its outputs where they are to lie: in places of the arena, or in the operator's own memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/error.hpp"
#include "base/tensor_type.hpp"

namespace opsplit::operators {

// A tensor to read. Not owned; valid until the call that it was passed to returns.
struct TensorView {
  TensorType type;
  Layout layout = Layout::row_major;
  const std::byte* data = nullptr;  // 64-byte aligned; byte_size(type, layout) bytes

  template <class T>
  [[nodiscard]] const T* as() const {
    return reinterpret_cast<const T*>(data);
  }
};

// A tensor to write; never overlaps an input of the same call.
struct MutableTensorView {
  TensorType type;
  Layout layout = Layout::row_major;
  std::byte* data = nullptr;

  template <class T>
  [[nodiscard]] T* as() const {
    return reinterpret_cast<T*>(data);
  }
};

// One or more nodes, compiled for fixed types and layouts. Not thread safe: one call at a time.
class Kernel {
 public:
  Kernel() = default;
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;
  virtual ~Kernel() = default;

  // The views have the types and layouts that the kernel was made for. An error means that the
  // content of an input is unusable (an index out of range, say); outputs are then unspecified.
  virtual Result<> run(std::span<const TensorView> inputs,
                       std::span<const MutableTensorView> outputs) = 0;

  // Of the last run: inputs and outputs that it could not use where they lie. Only asked of kernels of
  // others: ours can.
  [[nodiscard]] virtual std::uint64_t bytes_copied() const { return 0; }

  // Of the last run: the sizes of an output that varies (PlannedTensor::varies), whose view has the largest
  // ones. Asked like bytes_copied().
  [[nodiscard]] virtual std::optional<Shape> output_shape(std::size_t /*output*/) const {
    return std::nullopt;
  }
};

}  // namespace opsplit::operators
