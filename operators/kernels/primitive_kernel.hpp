// A kernel that is one oneDNN primitive: which of its arguments is which input or output.
#pragma once

#include <memory>
#include <vector>

#include "operators/kernels/kernel_spec.hpp"
#include "operators/kernels/onednn.hpp"

namespace opsplit::operators {

class PrimitiveKernel final : public Kernel {
 public:
  // `scratchpad` is grown to what the primitive needs.
  static Result<std::unique_ptr<PrimitiveKernel>> make(onednn::Operation operation,
                                                       const KernelResources& resources);

  // Binding, before the first run: argument (DNNL_ARG_...) with the format that the primitive
  // expects of it.
  Result<> bind_input(int argument, const onednn::Desc& desc, std::size_t input);
  Result<> bind_output(int argument, const onednn::Desc& desc, std::size_t output);
  // The bytes must live as long as the kernel. A program keeps its constants alive; `owner` does what
  // the kernel has made itself.
  Result<> bind_constant(int argument, const onednn::Desc& desc, const std::byte* data,
                         std::shared_ptr<const void> owner = nullptr);
  Result<> bind_post_ops(const onednn::PostOps& post_ops);

  [[nodiscard]] const onednn::Operation& operation() const { return operation_; }

  Result<> run(std::span<const TensorView> inputs,
               std::span<const MutableTensorView> outputs) override;

 private:
  enum class Source { input, output };
  struct Binding {
    Source source;
    std::size_t index;   // of the input or output
    std::size_t memory;  // in memories_
    const void* data;    // that the memory object points to at present
  };

  PrimitiveKernel(onednn::Operation operation, std::shared_ptr<Scratchpad> scratchpad)
      : operation_(std::move(operation)), scratchpad_(std::move(scratchpad)) {}
  Result<std::size_t> add_memory(int argument, const onednn::Desc& desc, const std::byte* data);

  onednn::Operation operation_;
  std::shared_ptr<Scratchpad> scratchpad_;
  std::vector<dnnl::memory> memories_;
  std::vector<dnnl_exec_arg_t> arguments_;  // parallel to memories_
  std::vector<Binding> bindings_;
  std::size_t scratchpad_memory_ = none;
  const void* scratchpad_data_ = nullptr;
  std::vector<std::shared_ptr<const void>> owners_;

  static constexpr std::size_t none = ~std::size_t{0};
};

// The one-input, one-output case with post-ops, which most primitives are.
Result<std::unique_ptr<PrimitiveKernel>> make_primitive_kernel(onednn::Operation operation,
                                                               const onednn::PostOps& post_ops,
                                                               const KernelResources& resources);

// Reorders a constant into the format that a primitive wants, once for all who share the weights;
// the constant's own bytes, if they are in that format. `plain` describes the constant as it lies.
// `purpose` tells apart uses of the same constant that could pack it differently.
Result<const std::byte*> pack_constant(const graph::Constant& constant, const onednn::Desc& plain,
                                       const onednn::Desc& packed, std::string_view purpose,
                                       const KernelResources& resources);

}  // namespace opsplit::operators
