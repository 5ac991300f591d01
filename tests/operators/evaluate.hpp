// Nodes evaluated by the reference on a few numbers of any element type, written down in the test.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "operators/kernels/reference.hpp"
#include "tests/operators/tensors.hpp"

namespace opsplit::operators::testing {

template <class T>
constexpr DType dtype_of = std::is_floating_point_v<T> ? DType{TypeCode::float_, sizeof(T) * 8, 1}
                           : std::is_same_v<T, bool>   ? bool8
                           : std::is_signed_v<T>       ? DType{TypeCode::int_, sizeof(T) * 8, 1}
                                                       : DType{TypeCode::uint, sizeof(T) * 8, 1};

// A tensor of any type, with exactly the bytes that it has: AddressSanitizer sees who goes beyond them.
struct Numbers {
  template <class T>
  Numbers(const Shape& shape, const std::vector<T>& values)
      : type{dtype_of<T>, shape}, bytes(values.size() * sizeof(T)) {
    EXPECT_EQ(values.size(), static_cast<std::size_t>(*shape.elements()));
    for (std::size_t i = 0; i < values.size(); ++i) {
      const T value = values[i];  // a vector<bool> has no elements to point to
      std::memcpy(&bytes[i * sizeof(T)], &value, sizeof(T));
    }
  }
  TensorType type;
  std::vector<std::byte> bytes;
};

struct Evaluation {
  graph::Node node;
  std::vector<Numbers> inputs;
  std::int64_t opset = 21;

  // The outputs' bytes, or the error's text. Those that are `absent` a task's compiler leaves away, for nobody reads
  // them.
  Result<std::vector<std::vector<std::byte>>> run(const std::vector<TensorType>& types,
                                                  const std::set<std::size_t>& absent = {}) const {
    std::byte nothing{};  // where empty tensors are: no address means that there is none
    std::vector<TensorView> from;
    for (const Numbers& input : inputs)
      from.push_back(
          {input.type, Layout::row_major, input.bytes.empty() ? &nothing : input.bytes.data()});
    std::vector<std::vector<std::byte>> results;
    std::vector<MutableTensorView> to;
    for (const TensorType& type : types) {
      results.emplace_back(*byte_size(type), std::byte{0xA5});
      to.push_back(
          {type, Layout::row_major, results.back().empty() ? &nothing : results.back().data()});
    }
    for (const std::size_t output : absent) to.at(output) = {};
    OPSPLIT_CHECK(reference::evaluate(node, opset, from, to));
    return results;
  }
};

template <class T>
std::vector<T> numbers_in(const std::vector<std::byte>& bytes) {
  std::vector<T> numbers;
  for (std::size_t at = 0; at < bytes.size(); at += sizeof(T)) {
    T number;
    std::memcpy(&number, &bytes[at], sizeof(T));
    numbers.push_back(number);
  }
  return numbers;
}

// The only output, of type T.
template <class T>
std::vector<T> evaluate(const graph::Node& node, const std::vector<Numbers>& inputs,
                        const Shape& output, std::int64_t opset = 21) {
  const auto results = Evaluation{node, inputs, opset}.run({{dtype_of<T>, output}});
  EXPECT_TRUE(results) << results.error().message;
  return results ? numbers_in<T>((*results)[0]) : std::vector<T>();
}

// Why it can't be evaluated; empty if it can.
inline std::string error_of(const graph::Node& node, const std::vector<Numbers>& inputs,
                            const TensorType& output) {
  const auto results = Evaluation{node, inputs}.run({output});
  return results ? "" : results.error().message;
}

}  // namespace opsplit::operators::testing
