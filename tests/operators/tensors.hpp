// Tensors for tests: seeded random content, conversion between layouts written down from their
// definition, and comparison.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "graph/graph.hpp"
#include "operators/aligned_memory.hpp"
#include "operators/kernel.hpp"

namespace opsplit::operators::testing {

// A float32 tensor that owns its bytes.
class Tensor {
 public:
  Tensor(const TensorType& type, Layout layout);

  [[nodiscard]] TensorView view() const { return {type_, layout_, memory_.data()}; }
  [[nodiscard]] MutableTensorView mutable_view() { return {type_, layout_, memory_.data()}; }
  [[nodiscard]] const TensorType& type() const { return type_; }
  [[nodiscard]] Layout layout() const { return layout_; }
  [[nodiscard]] std::size_t bytes() const { return memory_.size(); }
  [[nodiscard]] std::span<float> values() {
    return {reinterpret_cast<float*>(memory_.data()), memory_.size() / sizeof(float)};
  }
  [[nodiscard]] std::span<const float> values() const {
    return {reinterpret_cast<const float*>(memory_.data()), memory_.size() / sizeof(float)};
  }

 private:
  TensorType type_;
  Layout layout_;
  AlignedMemory memory_;
};

// Every value different, between -1 and 1; the same for the same seed.
Tensor random_tensor(const Shape& shape, std::uint32_t seed);

// The same tensor in another layout; padding is zero.
Tensor in_layout(const Tensor& tensor, Layout layout);

// Element by element, to `tolerance` of the largest expected magnitude (at least 1); the padding of
// `actual` has to be zero.
void expect_near(const Tensor& actual, const Tensor& expected, double tolerance = 1e-5);

// A node named "node".
using Attributes = std::map<std::string, graph::Attribute, std::less<>>;
graph::Node make_node(const std::string& op_type, Attributes attributes = {},
                      std::vector<graph::ValueId> inputs = {},
                      std::vector<graph::ValueId> outputs = {});
graph::Value make_value(const std::string& name);

graph::Constant constant_of(const Tensor& tensor);
graph::Constant constant_of(const std::vector<std::int64_t>& values);

}  // namespace opsplit::operators::testing
