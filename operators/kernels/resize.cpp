// Resize of images along height and width; all else is left to the reference.
#include "operators/kernels/resize.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "operators/kernels/kernels.hpp"

namespace opsplit::operators {
namespace {

// Below this many bytes waking other threads costs more than it saves.
constexpr std::size_t parallel_from = 64 * 1024;

// An image as planes of rows of pixels; a pixel is `inner` floats that lie together: all channels
// (nhwc), a block of them, or one (row-major).
struct Planes {
  std::int64_t count = 0, inner = 1;
  std::int64_t in_height = 0, in_width = 0;
};

class ResizeKernel final : public Kernel {
 public:
  ResizeKernel(const Planes& planes, bool linear, std::vector<Tap> rows, std::vector<Tap> columns)
      : planes_(planes), linear_(linear), rows_(std::move(rows)), columns_(std::move(columns)) {
    const std::size_t in = static_cast<std::size_t>(planes.in_width);
    const std::size_t factor = columns_.size() / in;
    if (factor * in == columns_.size()) enlargement_ = static_cast<std::int64_t>(factor);
    for (std::size_t i = 0; i < columns_.size() && enlargement_ > 0; ++i)
      if (columns_[i].first != static_cast<std::int64_t>(i / factor)) enlargement_ = 0;
  }

  Result<> run(std::span<const TensorView> inputs,
               std::span<const MutableTensorView> outputs) override {
    const float* x = inputs[0].as<float>();
    float* y = outputs[0].as<float>();
    const auto height = static_cast<std::int64_t>(rows_.size());
    const std::int64_t in_row = planes_.in_width * planes_.inner;
    const std::int64_t row = static_cast<std::int64_t>(columns_.size()) * planes_.inner;
    const auto bytes = static_cast<std::size_t>(planes_.count * height * row) * sizeof(float);
#pragma omp parallel if (bytes >= parallel_from)
    {
      std::int64_t previous = -1;  // the row that this thread has made before
#pragma omp for schedule(static)
      for (std::int64_t i = 0; i < planes_.count * height; ++i) {
        const Tap& tap = rows_[static_cast<std::size_t>(i % height)];
        const float* plane = x + i / height * planes_.in_height * in_row;
        float* to = y + i * row;
        if (linear_)
          interpolate(plane + tap.first * in_row, plane + tap.second * in_row, tap.part, to);
        else if (previous == i - 1 && i % height > 0 &&
                 rows_[static_cast<std::size_t>(i % height - 1)].first == tap.first)
          std::memcpy(to, to - row, static_cast<std::size_t>(row) * sizeof(float));
        else
          pick(plane + tap.first * in_row, to);
        previous = i;
      }
    }
    return {};
  }

 private:
  // A row of the nearest pixels.
  void pick(const float* from, float* to) const {
    const std::int64_t inner = planes_.inner;
    if (inner == 1 && enlargement_ > 0) {
      for (std::int64_t i = 0; i < planes_.in_width; ++i, to += enlargement_)
        std::fill_n(to, enlargement_, from[i]);
    } else if (inner == 1) {
      for (const Tap& tap : columns_) *to++ = from[tap.first];
    } else {
      for (const Tap& tap : columns_) to = std::copy_n(from + tap.first * inner, inner, to);
    }
  }

  void interpolate(const float* above, const float* below, float part, float* to) const {
    const std::int64_t inner = planes_.inner;
    for (const Tap& tap : columns_) {
      const float* left[] = {above + tap.first * inner, below + tap.first * inner};
      const float* right[] = {above + tap.second * inner, below + tap.second * inner};
#pragma omp simd
      for (std::int64_t i = 0; i < inner; ++i) {
        const float upper = left[0][i] + (right[0][i] - left[0][i]) * tap.part;
        const float lower = left[1][i] + (right[1][i] - left[1][i]) * tap.part;
        to[i] = upper + (lower - upper) * part;
      }
      to += inner;
    }
  }

  const Planes planes_;
  const bool linear_;
  const std::vector<Tap> rows_, columns_;
  std::int64_t enlargement_ = 0;  // each pixel so many times in a row; 0: not like that
};

bool is_identity(const std::vector<Tap>& taps, std::int64_t in) {
  if (static_cast<std::int64_t>(taps.size()) != in) return false;
  for (std::size_t i = 0; i < taps.size(); ++i)
    if (taps[i].first != static_cast<std::int64_t>(i) || taps[i].part != 0) return false;
  return true;
}

bool stays_inside(const std::vector<Tap>& taps) {
  return std::none_of(taps.begin(), taps.end(),
                      [](const Tap& tap) { return tap.first == Tap::outside; });
}

Planes planes_of(const Operand& x) {
  const Shape& shape = x.type.shape;
  Planes planes{.in_height = shape[2], .in_width = shape[3]};
  planes.inner = x.layout == Layout::nhwc      ? shape[1]
                 : x.layout == Layout::nChw8c  ? 8
                 : x.layout == Layout::nChw16c ? 16
                                               : 1;
  planes.count = shape[0] * ((shape[1] + planes.inner - 1) / planes.inner);
  return planes;
}

}  // namespace

Result<std::unique_ptr<Kernel>> make_resize(const KernelSpec& spec,
                                            const KernelResources& resources) {
  const Operand& x = spec.inputs[0];
  const Operand& y = spec.outputs[0];
  bool known = true;
  const auto numbers = resize_numbers(*spec.node, spec.opset, [&](std::size_t input) {
    if (input >= spec.inputs.size() || !spec.inputs[input].present) return std::span<const float>{};
    const graph::Constant* constant = spec.inputs[input].constant;
    known = known && constant != nullptr && constant->type.dtype == float32;
    return known ? constant->as<float>() : std::span<const float>{};
  });
  if (!known || x.type.dtype != float32 || x.type.shape.rank() != 4)
    return make_reference(spec, resources);
  OPSPLIT_TRY(auto resize, read_resize(*spec.node, spec.opset, x.type, y.type, numbers));
  const auto& axes = resize.axes;
  if (x.layout != y.layout || !is_identity(axes[0], x.type.shape[0]) ||
      !is_identity(axes[1], x.type.shape[1]) || !stays_inside(axes[2]) || !stays_inside(axes[3]))
    return make_reference(spec, resources);
  return std::make_unique<ResizeKernel>(planes_of(x), resize.linear, axes[2], axes[3]);
}

}  // namespace opsplit::operators
