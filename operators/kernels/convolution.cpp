#include "operators/kernels/convolution.hpp"

#include <fmt/ranges.h>

#include <array>
#include <utility>

#include "operators/kernels/fastest.hpp"
#include "operators/kernels/kernels.hpp"
#include "operators/kernels/onednn.hpp"
#include "operators/kernels/primitive_kernel.hpp"
#include "operators/kernels/sequence.hpp"
#include "operators/kernels/winograd.hpp"

namespace opsplit::operators {
namespace {

constexpr std::size_t weights_input = 1;
constexpr std::size_t bias_input = 2;

bool has_bias(const KernelSpec& spec) {
  return spec.node->inputs.size() > bias_input && spec.node->inputs[bias_input] != graph::no_value;
}

Result<Convolution> read(const KernelSpec& spec) {
  return read_convolution(*spec.node, spec.inputs[0].type, spec.inputs[weights_input].type,
                          has_bias(spec) ? &spec.inputs[bias_input].type : nullptr,
                          spec.outputs[0].type);
}

// What oneDNN is asked for.
struct Request {
  Convolution convolution;
  onednn::Dims weight_dims;  // with groups in front, if there are several
  std::optional<onednn::Desc> bias;
  onednn::PostOps post_ops;
};

Result<Request> request_of(const KernelSpec& spec) {
  Request request;
  OPSPLIT_TRY(request.convolution, read(spec));
  const Shape& weights = spec.inputs[weights_input].type.shape;
  request.weight_dims = onednn::dims_of(weights);
  const std::int64_t groups = request.convolution.groups;
  if (groups > 1) {
    request.weight_dims[0] /= groups;
    request.weight_dims.insert(request.weight_dims.begin(), groups);
  }
  if (has_bias(spec)) request.bias = onednn::plain_desc({weights[0]});
  OPSPLIT_TRY(request.post_ops, onednn::post_ops_of(spec, spec.outputs[0].type.shape.rank()));
  return request;
}

Result<onednn::Operation> operation_of(const Request& request, const KernelSpec& spec,
                                       const onednn::Desc& src, const onednn::Desc& dst) {
  const bool packed = spec.inputs[weights_input].constant != nullptr;
  const onednn::Desc weights =
      packed ? onednn::any_desc(request.weight_dims) : onednn::plain_desc(request.weight_dims);
  return onednn::convolution(src, weights, request.bias, dst, request.convolution.window,
                             request.post_ops);
}

std::int64_t block_of(Layout layout) {
  return layout == Layout::nChw16c ? 16 : layout == Layout::nChw8c ? 8 : 1;
}

// The layouts of an implementation that is not slow; nothing if there is none. Those asked for are
// taken as asked: with a single channel a descriptor fits several.
std::optional<ConvolutionLayouts> layouts_of(const Result<onednn::Operation>& operation,
                                             std::optional<Layout> asked_src = {},
                                             std::optional<Layout> asked_dst = {}) {
  if (!operation || onednn::is_slow(*operation)) return std::nullopt;
  const auto src = asked_src ? asked_src : onednn::layout_of(operation->src);
  const auto dst = asked_dst ? asked_dst : onednn::layout_of(operation->dst);
  if (!src || !dst) return std::nullopt;
  return ConvolutionLayouts{*src, *dst};
}

Result<std::unique_ptr<Kernel>> make_direct(const KernelSpec& spec, const Request& request,
                                            const KernelResources& resources) {
  const Operand& x = spec.inputs[0];
  const Operand& y = spec.outputs[0];
  const Operand& weights = spec.inputs[weights_input];
  auto operation = operation_of(request, spec, onednn::desc_of(x.type.shape, x.layout),
                                onednn::desc_of(y.type.shape, y.layout));
  if (operation && onednn::is_slow(*operation) && !spec.post_ops.empty()) {
    // Some implementations take no post-ops: a pass for each may cost less than doing without them.
    const KernelSpec plain = without_post_ops(spec);
    OPSPLIT_TRY(const Request plain_request, request_of(plain));
    OPSPLIT_TRY(auto kernel, make_direct(plain, plain_request, resources));
    return with_separate_post_ops(std::move(kernel), spec, resources);
  }
  if (!operation) {
    OPSPLIT_TRY(auto reference, make_reference(without_post_ops(spec), resources));
    return with_separate_post_ops(std::move(reference), spec, resources);
  }
  const onednn::Desc packed = operation->weights;
  OPSPLIT_TRY(auto kernel,
              make_primitive_kernel(std::move(*operation), request.post_ops, resources));
  if (weights.constant) {
    OPSPLIT_TRY(const std::byte* data,
                pack_constant(*weights.constant, onednn::plain_desc(request.weight_dims), packed,
                              "convolution", resources));
    OPSPLIT_CHECK(kernel->bind_constant(DNNL_ARG_WEIGHTS, packed, data));
  } else {
    OPSPLIT_CHECK(kernel->bind_input(DNNL_ARG_WEIGHTS, packed, weights_input));
  }
  if (request.bias) OPSPLIT_CHECK(kernel->bind_input(DNNL_ARG_BIAS, *request.bias, bias_input));
  return kernel;
}

// All that the time of a convolution depends on.
std::string choice_key(const KernelSpec& spec, const Convolution& convolution) {
  std::string key = fmt::format("convolution choice 1; {} groups; pads {} to {}; {}",
                                convolution.groups, fmt::join(convolution.window.pads_begin, "x"),
                                fmt::join(convolution.window.pads_end, "x"), onednn::build_name());
  for (const std::vector<Operand>* operands : {&spec.inputs, &spec.outputs})
    for (const Operand& operand : *operands)
      key += fmt::format("; {} {}", to_string(operand.type), to_string(operand.layout));
  for (const PostOp& op : spec.post_ops)
    key += fmt::format("; {} {} {} {}", static_cast<int>(op.kind),
                       static_cast<int>(op.activation.function), static_cast<int>(op.binary),
                       op.operand);
  return key;
}

}  // namespace

ConvolutionLayouts convolution_layouts(const KernelSpec& spec, std::optional<Layout> preferred) {
  const KernelSpec plain = without_post_ops(spec);  // whose layouts are not known yet
  const auto request = request_of(plain);
  const Shape& x = spec.inputs[0].type.shape;
  const Shape& y = spec.outputs[0].type.shape;
  if (!request || x.rank() != 4 || spec.inputs[weights_input].constant == nullptr) return {};
  const onednn::Desc any_src = onednn::any_desc(onednn::dims_of(x));
  const onednn::Desc any_dst = onednn::any_desc(onednn::dims_of(y));
  if (preferred) {
    // An image of 3 channels in blocks of 16 is mostly padding: there oneDNN knows better.
    const bool narrow = x[1] < block_of(*preferred);
    const auto asked_src = narrow ? std::nullopt : preferred;
    const auto src = narrow ? any_src : onednn::desc_of(x, *preferred);
    const auto operation = operation_of(*request, plain, src, onednn::desc_of(y, *preferred));
    if (const auto layouts = layouts_of(operation, asked_src, preferred)) return *layouts;
  }
  return layouts_of(operation_of(*request, plain, any_src, any_dst)).value_or(ConvolutionLayouts{});
}

Result<std::unique_ptr<Kernel>> make_convolution(const KernelSpec& spec,
                                                 const KernelResources& resources) {
  OPSPLIT_TRY(const Request request, request_of(spec));
  const auto winograd = [&](WinogradTile tile) -> MakeCandidate {
    return [&, tile](const KernelResources& own) {
      return make_winograd(spec, request.convolution, tile, own, *winograd::code());
    };
  };
  const std::array<MakeCandidate, 3> candidates{
      [&](const KernelResources& own) { return make_direct(spec, request, own); },
      winograd(WinogradTile::two), winograd(WinogradTile::four)};
  if (!takes_winograd(spec, request.convolution, winograd::code())) return candidates[0](resources);
  OPSPLIT_TRY(const std::size_t best, kept_fastest(choice_key(spec, request.convolution), spec,
                                                   candidates, *resources.weights));
  return candidates[best](resources);
}

}  // namespace opsplit::operators
