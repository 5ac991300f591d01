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

}  // namespace
}  // namespace opsplit::operators::cuda::testing
