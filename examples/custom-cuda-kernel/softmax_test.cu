#include <gtest/gtest.h>

#include <opsplit/cuda_harness.hpp>

#include "softmax.cuh"

using namespace opsplit::sdk;

const std::vector<float> x{0, 0, 1000, 1000 + std::log(3.0F)};

void expect_softmax(const std::vector<float>& y) {
  EXPECT_FLOAT_EQ(y[0], 0.5);
  EXPECT_FLOAT_EQ(y[1], 0.5);
  EXPECT_NEAR(y[2], 0.25, 1e-4);
  EXPECT_NEAR(y[3], 0.75, 1e-4);
}

TEST(Softmax, ARowOnTheCpu) {
  std::vector<float> y(4);
  for (int row = 0; row < 2; ++row) softmax_row(&x[2 * row], &y[2 * row], 2);
  expect_softmax(y);
}

TEST(Softmax, AllOnTheGpu) {
  if (const std::string why = CudaHarness::why_not(); !why.empty()) GTEST_SKIP() << why;
  CudaHarness harness({.op_type = "Softmax", .attributes = {{"axis", std::int64_t{1}}}});
  harness.input<float>({2, 2}, x);
  harness.output<float>({2, 2});
  harness.run(make<Softmax>);
  expect_softmax(harness.result<float>(0));
}
