#include <memory>
#include <utility>
#include <vector>

#include "ipc/cuda_driver.hpp"
#include "operators/cuda/gpu_operator_program.hpp"
#include "operators/cuda/library_gpu.hpp"
#include "operators/sdk/adapter.hpp"
#include "operators/sdk/cuda_adapter.hpp"

namespace opsplit::sdk {
namespace {

class SdkCudaKernel final : public operators::cuda::CudaKernel {
 public:
  SdkCudaKernel(std::unique_ptr<Node> node, LastCudaError last_error)
      : node_(std::move(node)), last_error_(last_error) {
    for (const Operand& input : node_->inputs) inputs_.push_back({input.dtype, input.shape});
    for (const Operand& output : node_->outputs) outputs_.push_back({output.dtype, output.shape});
  }

  Result<> make(const MakeCudaKernel& make_kernel) try {
    kernel_ = make_kernel(*node_);
    if (!kernel_) return fail(ErrorCode::invalid_input, "no kernel was made for it");
    workspace_bytes_ = kernel_->workspace_bytes();
    if (const char* error = last_error_())
      return fail(ErrorCode::invalid_input, "its kernel was not made: CUDA: {}", error);
    return {};
  } catch (...) {
    static_cast<void>(last_error_());  // it is not the next kernel's
    return fail(ErrorCode::invalid_input, "its kernel was not made: {}", described());
  }

  [[nodiscard]] std::uint64_t workspace_bytes() const override { return workspace_bytes_; }

  Result<> launch(std::span<const operators::cuda::DeviceView> inputs,
                  std::span<const operators::cuda::MutableDeviceView> outputs, std::byte* workspace,
                  operators::cuda::Stream stream) override try {
    for (std::size_t i = 0; i < inputs_.size(); ++i)
      inputs_[i].data = static_cast<const std::byte*>(inputs[i].data);
    for (std::size_t i = 0; i < outputs_.size(); ++i)
      outputs_[i].data = static_cast<std::byte*>(outputs[i].data);
    kernel_->launch(inputs_, outputs_, CudaContext(stream, workspace));
    if (const char* error = last_error_())
      return fail(ErrorCode::operator_failed, "CUDA: {}", error);
    return {};
  } catch (...) {
    static_cast<void>(last_error_());  // it is not the next launch's
    return fail(ErrorCode::operator_failed, "{}", described());
  }

 private:
  std::unique_ptr<Node> node_;
  LastCudaError last_error_;
  std::unique_ptr<sdk::CudaKernel> kernel_;  // CudaKernel is the base class here
  std::uint64_t workspace_bytes_ = 0;
  std::vector<DeviceTensor> inputs_;
  std::vector<MutableDeviceTensor> outputs_;
};

}  // namespace

operators::cuda::CustomCudaKernels custom_cuda_kernels(const CudaKernels& kernels,
                                                       LastCudaError last_error) {
  operators::cuda::CustomCudaKernels custom;
  for (const auto& [op_type, make] : kernels)
    custom.emplace(op_type,
                   [&make, last_error](const operators::KernelSpec& spec)
                       -> Result<std::unique_ptr<operators::cuda::CudaKernel>> {
                     OPSPLIT_TRY(Node node, node_of(spec));
                     auto kernel = std::make_unique<SdkCudaKernel>(
                         std::make_unique<Node>(std::move(node)), last_error);
                     OPSPLIT_CHECK(kernel->make(make));
                     return kernel;
                   });
  return custom;
}

int cuda_operator_main(int argc, char** argv, const CudaKernels& kernels,
                       LastCudaError last_error) {
  return operators::cuda::gpu_operator_program(argc, argv,
                                               {ipc::open_cuda_device, operators::cuda::open_gpu},
                                               custom_cuda_kernels(kernels, last_error));
}

}  // namespace opsplit::sdk
