// Copies, Concat and Transpose: memory is moved in pieces as long as the layouts allow.
#include "operators/kernels/movement.hpp"

#include <cstring>
#include <utility>

#include "operators/kernels/index_space.hpp"
#include "operators/kernels/kernels.hpp"
#include "operators/kernels/onednn.hpp"
#include "operators/kernels/primitive_kernel.hpp"

namespace opsplit::operators {
namespace {

// Below this many bytes waking other threads costs more than it saves.
constexpr std::size_t parallel_from = 64 * 1024;

// `count` runs of `bytes` from one place to another, each a stride further than the one before.
struct StridedCopy {
  std::size_t count = 0, bytes = 0;
  std::size_t from_stride = 0, to_stride = 0;
  std::size_t from_offset = 0, to_offset = 0;

  void run(const std::byte* from, std::byte* to) const {
    from += from_offset;
    to += to_offset;
#pragma omp parallel for schedule(static) if (count > 1 && count * bytes >= parallel_from)
    for (std::size_t i = 0; i < count; ++i)
      std::memcpy(to + i * to_stride, from + i * from_stride, bytes);
  }
};

class CopyKernel final : public Kernel {
 public:
  explicit CopyKernel(std::vector<std::pair<std::size_t, StridedCopy>> copies)
      : copies_(std::move(copies)) {}

  Result<> run(std::span<const TensorView> inputs,
               std::span<const MutableTensorView> outputs) override {
    for (const auto& [input, copy] : copies_) copy.run(inputs[input].data, outputs[0].data);
    return {};
  }

 private:
  std::vector<std::pair<std::size_t, StridedCopy>> copies_;
};

// How a tensor lies in memory, outermost first, `axis` in the unit that is contiguous with what is
// inside it: blocks of channels where it is blocked.
struct Split {
  std::size_t outer = 1;  // elements outside of the axis
  std::size_t inner = 0;  // bytes of the axis and all inside it
};

Result<Split> split_at(const Operand& operand, std::size_t axis) {
  const Shape& shape = operand.type.shape;
  Split split;
  if (operand.layout == Layout::nhwc && axis == 1)
    split.outer = static_cast<std::size_t>(shape[0] * shape[2] * shape[3]);
  else
    for (std::size_t i = 0; i < axis; ++i) split.outer *= static_cast<std::size_t>(shape[i]);
  OPSPLIT_TRY(const std::uint64_t bytes, byte_size(operand.type, operand.layout));
  split.inner = split.outer == 0 ? 0 : bytes / split.outer;
  return split;
}

bool in_whole_blocks(const Operand& operand) {
  const auto padded = byte_size(operand.type, operand.layout);
  const auto plain = byte_size(operand.type);
  return padded && plain && *padded == *plain;
}

}  // namespace

Result<std::unique_ptr<Kernel>> make_concat(const KernelSpec& spec, const KernelResources&) {
  const Operand& y = spec.outputs[0];
  std::vector<TensorType> types;
  for (const Operand& input : spec.inputs) types.push_back(input.type);
  OPSPLIT_TRY(const std::size_t axis, read_concat(*spec.node, types, y.type));
  if (y.layout != Layout::row_major && axis != 1)
    return fail(ErrorCode::invalid_input, "Concat along axis {} of an image that is {}", axis,
                to_string(y.layout));
  OPSPLIT_TRY(const Split whole, split_at(y, axis));
  std::vector<std::pair<std::size_t, StridedCopy>> copies;
  std::size_t offset = 0;
  for (std::size_t input = 0; input < spec.inputs.size(); ++input) {
    const Operand& x = spec.inputs[input];
    if (x.layout != y.layout || !in_whole_blocks(x))
      return fail(ErrorCode::invalid_input, "Concat of {} {} into {}", to_string(x.type),
                  to_string(x.layout), to_string(y.layout));
    OPSPLIT_TRY(const Split part, split_at(x, axis));
    if (!x.in_place && part.inner > 0)
      copies.push_back({input, {whole.outer, part.inner, part.inner, whole.inner, 0, offset}});
    offset += part.inner;
  }
  return std::make_unique<CopyKernel>(std::move(copies));
}

Result<std::unique_ptr<Kernel>> make_transpose(const KernelSpec& spec,
                                               const KernelResources& resources) {
  const Operand& x = spec.inputs[0];
  const Operand& y = spec.outputs[0];
  OPSPLIT_TRY(const auto permutation, read_permutation(*spec.node, x.type, y.type));
  if (y.type.dtype != float32 || x.type.shape.rank() == 0) return make_reference(spec, resources);
  // The input, seen with the output's axes.
  const Coordinates strides = strides_of(x.type.shape);
  onednn::Dims from_strides;
  for (const std::size_t axis : permutation)
    from_strides.push_back(std::max<std::int64_t>(strides[axis], 1));
  const onednn::Dims dims = onednn::dims_of(y.type.shape);
  auto operation =
      onednn::reorder(onednn::strided_desc(dims, from_strides), onednn::plain_desc(dims));
  if (!operation) return make_reference(spec, resources);
  return make_primitive_kernel(std::move(*operation), {}, resources);
}

Result<std::unique_ptr<Kernel>> make_copy(const Operand& from, const Operand& to,
                                          const KernelResources& resources) {
  if (from.layout != to.layout && from.type.dtype == float32 && from.type == to.type) {
    OPSPLIT_TRY(auto operation, onednn::reorder(onednn::desc_of(from.type.shape, from.layout),
                                                onednn::desc_of(to.type.shape, to.layout)));
    return make_primitive_kernel(std::move(operation), {}, resources);
  }
  OPSPLIT_TRY(const std::uint64_t from_bytes, byte_size(from.type, from.layout));
  OPSPLIT_TRY(const std::uint64_t to_bytes, byte_size(to.type, to.layout));
  if (from_bytes != to_bytes || (from.layout != to.layout && from.type.dtype != float32))
    return fail(ErrorCode::invalid_input, "no copy of {} {} to {} {}", to_string(from.type),
                to_string(from.layout), to_string(to.type), to_string(to.layout));
  // In pieces, so that all threads have some.
  constexpr std::size_t piece = 16 * 1024;
  std::vector<std::pair<std::size_t, StridedCopy>> copies;
  if (const std::size_t pieces = from_bytes / piece; pieces > 0)
    copies.push_back({0, {pieces, piece, piece, piece, 0, 0}});
  if (const std::size_t rest = from_bytes % piece; rest > 0)
    copies.push_back({0, {1, rest, rest, rest, from_bytes - rest, from_bytes - rest}});
  return std::make_unique<CopyKernel>(std::move(copies));
}

}  // namespace opsplit::operators
