#include "operators/cuda/cuda_gpu.hpp"

#include <gmock/gmock.h>

namespace opsplit::operators::cuda::testing {
namespace {

using ::testing::StartsWith;

// Whatever the machine: either there is a GPU, or it is said that there is none.
TEST(CudaGpu, OpensOrSaysThatThereIsNone) {
  const auto gpu = open_gpu();
  if (!gpu) {
    EXPECT_EQ(gpu.error().code, ErrorCode::unavailable);
    EXPECT_THAT(gpu.error().message, StartsWith("no GPU: "));
    return;
  }
  EXPECT_FALSE((*gpu)->lost());
  EXPECT_EQ(gpu.value()->allocate(std::uint64_t{1} << 60).error().code, ErrorCode::limit_exceeded);
  EXPECT_FALSE((*gpu)->lost());
  EXPECT_TRUE((*gpu)->allocate(1 << 20));
}

}  // namespace
}  // namespace opsplit::operators::cuda::testing
