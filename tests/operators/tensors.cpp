#include "tests/operators/tensors.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

namespace opsplit::operators::testing {
namespace {

std::int64_t block_of(Layout layout) {
  return layout == Layout::nChw16c ? 16 : layout == Layout::nChw8c ? 8 : 1;
}

// Where element (n, c, h, w) lies.
std::size_t position(const Shape& shape, Layout layout, std::int64_t n, std::int64_t c,
                     std::int64_t h, std::int64_t w) {
  const std::int64_t block = block_of(layout);
  const std::int64_t blocks = (shape[1] + block - 1) / block;
  if (layout == Layout::nhwc)
    return static_cast<std::size_t>(((n * shape[2] + h) * shape[3] + w) * shape[1] + c);
  return static_cast<std::size_t>(
      (((n * blocks + c / block) * shape[2] + h) * shape[3] + w) * block + c % block);
}

}  // namespace

Tensor::Tensor(const TensorType& type, Layout layout)
    : type_(type), layout_(layout), memory_(byte_size(type, layout).value()) {
  std::memset(memory_.data(), 0, memory_.size());
}

Tensor random_tensor(const Shape& shape, std::uint32_t seed) {
  Tensor tensor({float32, shape}, Layout::row_major);
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> distribution(-1, 1);
  for (float& value : tensor.values()) value = distribution(generator);
  return tensor;
}

Tensor in_layout(const Tensor& tensor, Layout layout) {
  Tensor result(tensor.type(), layout);
  const Shape& shape = tensor.type().shape;
  if (shape.rank() != 4 || layout == tensor.layout()) {
    std::copy(tensor.values().begin(), tensor.values().end(), result.values().begin());
    return result;
  }
  for (std::int64_t n = 0; n < shape[0]; ++n)
    for (std::int64_t c = 0; c < shape[1]; ++c)
      for (std::int64_t h = 0; h < shape[2]; ++h)
        for (std::int64_t w = 0; w < shape[3]; ++w)
          result.values()[position(shape, layout, n, c, h, w)] =
              tensor.values()[position(shape, tensor.layout(), n, c, h, w)];
  return result;
}

void expect_near(const Tensor& actual, const Tensor& expected, double tolerance) {
  ASSERT_EQ(actual.type(), expected.type());
  const Tensor plain = in_layout(actual, Layout::row_major);
  const Tensor wanted = in_layout(expected, Layout::row_major);
  double scale = 1;
  for (const float value : wanted.values())
    if (std::isfinite(value)) scale = std::max(scale, std::abs(static_cast<double>(value)));
  for (std::size_t i = 0; i < wanted.values().size(); ++i)
    ASSERT_NEAR(plain.values()[i], wanted.values()[i], tolerance * scale)
        << "element " << i << " of " << to_string(actual.type()) << " "
        << to_string(actual.layout());
  // Whatever is no element is padding.
  const Tensor again = in_layout(plain, actual.layout());
  for (std::size_t i = 0; i < again.values().size(); ++i)
    ASSERT_EQ(again.values()[i], actual.values()[i]) << "padding at " << i;
}

graph::Node make_node(const std::string& op_type, Attributes attributes,
                      std::vector<graph::ValueId> inputs, std::vector<graph::ValueId> outputs) {
  return {"node", op_type, std::move(inputs), std::move(outputs), std::move(attributes)};
}

graph::Value make_value(const std::string& name) {
  graph::Value value;
  value.name = name;
  return value;
}

graph::Constant constant_of(const Tensor& tensor) {
  auto [constant, data] = graph::Constant::allocate(tensor.type()).value();
  std::memcpy(data, tensor.view().data, constant.bytes.size());
  return constant;
}

graph::Constant constant_of(const std::vector<std::int64_t>& values) {
  const TensorType type{int64, Shape{static_cast<std::int64_t>(values.size())}};
  auto [constant, data] = graph::Constant::allocate(type).value();
  std::memcpy(data, values.data(), constant.bytes.size());
  return constant;
}

}  // namespace opsplit::operators::testing
