// Feeds tensors to a CUDA kernel, for unit tests, as <opsplit/harness.hpp> does on the CPU:
//
//   if (const std::string why = opsplit::sdk::CudaHarness::why_not(); !why.empty()) GTEST_SKIP() << why;
//   opsplit::sdk::CudaHarness harness({.op_type = "Scale", .attributes = {{"factor", 2.0f}}});
//   harness.input<float>({4}, {-1, 1, 2, 3});
//   harness.output<float>({4});
//   harness.run(opsplit::sdk::make<Scale>);
//   EXPECT_THAT(harness.result<float>(0), ElementsAre(-2, 2, 4, 6));
//
// Stricter than the real thing: run() throws std::logic_error if an input was changed, or what lies right behind a
// tensor or the workspace.
#pragma once

#include <opsplit/cuda_operator.hpp>
#include <opsplit/harness.hpp>

namespace opsplit::sdk {

// On the first GPU that there is, and on a stream that is not the default one.
class CudaHarness : public Harness {
 public:
  // The node without its inputs and outputs.
  OPSPLIT_SDK explicit CudaHarness(Node node);
  OPSPLIT_SDK ~CudaHarness();

  // Why nothing can run on a GPU here; empty: it can.
  OPSPLIT_SDK static std::string why_not();

  // Makes the kernel, launches it and waits until it is done; or once more. Throws what they throw, and
  // std::runtime_error with CUDA's words.
  OPSPLIT_SDK void run(const MakeCudaKernel& make, LastCudaError last_error = last_cuda_error);

 private:
  struct Device;
  std::unique_ptr<Device> device_;
};

}  // namespace opsplit::sdk
