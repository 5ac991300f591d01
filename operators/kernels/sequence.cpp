#include "operators/kernels/sequence.hpp"

#include <utility>

#include "operators/kernels/onednn.hpp"
#include "operators/kernels/primitive_kernel.hpp"

namespace opsplit::operators {
namespace {

class Sequence final : public Kernel {
 public:
  explicit Sequence(std::vector<std::unique_ptr<Kernel>> kernels) : kernels_(std::move(kernels)) {}

  Result<> run(std::span<const TensorView> inputs,
               std::span<const MutableTensorView> outputs) override {
    for (const auto& kernel : kernels_) OPSPLIT_CHECK(kernel->run(inputs, outputs));
    return {};
  }

 private:
  std::vector<std::unique_ptr<Kernel>> kernels_;
};

// A pass over output 0, which is read and written.
Result<std::unique_ptr<PrimitiveKernel>> in_place(onednn::Operation operation,
                                                  const KernelResources& resources) {
  OPSPLIT_TRY(auto kernel, PrimitiveKernel::make(std::move(operation), resources));
  OPSPLIT_CHECK(kernel->bind_output(DNNL_ARG_SRC, kernel->operation().src, 0));
  OPSPLIT_CHECK(kernel->bind_output(DNNL_ARG_DST, kernel->operation().dst, 0));
  return kernel;
}

}  // namespace

KernelSpec without_post_ops(KernelSpec spec) {
  spec.post_ops.clear();
  return spec;
}

Result<std::unique_ptr<Kernel>> with_separate_post_ops(std::unique_ptr<Kernel> kernel,
                                                       const KernelSpec& spec,
                                                       const KernelResources& resources) {
  if (spec.post_ops.empty()) return kernel;
  const Operand& output = spec.outputs[0];
  const onednn::Desc desc = onednn::desc_of(output.type.shape, output.layout);
  std::vector<std::unique_ptr<Kernel>> kernels;
  kernels.push_back(std::move(kernel));
  for (const PostOp& op : spec.post_ops) {
    if (op.kind == PostOp::Kind::activation) {
      for (const onednn::Eltwise& function : onednn::eltwise_of(op.activation)) {
        OPSPLIT_TRY(auto operation, onednn::eltwise(function, desc));
        OPSPLIT_TRY(auto pass, in_place(std::move(operation), resources));
        kernels.push_back(std::move(pass));
      }
      continue;
    }
    if (op.kind == PostOp::Kind::sum)
      return fail(ErrorCode::invalid_input, "{} can't add to its output", spec.node->op_type);
    const onednn::Desc operand =
        onednn::operand_desc(spec.inputs[op.operand], output.type.shape.rank());
    OPSPLIT_TRY(auto operation, onednn::binary(op.binary, desc, operand, desc, {}));
    OPSPLIT_TRY(auto pass, in_place(std::move(operation), resources));
    OPSPLIT_CHECK(pass->bind_input(DNNL_ARG_SRC_1, operand, op.operand));
    kernels.push_back(std::move(pass));
  }
  return std::make_unique<Sequence>(std::move(kernels));
}

}  // namespace opsplit::operators
