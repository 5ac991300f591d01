#include "operators/kernels/onednn.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <exception>
#include <utility>

#include "base/content_hash.hpp"

namespace opsplit::operators::onednn {
namespace {

using dnnl::memory;
using dnnl::primitive_attr;
using dnnl::prop_kind;
using Tag = memory::format_tag;

#define OPSPLIT_ONEDNN_3 (DNNL_VERSION_MAJOR >= 3)

constexpr auto f32 = memory::data_type::f32;

template <class PrimitiveDesc>
Operation operation_of(const PrimitiveDesc& desc) {
  return {dnnl::primitive(desc.get()),
          desc.query_md(dnnl::query::src_md, 0),
          desc.query_md(dnnl::query::weights_md, 0),
          desc.query_md(dnnl::query::weights_md, 1),
          desc.query_md(dnnl::query::dst_md, 0),
          desc.query_md(dnnl::query::scratchpad_md, 0),
          desc.impl_info_str()};
}

// Makes a primitive; oneDNN throws where it has none for the arguments.
template <class Make>
Result<Operation> guarded(std::string_view what, Make&& make) {
  try {
    return operation_of(std::forward<Make>(make)());
  } catch (const std::exception& error) {
    return fail(ErrorCode::invalid_input, "oneDNN has no {} for this: {}", what, error.what());
  }
}

#if OPSPLIT_ONEDNN_3
// PrimitiveDesc(engine, arguments..., attributes)
template <class Primitive, class... Arguments>
Result<Operation> make(std::string_view what, const primitive_attr& attributes,
                       const Arguments&... arguments) {
  return guarded(
      what, [&] { return typename Primitive::primitive_desc(engine(), arguments..., attributes); });
}
#else
// PrimitiveDesc(OperationDesc(arguments...), attributes, engine)
template <class Primitive, class... Arguments>
Result<Operation> make(std::string_view what, const primitive_attr& attributes,
                       const Arguments&... arguments) {
  return guarded(what, [&] {
    return typename Primitive::primitive_desc(typename Primitive::desc(arguments...), attributes,
                                              engine());
  });
}
#endif

// oneDNN counts the gaps between the elements of a dilated kernel.
Dims gaps_of(const Dims& dilations) {
  Dims gaps = dilations;
  for (auto& gap : gaps) --gap;
  return gaps;
}

// Scratchpads are ours to give: one for all primitives of a program.
primitive_attr attributes_of(const PostOps& post_ops = {}) {
  primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (post_ops.functions.len() > 0) attributes.set_post_ops(post_ops.functions);
  return attributes;
}

void append_eltwise(dnnl::post_ops& ops, const Eltwise& function) {
#if OPSPLIT_ONEDNN_3
  ops.append_eltwise(function.algorithm, function.alpha, function.beta);
#else
  ops.append_eltwise(1.0F, function.algorithm, function.alpha, function.beta);
#endif
}

dnnl::algorithm algorithm_of(BinaryFunction function) {
  switch (function) {
    case BinaryFunction::add:
      return dnnl::algorithm::binary_add;
    case BinaryFunction::subtract:
      return dnnl::algorithm::binary_sub;
    case BinaryFunction::multiply:
      return dnnl::algorithm::binary_mul;
    case BinaryFunction::divide:
      return dnnl::algorithm::binary_div;
    case BinaryFunction::maximum:
      return dnnl::algorithm::binary_max;
    case BinaryFunction::minimum:
      return dnnl::algorithm::binary_min;
  }
  return dnnl::algorithm::undef;
}

Tag tag_of(Layout layout) {
  switch (layout) {
    case Layout::row_major:
      return Tag::nchw;
    case Layout::nhwc:
      return Tag::nhwc;
    case Layout::nChw8c:
      return Tag::nChw8c;
    case Layout::nChw16c:
      return Tag::nChw16c;
  }
  return Tag::undef;
}

}  // namespace

const dnnl::engine& engine() {
  static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

const dnnl::stream& stream() {
  static thread_local const dnnl::stream in_order(engine());
  return in_order;
}

std::string library_version() {
  const auto* version = dnnl_version();
  return fmt::format("{}.{}.{}", version->major, version->minor, version->patch);
}

std::string build_name() {
  return fmt::format("onednn {} {} isa {:x}", library_version(), dnnl_version()->hash,
                     static_cast<unsigned>(dnnl::get_effective_cpu_isa()));
}

Dims dims_of(const Shape& shape) {
  return shape.rank() == 0 ? Dims{1} : Dims(shape.begin(), shape.end());
}

Desc desc_of(const Shape& shape, Layout layout) {
  if (layout == Layout::row_major) return plain_desc(dims_of(shape));
  return {dims_of(shape), f32, tag_of(layout)};
}

Desc plain_desc(const Dims& dims) {
  Dims strides(dims.size(), 1);
  for (std::size_t axis = dims.size() - 1; axis > 0; --axis)
    strides[axis - 1] = strides[axis] * std::max<std::int64_t>(dims[axis], 1);
  return {dims, f32, strides};
}

Desc strided_desc(const Dims& dims, const Dims& strides) { return {dims, f32, strides}; }

Desc operand_desc(const Operand& operand, std::size_t rank) {
  if (operand.type.shape.rank() == rank && rank > 0)
    return desc_of(operand.type.shape, operand.layout);
  Dims dims(std::max<std::size_t>(rank, 1) - operand.type.shape.rank(), 1);
  for (const std::int64_t dim : operand.type.shape) dims.push_back(dim);
  return plain_desc(dims);
}

Desc any_desc(const Dims& dims) { return {dims, f32, Tag::any}; }

std::optional<Layout> layout_of(const Desc& desc) {
#if OPSPLIT_ONEDNN_3
  const Dims dims = desc.get_dims();
#else
  const Dims dims = desc.dims();
#endif
  if (dims.size() != 4) return std::nullopt;
  for (std::uint8_t index = 0; index < layout_count; ++index) {
    const auto layout = static_cast<Layout>(index);
    if (desc == Desc(dims, f32, tag_of(layout))) return layout;
  }
  return std::nullopt;
}

std::string key_of(const Desc& desc) {
  // Every field, those that have no accessor (padding, Winograd's tiles) included.
#if OPSPLIT_ONEDNN_3
  auto copy = desc;
  const std::vector<std::uint8_t> blob = copy.get_blob();
  const auto bytes = std::as_bytes(std::span(blob));
  const Dims dims = desc.get_dims();
#else
  const auto bytes = std::as_bytes(std::span(&desc.data, 1));
  const Dims dims = desc.dims();
#endif
  return fmt::format("{} {} bytes, format {}", fmt::join(dims, "x"), desc.get_size(),
                     content_hash(bytes));
}

bool is_slow(const Operation& operation) {
  return operation.implementation.starts_with("ref") ||
         operation.implementation.starts_with("simple:any");
}

std::vector<Eltwise> eltwise_of(const Activation& activation) {
  using dnnl::algorithm;
  const auto [function, alpha, beta] = activation;
  switch (function) {
    case ActivationFunction::relu:
      return {{algorithm::eltwise_relu}};
    case ActivationFunction::leaky_relu:
      return {{algorithm::eltwise_relu, alpha}};
    case ActivationFunction::clip:
      return {{algorithm::eltwise_clip, alpha, beta}};
    case ActivationFunction::sigmoid:
      return {{algorithm::eltwise_logistic}};
    case ActivationFunction::hard_sigmoid:  // 2.6 has no function for it
      return {{algorithm::eltwise_linear, alpha, beta}, {algorithm::eltwise_clip, 0.0F, 1.0F}};
    case ActivationFunction::hard_swish:  // 2.6 knows ONNX's only, and no parameters
      return {{algorithm::eltwise_hardswish, alpha, beta}};
    case ActivationFunction::tanh:
      return {{algorithm::eltwise_tanh}};
    case ActivationFunction::elu:
      return {{algorithm::eltwise_elu, alpha}};
    case ActivationFunction::exp:
      return {{algorithm::eltwise_exp}};
    case ActivationFunction::log:
      return {{algorithm::eltwise_log}};
    case ActivationFunction::erf:
      return {};
    case ActivationFunction::sqrt:
      return {{algorithm::eltwise_sqrt}};
    case ActivationFunction::abs:
      return {{algorithm::eltwise_abs}};
    case ActivationFunction::linear:
      return {{algorithm::eltwise_linear, alpha, beta}};
  }
  return {};
}

Result<PostOps> post_ops_of(const KernelSpec& spec, std::size_t rank) {
  PostOps result;
  dnnl::post_ops& ops = result.functions;
  try {
    for (const PostOp& op : spec.post_ops) {
      switch (op.kind) {
        case PostOp::Kind::activation:
          for (const Eltwise& function : eltwise_of(op.activation)) append_eltwise(ops, function);
          break;
        case PostOp::Kind::sum:
          ops.append_sum(1.0F);
          break;
        case PostOp::Kind::binary: {
          const Desc desc = operand_desc(spec.inputs[op.operand], rank);
          result.operands.push_back(
              {DNNL_ARG_ATTR_MULTIPLE_POST_OP(ops.len()) | DNNL_ARG_SRC_1, desc, op.operand});
          ops.append_binary(algorithm_of(op.binary), desc);
          break;
        }
      }
    }
  } catch (const std::exception& error) {
    return fail(ErrorCode::invalid_input, "oneDNN takes no such post-ops: {}", error.what());
  }
  return result;
}

Result<Operation> convolution(const Desc& src, const Desc& weights, const std::optional<Desc>& bias,
                              const Desc& dst, const Window& window, const PostOps& post_ops) {
  return make<dnnl::convolution_forward>(
      "convolution", attributes_of(post_ops), prop_kind::forward_inference,
      dnnl::algorithm::convolution_direct, src, weights, bias.value_or(Desc()), dst, window.strides,
      gaps_of(window.dilations), window.pads_begin, window.pads_end);
}

Result<Operation> deconvolution(const Desc& src, const Desc& weights,
                                const std::optional<Desc>& bias, const Desc& dst,
                                const Window& window, const PostOps& post_ops) {
  return make<dnnl::deconvolution_forward>(
      "deconvolution", attributes_of(post_ops), prop_kind::forward_inference,
      dnnl::algorithm::deconvolution_direct, src, weights, bias.value_or(Desc()), dst,
      window.strides, gaps_of(window.dilations), window.pads_begin, window.pads_end);
}

Result<Operation> pooling(PoolingAlgorithm algorithm, const Desc& src, const Desc& dst,
                          const Window& window) {
#if OPSPLIT_ONEDNN_3
  using Pooling = dnnl::pooling_forward;
#else
  using Pooling = dnnl::pooling_v2_forward;
#endif
  const auto kind = algorithm == PoolingAlgorithm::maximum ? dnnl::algorithm::pooling_max
                    : algorithm == PoolingAlgorithm::average_with_padding
                        ? dnnl::algorithm::pooling_avg_include_padding
                        : dnnl::algorithm::pooling_avg_exclude_padding;
  return make<Pooling>("pooling", attributes_of(), prop_kind::forward_inference, kind, src, dst,
                       window.strides, window.kernel, gaps_of(window.dilations), window.pads_begin,
                       window.pads_end);
}

Result<Operation> inner_product(const Desc& src, const Desc& weights,
                                const std::optional<Desc>& bias, const Desc& dst,
                                const PostOps& post_ops) {
  return make<dnnl::inner_product_forward>("inner product", attributes_of(post_ops),
                                           prop_kind::forward_inference, src, weights,
                                           bias.value_or(Desc()), dst);
}

Result<Operation> matmul(const Desc& src, const Desc& weights, const std::optional<Desc>& bias,
                         const Desc& dst, const PostOps& post_ops) {
  return make<dnnl::matmul>("matrix product", attributes_of(post_ops), src, weights,
                            bias.value_or(Desc()), dst);
}

Result<Operation> binary(BinaryFunction function, const Desc& a, const Desc& b, const Desc& dst,
                         const PostOps& post_ops) {
  return make<dnnl::binary>("binary operation", attributes_of(post_ops), algorithm_of(function), a,
                            b, dst);
}

Result<Operation> softmax(const Desc& src, int axis) {
#if OPSPLIT_ONEDNN_3
  return make<dnnl::softmax_forward>("softmax", attributes_of(), prop_kind::forward_inference,
                                     dnnl::algorithm::softmax_accurate, src, src, axis);
#else
  return make<dnnl::softmax_forward>("softmax", attributes_of(), prop_kind::forward_inference, src,
                                     axis);
#endif
}

Result<Operation> local_response_normalization(const Desc& src, std::int64_t size, float alpha,
                                               float beta, float bias) {
#if OPSPLIT_ONEDNN_3
  return make<dnnl::lrn_forward>("LRN", attributes_of(), prop_kind::forward_inference,
                                 dnnl::algorithm::lrn_across_channels, src, src, size, alpha, beta,
                                 bias);
#else
  return make<dnnl::lrn_forward>("LRN", attributes_of(), prop_kind::forward_inference,
                                 dnnl::algorithm::lrn_across_channels, src, size, alpha, beta,
                                 bias);
#endif
}

Result<Operation> eltwise(const Eltwise& function, const Desc& desc) {
#if OPSPLIT_ONEDNN_3
  return make<dnnl::eltwise_forward>("activation", attributes_of(), prop_kind::forward_inference,
                                     function.algorithm, desc, desc, function.alpha, function.beta);
#else
  return make<dnnl::eltwise_forward>("activation", attributes_of(), prop_kind::forward_inference,
                                     function.algorithm, desc, function.alpha, function.beta);
#endif
}

Result<Operation> reorder(const Desc& from, const Desc& to) {
  return guarded("reorder", [&] {
    return dnnl::reorder::primitive_desc(engine(), from, engine(), to, attributes_of());
  });
}

Result<> reorder_now(const Desc& from, const std::byte* source, const Desc& to,
                     std::byte* destination) {
  OPSPLIT_TRY(const Operation operation, reorder(from, to));
  try {
    // oneDNN's memory objects have no const; a reorder only reads its source.
    memory source_memory(from, engine(), const_cast<std::byte*>(source));
    memory destination_memory(to, engine(), destination);
    memory scratchpad(operation.scratchpad, engine());
    operation.primitive.execute(stream(), {{DNNL_ARG_FROM, source_memory},
                                           {DNNL_ARG_TO, destination_memory},
                                           {DNNL_ARG_SCRATCHPAD, scratchpad}});
    dnnl::stream(stream()).wait();
  } catch (const std::exception& error) {
    return fail(ErrorCode::system, "oneDNN's reorder failed: {}", error.what());
  }
  return {};
}

}  // namespace opsplit::operators::onednn
