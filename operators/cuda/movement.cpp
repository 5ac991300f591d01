// Concat, Transpose, Pad, copies: of elements of any type, known by their size.
#include "operators/kernels/movement.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "graph/ops/element.hpp"
#include "operators/cuda/cuda_kernels.hpp"
#include "operators/kernels/index_space.hpp"

namespace opsplit::operators::cuda {
namespace {

Result<std::int32_t> unit_of(const KernelSpec& spec, DType dtype) {
  const std::uint64_t bytes = dtype.bytes();
  if (bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8) return static_cast<std::int32_t>(bytes);
  return fail(ErrorCode::unsupported, "{} of {}", spec.node->op_type, to_string(dtype));
}

// Axes that are walked as one in both tensors are one.
void collapse(Move& work) {
  int rank = 0;
  for (int axis = 0; axis < work.rank; ++axis) {
    const std::int64_t size = work.dims[axis];
    if (size == 1) continue;
    const bool joins = rank > 0 && work.x_strides[rank - 1] == work.x_strides[axis] * size &&
                       work.y_strides[rank - 1] == work.y_strides[axis] * size;
    const int to = joins ? rank - 1 : rank++;
    work.dims[to] = (joins ? work.dims[to] : 1) * size;
    work.x_strides[to] = work.x_strides[axis];
    work.y_strides[to] = work.y_strides[axis];
  }
  work.rank = rank;
}

// Each input moves into its part of the output.
class ConcatKernel final : public CudaKernel {
 public:
  struct Part {
    std::size_t input;
    Move move;
  };
  ConcatKernel(Gpu& gpu, std::vector<Part> parts) : gpu_(gpu), parts_(std::move(parts)) {}

  Result<> launch(std::span<const DeviceView> inputs, std::span<const MutableDeviceView> outputs,
                  std::byte*, Stream stream) override {
    for (const Part& part : parts_) {
      Move bound = part.move;
      bound.x = inputs[part.input].data;
      bound.y = outputs[0].data;
      OPSPLIT_CHECK(gpu_.enqueue(bound, stream));
    }
    return {};
  }

 private:
  Gpu& gpu_;
  std::vector<Part> parts_;
};

Result<PadMode> mode_of(const graph::Node& node) {
  static constexpr std::array<std::pair<std::string_view, PadMode>, 4> modes{
      {{"constant", PadMode::constant},
       {"edge", PadMode::edge},
       {"reflect", PadMode::reflect},
       {"wrap", PadMode::wrap}}};
  const std::string name = node.text("mode", "constant");
  for (const auto& [known, mode] : modes)
    if (known == name) return mode;
  return fail(ErrorCode::unsupported, "Pad of mode {}", name);
}

// An attribute in older operator sets, a constant input since.
Result<std::vector<std::int64_t>> integers(const KernelSpec& spec, std::string_view attribute,
                                           std::size_t input) {
  if (input >= spec.inputs.size() || !spec.inputs[input].present)
    return spec.node->integers(attribute);
  const graph::Constant* constant = spec.inputs[input].constant;
  if (constant == nullptr || constant->type.dtype != int64)
    return fail(ErrorCode::unsupported, "{} whose {} are not known before it runs",
                spec.node->op_type, attribute);
  const auto values = constant->as<std::int64_t>();
  return std::vector<std::int64_t>(values.begin(), values.end());
}

// How much comes before x, per axis; what comes behind follows from y's shape, and is checked.
Result<std::vector<std::int64_t>> read_pads(const KernelSpec& spec) {
  const Shape& x = spec.inputs[0].type.shape;
  const Shape& y = spec.outputs[0].type.shape;
  OPSPLIT_TRY(const auto pads, integers(spec, "pads", 1));
  OPSPLIT_TRY(auto axes, integers(spec, "axes", 3));
  if (axes.empty())
    for (std::size_t axis = 0; axis < x.rank(); ++axis)
      axes.push_back(static_cast<std::int64_t>(axis));
  const auto rank = static_cast<std::int64_t>(x.rank());
  std::vector<std::int64_t> before(x.rank()), after(x.rank());
  bool valid = pads.size() == 2 * axes.size() && y.rank() == x.rank();
  for (std::size_t i = 0; i < axes.size() && valid; ++i) {
    const std::int64_t axis = axes[i] < 0 ? axes[i] + rank : axes[i];
    valid = axis >= 0 && axis < rank;
    if (!valid) break;
    before[static_cast<std::size_t>(axis)] = pads[i];
    after[static_cast<std::size_t>(axis)] = pads[axes.size() + i];
  }
  for (std::size_t axis = 0; axis < x.rank() && valid; ++axis) {
    std::int64_t size = 0;
    valid = !__builtin_add_overflow(x[axis], before[axis], &size) &&
            !__builtin_add_overflow(size, after[axis], &size) && size == y[axis] &&
            before[axis] > INT64_MIN / 2 && before[axis] < INT64_MAX / 2;
  }
  if (valid) return before;
  return fail(ErrorCode::invalid_input, "Pad of {} does not give {}",
              to_string(spec.inputs[0].type), to_string(spec.outputs[0].type));
}

}  // namespace

Result<std::unique_ptr<CudaKernel>> make_copy(const TensorType& type, Gpu& gpu) {
  OPSPLIT_TRY(const std::uint64_t bytes, byte_size(type));
  Move work{.unit = 1, .rank = 1, .elements = static_cast<std::int64_t>(bytes)};
  work.dims[0] = work.elements;
  work.x_strides[0] = work.y_strides[0] = 1;
  return one_work(gpu, work);
}

Result<std::unique_ptr<CudaKernel>> make_concat(const KernelSpec& spec, Gpu& gpu) {
  std::vector<TensorType> types;
  for (const Operand& input : spec.inputs) types.push_back(input.type);
  const TensorType& y = spec.outputs[0].type;
  OPSPLIT_TRY(const std::size_t axis, read_concat(*spec.node, types, y));
  OPSPLIT_TRY(const std::int32_t unit, unit_of(spec, y.dtype));
  std::int64_t outer = 1, inner = 1;
  for (std::size_t i = 0; i < y.shape.rank(); ++i)
    if (i != axis) (i < axis ? outer : inner) *= y.shape[i];
  std::vector<ConcatKernel::Part> parts;
  std::int64_t offset = 0;
  for (std::size_t i = 0; i < types.size(); ++i) {
    const std::int64_t size = types[i].shape[axis] * inner;
    Move move{.unit = unit, .rank = 2, .elements = outer * size, .y_offset = offset};
    move.dims[0] = outer;
    move.dims[1] = size;
    move.x_strides[0] = size;
    move.y_strides[0] = y.shape[axis] * inner;
    move.x_strides[1] = move.y_strides[1] = 1;
    offset += size;
    if (move.elements == 0) continue;
    collapse(move);
    parts.push_back({i, move});
  }
  return std::make_unique<ConcatKernel>(gpu, std::move(parts));
}

Result<std::unique_ptr<CudaKernel>> make_transpose(const KernelSpec& spec, Gpu& gpu) {
  const TensorType& x = spec.inputs[0].type;
  const TensorType& y = spec.outputs[0].type;
  OPSPLIT_TRY(const auto permutation, read_permutation(*spec.node, x, y));
  Move work{.rank = static_cast<std::int32_t>(y.shape.rank())};
  OPSPLIT_TRY(work.unit, unit_of(spec, y.dtype));
  OPSPLIT_TRY(work.elements, y.shape.elements());
  const Coordinates from = strides_of(x.shape);
  const Coordinates to = strides_of(y.shape);
  for (std::size_t axis = 0; axis < y.shape.rank(); ++axis) {
    work.dims[axis] = y.shape[axis];
    work.x_strides[axis] = from[permutation[axis]];
    work.y_strides[axis] = to[axis];
  }
  collapse(work);
  return one_work(gpu, work);
}

Result<std::unique_ptr<CudaKernel>> make_pad(const KernelSpec& spec, Gpu& gpu) {
  const TensorType& x = spec.inputs[0].type;
  const TensorType& y = spec.outputs[0].type;
  if (x.dtype != y.dtype)
    return fail(ErrorCode::invalid_input, "Pad of {} giving {}", to_string(x), to_string(y));
  OPSPLIT_TRY(const auto before, read_pads(spec));
  Pad work{.rank = static_cast<std::int32_t>(y.shape.rank())};
  OPSPLIT_TRY(work.unit, unit_of(spec, y.dtype));
  OPSPLIT_TRY(work.mode, mode_of(*spec.node));
  OPSPLIT_TRY(work.elements, y.shape.elements());
  std::copy(y.shape.begin(), y.shape.end(), work.y_dims);
  std::copy(x.shape.begin(), x.shape.end(), work.x_dims);
  std::copy(before.begin(), before.end(), work.before);
  const bool has_value = spec.inputs.size() > 2 && spec.inputs[2].present;
  if (has_value && (spec.inputs[2].type.dtype != x.dtype ||
                    spec.inputs[2].type.shape.elements().value_or(0) != 1))
    return fail(ErrorCode::invalid_input, "Pad with a value {}", to_string(spec.inputs[2].type));
  if (!has_value) {
    const float value = spec.node->real("value", 0.0F);
    graph::ops::cast_elements(float32, reinterpret_cast<const std::byte*>(&value), x.dtype,
                              reinterpret_cast<std::byte*>(&work.bits), 1);
  }
  return one_work(gpu, work, [has_value](Pad& bound, auto inputs, auto outputs) {
    bound.x = inputs[0].data;
    if (has_value) bound.value = inputs[2].data;
    bound.y = outputs[0].data;
  });
}

}  // namespace opsplit::operators::cuda
