#include <gtest/gtest.h>

#include <cstring>

#include "operators/program.hpp"

namespace opsplit::operators {
namespace {

TEST(HeapWeights, FillsOnceAndKeepsTheBytes) {
  HeapWeights weights;
  int fills = 0;
  const auto fill = [&](std::byte* data) {
    ++fills;
    std::memset(data, 42, 100);
    return Result<>();
  };
  const auto first = weights.get("key", 100, fill);
  const auto again = weights.get("key", 100, fill);
  ASSERT_TRUE(first && again);
  EXPECT_EQ(first->data(), again->data());
  EXPECT_EQ((*first)[99], std::byte{42});
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(first->data()) % 64, 0U);
  EXPECT_EQ(fills, 1);
}

TEST(HeapWeights, ANameStandsForOneSize) {
  HeapWeights weights;
  ASSERT_TRUE(weights.get("key", 100, [](std::byte*) -> Result<> { return {}; }));
  EXPECT_FALSE(weights.get("key", 200, [](std::byte*) -> Result<> { return {}; }));
}

}  // namespace
}  // namespace opsplit::operators
