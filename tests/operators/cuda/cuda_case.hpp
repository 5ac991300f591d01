// One node, its kernel for a GPU and its reference: the recipe of every test of such a kernel. Each case
// runs in float32 and in float16, on the CPU (HostGpu), and on a GPU where there is one.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "operators/cuda/cuda_kernels.hpp"
#include "tests/operators/cuda/host_gpu.hpp"
#include "tests/operators/tensors.hpp"

namespace opsplit::operators::cuda::testing {

using operators::testing::Attributes;
using operators::testing::Tensor;
using Ints = std::vector<std::int64_t>;

// An input: random numbers of the case's type, or the integers that a node has as parameters.
struct CaseInput {
  Shape shape = {};
  bool is_absent = false;
  bool is_constant = false;  // known when the kernel is made
  bool is_positive = false;  // a variance, say
  bool is_float32 = false;   // whatever the case's type
  std::vector<std::int64_t> ints = {};
};
inline CaseInput given(const Shape& shape) { return {.shape = shape}; }
inline CaseInput known(const Shape& shape) { return {.shape = shape, .is_constant = true}; }
inline CaseInput positive(const Shape& shape) { return {.shape = shape, .is_positive = true}; }
inline CaseInput known_ints(const std::vector<std::int64_t>& values) {
  return {.shape = {static_cast<std::int64_t>(values.size())}, .is_constant = true, .ints = values};
}
inline CaseInput absent() { return {.is_absent = true}; }

struct CudaCase {
  std::string op_type;
  std::vector<CaseInput> inputs = {};
  Attributes attributes = {};
  std::int64_t opset = 13;
  std::vector<PostOp> post_ops = {};  // binary ones take the `operands` in order
  std::vector<Shape> operands = {};
};

// Where a suite's cases run, and in which type.
struct Where {
  bool on_gpu = false;
  DType dtype = float32;
};
std::string name_of(const ::testing::TestParamInfo<Where>& info);
inline const auto everywhere = ::testing::Values(Where{false, float32}, Where{false, float16},
                                                 Where{true, float32}, Where{true, float16});

// A GPU for a test; null if there is none, and why.
struct TestGpu {
  std::unique_ptr<Gpu> gpu;
  bool is_real = false;
  std::string why_not = {};
};
TestGpu test_gpu(bool real);

// Device memory with these bytes.
std::shared_ptr<std::byte> to_device(Gpu& gpu, std::span<const std::byte> bytes);
// Waits for all that is enqueued.
void from_device(const TestGpu& gpu, std::span<std::byte> to, const std::byte* from);

// The tensor's elements, float32 or rounded to float16; and back.
std::vector<std::byte> as_bytes(const Tensor& tensor, DType dtype);
Tensor from_bytes(std::span<const std::byte> bytes, const TensorType& type);

class CudaKernelTest : public ::testing::TestWithParam<Where> {
 protected:
  // Skips with the reason where there is no GPU.
  void SetUp() override;

  // Makes the kernel, launches it, and expects the reference's result to `tolerance`, or to what
  // float16 can hold. Kernels of our own are launched once more, on memory that is not aligned.
  void expect_reference(const CudaCase& test, double tolerance = 1e-5);

  TestGpu gpu_;
};

}  // namespace opsplit::operators::cuda::testing
