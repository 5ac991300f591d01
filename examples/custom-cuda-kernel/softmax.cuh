// Softmax over the last axis, on a GPU: a thread for each row.
#pragma once

#include <cmath>
#include <opsplit/cuda_operator.hpp>

// What a row is, for the GPU and for tests on the CPU.
__host__ __device__ inline void softmax_row(const float* x, float* y, std::size_t size) {
  float most = x[0], sum = 0;
  for (std::size_t i = 1; i < size; ++i) most = fmaxf(most, x[i]);
  for (std::size_t i = 0; i < size; ++i) sum += y[i] = expf(x[i] - most);
  for (std::size_t i = 0; i < size; ++i) y[i] /= sum;
}

__global__ void softmax_rows(const float* x, float* y, std::size_t rows, std::size_t size) {
  const std::size_t row = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (row < rows) softmax_row(x + row * size, y + row * size, size);
}

class Softmax : public opsplit::sdk::CudaKernel {
 public:
  explicit Softmax(const opsplit::sdk::Node& node) {
    const auto& shape = node.inputs[0].shape;
    const auto rank = static_cast<std::int64_t>(shape.size());
    const std::int64_t axis = node.integer("axis", -1);
    if (rank == 0 || (axis != -1 && axis != rank - 1))
      throw std::invalid_argument("only over the last axis");
    size_ = static_cast<std::size_t>(shape.back());
  }

  void launch(opsplit::sdk::DeviceInputs inputs, opsplit::sdk::DeviceOutputs outputs,
              const opsplit::sdk::CudaContext& context) override {
    if (inputs[0].elements() == 0) return;  // CUDA refuses to launch no threads
    const std::size_t rows = inputs[0].elements() / size_;
    softmax_rows<<<(rows + 255) / 256, 256, 0, context.stream()>>>(
        inputs[0].as<float>(), outputs[0].as<float>(), rows, size_);
  }

 private:
  std::size_t size_;
};
