// The interface of a kernel on a GPU, in the likeness of operators/kernel.hpp: it gets views of tensors
// in device memory, and only enqueues.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/error.hpp"
#include "base/tensor_type.hpp"

struct CUstream_st;

namespace opsplit::operators::cuda {

using Stream = CUstream_st*;  // CUDA's cudaStream_t

// A tensor in device memory to read: row-major, there is no other layout. Not owned; valid until what
// was enqueued with it has run.
struct DeviceView {
  TensorType type;
  const void* data = nullptr;  // null: an optional input that is absent
};

// A tensor to write; never overlaps an input of the same call.
struct MutableDeviceView {
  TensorType type;
  void* data = nullptr;
};

// One or more nodes, made for fixed types. Not thread safe, and one call's work has to end before the
// next call's begins: enqueue on one stream, or wait in between.
class CudaKernel {
 public:
  CudaKernel() = default;
  CudaKernel(const CudaKernel&) = delete;
  CudaKernel& operator=(const CudaKernel&) = delete;
  virtual ~CudaKernel() = default;

  // Device memory that a launch needs to compute in.
  [[nodiscard]] virtual std::uint64_t workspace_bytes() const { return 0; }

  // Enqueues and never waits. The views have the types that the kernel was made for; `workspace` has
  // workspace_bytes() bytes, 256-byte aligned, that nobody else uses until the work has run. Errors are
  // those of enqueueing, and whatever work before it has met: where Gpu::lost() is true then, the
  // process has to end.
  virtual Result<> launch(std::span<const DeviceView> inputs,
                          std::span<const MutableDeviceView> outputs, std::byte* workspace,
                          Stream stream) = 0;

  // Of the last launch: bytes that it had to copy since it could not compute to where they belong. Only kernels of
  // others do.
  [[nodiscard]] virtual std::uint64_t bytes_copied() const { return 0; }
};

}  // namespace opsplit::operators::cuda
