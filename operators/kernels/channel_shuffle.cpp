#include <array>
#include <cstdint>
#include <cstring>

#include "operators/kernels/kernels.hpp"

namespace opsplit::operators {
namespace {

// Four floats anywhere in memory. The compiler's own vectors: good for every CPU.
using Four = float __attribute__((vector_size(16)));

Four load(const float* from) {
  Four four;
  std::memcpy(&four, from, sizeof four);
  return four;
}

// One pixel of `groups` rows of `size` channels, transposed.
void transpose(const float* from, float* to, std::size_t groups, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i)
    for (std::size_t group = 0; group < groups; ++group)
      to[i * groups + group] = from[group * size + i];
}

// The same for four groups, ShuffleNet's usual number, in squares of four by four.
void transpose_four(const float* from, float* to, std::size_t size) {
  std::size_t i = 0;
  for (; i + 4 <= size; i += 4, to += 16) {
    const Four a = load(from + i);
    const Four b = load(from + size + i);
    const Four c = load(from + 2 * size + i);
    const Four d = load(from + 3 * size + i);
    const Four ac_low = __builtin_shufflevector(a, c, 0, 4, 1, 5);
    const Four ac_high = __builtin_shufflevector(a, c, 2, 6, 3, 7);
    const Four bd_low = __builtin_shufflevector(b, d, 0, 4, 1, 5);
    const Four bd_high = __builtin_shufflevector(b, d, 2, 6, 3, 7);
    const std::array square{__builtin_shufflevector(ac_low, bd_low, 0, 4, 1, 5),
                            __builtin_shufflevector(ac_low, bd_low, 2, 6, 3, 7),
                            __builtin_shufflevector(ac_high, bd_high, 0, 4, 1, 5),
                            __builtin_shufflevector(ac_high, bd_high, 2, 6, 3, 7)};
    std::memcpy(to, square.data(), sizeof square);
  }
  for (; i < size; ++i, to += 4)
    for (std::size_t group = 0; group < 4; ++group) to[group] = from[group * size + i];
}

class ChannelShuffle final : public Kernel {
 public:
  // Rows of `inner` bytes move as one: a pixel's channel (nhwc), or a channel's image (row-major).
  ChannelShuffle(std::size_t outer, std::size_t groups, std::size_t size, std::size_t inner)
      : outer_(outer), groups_(groups), size_(size), inner_(inner) {}

  Result<> run(std::span<const TensorView> inputs,
               std::span<const MutableTensorView> outputs) override {
    const std::byte* from = inputs[0].data;
    std::byte* to = outputs[0].data;
    const std::size_t rows = groups_ * size_;
    if (inner_ == sizeof(float)) {
#pragma omp parallel for schedule(static) if (outer_ * rows >= 16384)
      for (std::size_t pixel = 0; pixel < outer_; ++pixel) {
        const auto* in = reinterpret_cast<const float*>(from) + pixel * rows;
        auto* out = reinterpret_cast<float*>(to) + pixel * rows;
        if (groups_ == 4)
          transpose_four(in, out, size_);
        else
          transpose(in, out, groups_, size_);
      }
      return {};
    }
#pragma omp parallel for schedule(static) if (outer_ * rows * inner_ >= 65536)
    for (std::size_t row = 0; row < outer_ * rows; ++row) {
      const std::size_t image = row / rows;
      const std::size_t channel = row % rows;
      const std::size_t shuffled = channel % size_ * groups_ + channel / size_;
      std::memcpy(to + (image * rows + shuffled) * inner_, from + row * inner_, inner_);
    }
    return {};
  }

 private:
  const std::size_t outer_, groups_, size_, inner_;
};

}  // namespace

Result<std::unique_ptr<Kernel>> make_channel_shuffle(const Operand& from, const Operand& to,
                                                     std::int64_t groups) {
  const Shape& shape = from.type.shape;
  if (from.type != to.type || from.layout != to.layout || from.type.dtype != float32 ||
      shape.rank() != 4 || groups < 1 || shape[1] % groups != 0 ||
      (from.layout != Layout::row_major && from.layout != Layout::nhwc))
    return fail(ErrorCode::invalid_input, "no channel shuffle of {} {} in {} groups",
                to_string(from.type), to_string(from.layout), groups);
  const auto size = [&](std::size_t axis) { return static_cast<std::size_t>(shape[axis]); };
  const auto count = static_cast<std::size_t>(groups);
  const std::size_t pixels = size(2) * size(3);
  if (from.layout == Layout::nhwc)
    return std::make_unique<ChannelShuffle>(size(0) * pixels, count, size(1) / count,
                                            sizeof(float));
  return std::make_unique<ChannelShuffle>(size(0), count, size(1) / count, pixels * sizeof(float));
}

}  // namespace opsplit::operators
