#include "operators/cuda/cuda_gpu.hpp"

#include <gtest/gtest.h>

#include "ipc/cuda_driver.hpp"

namespace opsplit::operators::cuda::testing {
namespace {

TEST(CudaGpu, TooMuchMemoryIsRefusedAndTheGpuIsNotLost) {
  const auto machine = ipc::cuda_machine();
  if (!machine) GTEST_SKIP() << machine.error().message;
  CudaGpu gpu;
  EXPECT_FALSE(gpu.lost());
  EXPECT_EQ(gpu.allocate(std::uint64_t{1} << 60).error().code, ErrorCode::limit_exceeded);
  EXPECT_FALSE(gpu.lost());
  EXPECT_TRUE(gpu.allocate(1 << 20));
}

TEST(CudaGpu, SaysWhatItNeedsLibrariesFor) {
  CudaGpu gpu;
  EXPECT_EQ(gpu.convolver({}).error().code, ErrorCode::unsupported);
  EXPECT_EQ(gpu.multiply({}, nullptr, nullptr, nullptr, nullptr, nullptr).error().code,
            ErrorCode::unsupported);
}

}  // namespace
}  // namespace opsplit::operators::cuda::testing
