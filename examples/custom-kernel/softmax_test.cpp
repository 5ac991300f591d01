#include "softmax.hpp"

#include <gtest/gtest.h>

#include <opsplit/harness.hpp>

using namespace opsplit::sdk;

TEST(Softmax, EachRowAddsUpToOneAndLargeNumbersDoNotOverflow) {
  Harness harness({.op_type = "Softmax", .attributes = {{"axis", std::int64_t{1}}}});
  harness.input<float>({2, 2}, {0, 0, 1000, 1000 + std::log(3.0F)});
  harness.output<float>({2, 2});
  harness.run(make<Softmax>);
  const auto y = harness.result<float>(0);
  EXPECT_FLOAT_EQ(y[0], 0.5);
  EXPECT_FLOAT_EQ(y[1], 0.5);
  EXPECT_NEAR(y[2], 0.25, 1e-4);
  EXPECT_NEAR(y[3], 0.75, 1e-4);
}

TEST(Softmax, SaysWhatItCannotDo) {
  Harness harness({.op_type = "Softmax", .attributes = {{"axis", std::int64_t{0}}}});
  harness.input<float>({2, 2}, {1, 2, 3, 4});
  harness.output<float>({2, 2});
  EXPECT_THROW(harness.run(make<Softmax>), std::invalid_argument);
}
