#include "operators/kernels/primitive_kernel.hpp"

#include <exception>
#include <utility>

namespace opsplit::operators {

Result<std::unique_ptr<PrimitiveKernel>> PrimitiveKernel::make(onednn::Operation operation,
                                                               const KernelResources& resources) {
  std::unique_ptr<PrimitiveKernel> kernel(
      new PrimitiveKernel(std::move(operation), resources.scratchpad));
  const std::size_t bytes = kernel->operation_.scratchpad.get_size();
  if (bytes > 0) {
    kernel->scratchpad_->reserve(bytes);
    OPSPLIT_TRY(kernel->scratchpad_memory_,
                kernel->add_memory(DNNL_ARG_SCRATCHPAD, kernel->operation_.scratchpad, nullptr));
  }
  return kernel;
}

Result<std::size_t> PrimitiveKernel::add_memory(int argument, const onednn::Desc& desc,
                                                const std::byte* data) {
  try {
    // oneDNN's memory objects have no const; primitives do not write to their inputs.
    memories_.emplace_back(desc, onednn::engine(), const_cast<std::byte*>(data));
  } catch (const std::exception& error) {
    return fail(ErrorCode::system, "oneDNN makes no memory object: {}", error.what());
  }
  arguments_.push_back({argument, memories_.back().get()});
  return memories_.size() - 1;
}

Result<> PrimitiveKernel::bind_input(int argument, const onednn::Desc& desc, std::size_t input) {
  OPSPLIT_TRY(const std::size_t memory, add_memory(argument, desc, nullptr));
  bindings_.push_back({Source::input, input, memory, nullptr});
  return {};
}

Result<> PrimitiveKernel::bind_output(int argument, const onednn::Desc& desc, std::size_t output) {
  OPSPLIT_TRY(const std::size_t memory, add_memory(argument, desc, nullptr));
  bindings_.push_back({Source::output, output, memory, nullptr});
  return {};
}

Result<> PrimitiveKernel::bind_constant(int argument, const onednn::Desc& desc,
                                        const std::byte* data, std::shared_ptr<const void> owner) {
  OPSPLIT_CHECK(add_memory(argument, desc, data));
  if (owner) owners_.push_back(std::move(owner));
  return {};
}

Result<> PrimitiveKernel::bind_post_ops(const onednn::PostOps& post_ops) {
  for (const auto& operand : post_ops.operands)
    OPSPLIT_CHECK(bind_input(operand.argument, operand.desc, operand.input));
  return {};
}

Result<> PrimitiveKernel::run(std::span<const TensorView> inputs,
                              std::span<const MutableTensorView> outputs) {
  const auto point = [&](std::size_t memory, const void*& present, const std::byte* data) {
    if (present == data) return dnnl_success;
    present = data;
    return dnnl_memory_set_data_handle(memories_[memory].get(), const_cast<std::byte*>(data));
  };
  for (Binding& binding : bindings_) {
    const std::byte* data =
        binding.source == Source::input ? inputs[binding.index].data : outputs[binding.index].data;
    if (point(binding.memory, binding.data, data) != dnnl_success)
      return fail(ErrorCode::system, "oneDNN takes no pointer to a tensor");
  }
  if (scratchpad_memory_ != none &&
      point(scratchpad_memory_, scratchpad_data_, scratchpad_->data()) != dnnl_success)
    return fail(ErrorCode::system, "oneDNN takes no pointer to its scratchpad");
  const dnnl_status_t status =
      dnnl_primitive_execute(operation_.primitive.get(), onednn::stream().get(),
                             static_cast<int>(arguments_.size()), arguments_.data());
  if (status != dnnl_success)
    return fail(ErrorCode::system, "oneDNN's {} failed with status {}", operation_.implementation,
                static_cast<int>(status));
  return {};
}

Result<std::unique_ptr<PrimitiveKernel>> make_primitive_kernel(onednn::Operation operation,
                                                               const onednn::PostOps& post_ops,
                                                               const KernelResources& resources) {
  OPSPLIT_TRY(auto kernel, PrimitiveKernel::make(std::move(operation), resources));
  OPSPLIT_CHECK(kernel->bind_input(DNNL_ARG_SRC, kernel->operation().src, 0));
  OPSPLIT_CHECK(kernel->bind_output(DNNL_ARG_DST, kernel->operation().dst, 0));
  OPSPLIT_CHECK(kernel->bind_post_ops(post_ops));
  return kernel;
}

Result<const std::byte*> pack_constant(const graph::Constant& constant, const onednn::Desc& plain,
                                       const onednn::Desc& packed, std::string_view purpose,
                                       const KernelResources& resources) {
  if (plain == packed) return constant.bytes.data();
  // All that decides the packed bytes: content, both formats, and whose code packs.
  const std::string key =
      fmt::format("{}; content {}; from {}; to {}; {}", purpose, constant.hash(),
                  onednn::key_of(plain), onednn::key_of(packed), onednn::build_name());
  OPSPLIT_TRY(const auto bytes,
              resources.weights->get(key, packed.get_size(), [&](std::byte* data) {
                return onednn::reorder_now(plain, constant.bytes.data(), packed, data);
              }));
  return bytes.data();
}

}  // namespace opsplit::operators
