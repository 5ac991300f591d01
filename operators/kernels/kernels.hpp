// All kernels, by operation.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "operators/kernels/kernel_spec.hpp"

namespace opsplit::operators {

// How the layouts of a kernel's tensors of rank 4 may be chosen.
enum class LayoutRule {
  row_major,    // it computes on row-major tensors only
  convolution,  // convolution_layouts(), or the transposed one's, says
  image,        // one input of rank 4; the output has its layout, whichever
  pointwise,    // all operands of rank 4 and the output have one layout, whichever
  concat,       // one layout for all, as long as the channels are concatenated in whole blocks
};

struct KernelKind {
  std::string_view op_type;
  Result<std::unique_ptr<Kernel>> (*make)(const KernelSpec& spec, const KernelResources& resources);
  LayoutRule rule;
  bool takes_post_ops;  // when its tensors are float32
};

// Those that there are kernels for.
std::vector<std::string> kernel_op_types();

// Null if there is no kernel for it.
const KernelKind* find_kernel(std::string_view op_type);

// The kernel for a node, whatever its operation; the error names the node.
Result<std::unique_ptr<Kernel>> make_kernel(const KernelSpec& spec,
                                            const KernelResources& resources);

// The layouts in which a convolution is best computed here; those wished for are kept where they
// cost nothing worth mentioning. Row-major both, where only the reference computes it.
struct ConvolutionLayouts {
  Layout src = Layout::row_major;
  Layout dst = Layout::row_major;
};
ConvolutionLayouts convolution_layouts(const KernelSpec& spec, std::optional<Layout> preferred);
ConvolutionLayouts transposed_convolution_layouts(const KernelSpec& spec,
                                                  std::optional<Layout> preferred);

// One file each.
Result<std::unique_ptr<Kernel>> make_convolution(const KernelSpec&, const KernelResources&);
Result<std::unique_ptr<Kernel>> make_transposed_convolution(const KernelSpec&,
                                                            const KernelResources&);
Result<std::unique_ptr<Kernel>> make_pooling(const KernelSpec&, const KernelResources&);
Result<std::unique_ptr<Kernel>> make_gemm(const KernelSpec&, const KernelResources&);
Result<std::unique_ptr<Kernel>> make_matmul(const KernelSpec&, const KernelResources&);
Result<std::unique_ptr<Kernel>> make_softmax(const KernelSpec&, const KernelResources&);
Result<std::unique_ptr<Kernel>> make_lrn(const KernelSpec&, const KernelResources&);
Result<std::unique_ptr<Kernel>> make_batch_normalization(const KernelSpec&, const KernelResources&);
Result<std::unique_ptr<Kernel>> make_binary(const KernelSpec&, const KernelResources&);
Result<std::unique_ptr<Kernel>> make_activation(const KernelSpec&, const KernelResources&);
Result<std::unique_ptr<Kernel>> make_concat(const KernelSpec&, const KernelResources&);
Result<std::unique_ptr<Kernel>> make_transpose(const KernelSpec&, const KernelResources&);
Result<std::unique_ptr<Kernel>> make_resize(const KernelSpec&, const KernelResources&);
Result<std::unique_ptr<Kernel>> make_reduction(const KernelSpec&, const KernelResources&);

// Computes the node with the reference (reference.hpp), slowly: for what the kernels above have no
// fast way. Its tensors are row-major, and it takes no post-ops.
Result<std::unique_ptr<Kernel>> make_reference(const KernelSpec&, const KernelResources&);

// ShuffleNet's Reshape, Transpose, Reshape in one: channel `group x size + i` of the input becomes
// channel `i x groups + group`. Both operands have rank 4 and one layout, row-major or nhwc.
Result<std::unique_ptr<Kernel>> make_channel_shuffle(const Operand& from, const Operand& to,
                                                     std::int64_t groups);

// Copies a tensor of any type, to another layout if need be (float32 only).
Result<std::unique_ptr<Kernel>> make_copy(const Operand& from, const Operand& to,
                                          const KernelResources& resources);

}  // namespace opsplit::operators
