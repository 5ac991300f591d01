#include "operators/cuda/library_status.hpp"

#include <gtest/gtest.h>

namespace opsplit::operators::cuda::testing {
namespace {

TEST(LibraryStatus, WhatIsNotSupportedIsToldApart) {
  EXPECT_EQ(checked(CUDNN_STATUS_NOT_SUPPORTED, "x").error().code, ErrorCode::unsupported);
  EXPECT_EQ(checked(CUDNN_STATUS_NOT_SUPPORTED_PADDING, "x").error().code, ErrorCode::unsupported);
  EXPECT_EQ(checked(CUDNN_STATUS_EXECUTION_FAILED, "x").error().code, ErrorCode::system);
  EXPECT_EQ(checked(CUBLAS_STATUS_EXECUTION_FAILED, "x").error().code, ErrorCode::system);
  EXPECT_TRUE(checked(CUDNN_STATUS_SUCCESS, "x"));
}

}  // namespace
}  // namespace opsplit::operators::cuda::testing
