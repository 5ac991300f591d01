#include "operators/cuda/cuda_status.hpp"

#include <gmock/gmock.h>

namespace opsplit::operators::cuda::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(CudaStatus, StickyErrorsAreToldApart) {
  EXPECT_TRUE(is_sticky(cudaErrorIllegalAddress));
  EXPECT_THAT(checked(cudaErrorIllegalAddress, "a launch").error().message,
              HasSubstr("has to end"));
  EXPECT_FALSE(is_sticky(cudaErrorInvalidValue));
  EXPECT_THAT(checked(cudaErrorInvalidValue, "a launch").error().message,
              Not(HasSubstr("has to end")));
  EXPECT_EQ(checked(cudaErrorMemoryAllocation, "cudaMalloc").error().code,
            ErrorCode::limit_exceeded);
  EXPECT_FALSE(is_sticky(cudaErrorMemoryAllocation));
}

TEST(CudaStatus, WhatALibraryDoesNotSupportIsToldApart) {
  EXPECT_EQ(checked(CUDNN_STATUS_NOT_SUPPORTED, "x").error().code, ErrorCode::unsupported);
  EXPECT_EQ(checked(CUDNN_STATUS_NOT_SUPPORTED_PADDING, "x").error().code, ErrorCode::unsupported);
  EXPECT_EQ(checked(CUDNN_STATUS_EXECUTION_FAILED, "x").error().code, ErrorCode::system);
  EXPECT_EQ(checked(CUBLAS_STATUS_EXECUTION_FAILED, "x").error().code, ErrorCode::system);
  EXPECT_TRUE(checked(CUDNN_STATUS_SUCCESS, "x"));
}

}  // namespace
}  // namespace opsplit::operators::cuda::testing
