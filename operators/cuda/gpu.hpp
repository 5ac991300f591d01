// A GPU as our kernels and programs use it: memory, our own kernels' work, and the two operations that
// NVIDIA's libraries compute. Behind an interface, so that whatever is built on it is tested without a
// GPU, on the bodies of our kernels and on plain loops; library_gpu.hpp is the real one.
//
// Not thread safe. Pointers are the device's: nothing on the host may follow them.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "operators/cuda/cuda_kernel.hpp"
#include "operators/cuda/work.hpp"

namespace opsplit::operators::cuda {

// A convolution as cuDNN takes it: padded alike on both sides of an axis. All tensors are row-major, of
// one element type; what is fused with it comes in this order.
struct ConvolutionCall {
  Element element = {};
  Shape x, w, y;  // with batch and channels; two spatial axes, or three
  std::vector<std::int64_t> pads, strides, dilations;
  std::int64_t groups = 1;
  bool has_bias = false;    // of one number per channel
  bool has_addend = false;  // a tensor of y's shape
  bool relu = false;

  [[nodiscard]] bool is_fused() const { return has_bias || has_addend || relu; }
};

struct ConvolutionPointers {
  const void *x = nullptr, *w = nullptr, *bias = nullptr, *addend = nullptr;
  void* y = nullptr;
};

class Convolver {
 public:
  virtual ~Convolver() = default;
  [[nodiscard]] virtual std::uint64_t workspace_bytes() const = 0;
  virtual Result<> launch(const ConvolutionPointers& pointers, std::byte* workspace,
                          Stream stream) = 0;
};

// y = alpha a b, `batch` times, with so many elements from one matrix to the next; a stride of 0 is the
// same matrix again. Each is row-major: rows x inner, inner x columns, or, transposed, the other way
// round.
struct MatrixProduct {
  Element element = {};
  std::int64_t rows = 0, inner = 0, columns = 0;
  bool transpose_a = false, transpose_b = false;
  float alpha = 1;
  std::int64_t batch = 1;
  std::int64_t a_stride = 0, b_stride = 0, y_stride = 0;
};

class Gpu {
 public:
  virtual ~Gpu() = default;

  // 256-byte aligned, not zeroed; null for 0 bytes. Freed with its last owner, who has seen to it that
  // nothing enqueued uses it any more. Error limit_exceeded: that much is not free.
  virtual Result<std::shared_ptr<std::byte>> allocate(std::uint64_t bytes) = 0;
  // The bytes are there when it returns. Not for the way of a request.
  virtual Result<> upload(std::byte* to, std::span<const std::byte> from) = 0;

  virtual Result<> enqueue(const Work& work, Stream stream) = 0;

  // Error unsupported: the library has no way to compute it, or none with what is fused.
  virtual Result<std::unique_ptr<Convolver>> convolver(const ConvolutionCall& call) = 0;

  [[nodiscard]] virtual std::uint64_t product_workspace_bytes() const = 0;
  virtual Result<> multiply(const MatrixProduct& product, const void* a, const void* b, void* y,
                            std::byte* workspace, Stream stream) = 0;

  // An error took this process's context with it (a kernel wrote where it may not, say): every call fails
  // from now on, and only another process can use the device.
  [[nodiscard]] virtual bool lost() const = 0;
};

}  // namespace opsplit::operators::cuda
