#include "operators/cuda/cuda_gpu.hpp"

#include <gtest/gtest.h>

#include "ipc/cuda_driver.hpp"

namespace opsplit::operators::cuda::testing {
namespace {

TEST(CudaGpu, TooMuchMemoryIsRefusedAndTheGpuIsNotLost) {
  const auto machine = ipc::cuda_machine();
  if (!machine) GTEST_SKIP() << machine.error().message;
  const auto gpu = open_gpu();
  ASSERT_TRUE(gpu) << gpu.error().message;
  EXPECT_FALSE((*gpu)->lost());
  EXPECT_EQ(gpu.value()->allocate(std::uint64_t{1} << 60).error().code, ErrorCode::limit_exceeded);
  EXPECT_FALSE((*gpu)->lost());
  EXPECT_TRUE((*gpu)->allocate(1 << 20));
}

}  // namespace
}  // namespace opsplit::operators::cuda::testing
