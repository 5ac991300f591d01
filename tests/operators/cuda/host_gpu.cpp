#include "tests/operators/cuda/host_gpu.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "operators/aligned_memory.hpp"
#include "operators/cuda/elementwise_body.hpp"
#include "operators/cuda/movement_body.hpp"
#include "operators/cuda/pooling_body.hpp"
#include "operators/cuda/softmax_body.hpp"

namespace opsplit::operators::cuda::testing {
namespace {

// A team of one.
struct Alone {
  static int lane() { return 0; }
  static int lanes() { return 1; }
  static float sum(float value) { return value; }
  static float maximum(float value) { return value; }
};

struct OnHost {
  template <class Body, class W>
  int each(const W& work, std::int64_t count) const {
    for (std::int64_t i = 0; i < count; ++i) Body::at(work, i);
    return 0;
  }
  template <class Body, class W>
  int rows(const W& work, std::int64_t count) const {
    for (std::int64_t i = 0; i < count; ++i) Body::at(work, i, Alone());
    return 0;
  }
};

float read(Element element, const void* data, std::int64_t index) {
  return element == Element::float16 ? to_float(static_cast<const __half*>(data)[index])
                                     : static_cast<const float*>(data)[index];
}

void write(Element element, void* data, std::int64_t index, float value) {
  if (element == Element::float16)
    static_cast<__half*>(data)[index] = from_float<__half>(value);
  else
    static_cast<float*>(data)[index] = value;
}

// So that whoever writes beyond its workspace, or reads what it has not written, is seen.
constexpr std::uint64_t workspace_size = 512;
constexpr std::byte workspace_content{0xFF};  // NaN, of either type

class PlainConvolver final : public Convolver {
 public:
  explicit PlainConvolver(const ConvolutionCall& call) : call_(call) {}

  [[nodiscard]] std::uint64_t workspace_bytes() const override { return workspace_size; }

  Result<> launch(const ConvolutionPointers& pointers, std::byte* workspace, Stream) override {
    std::fill(workspace, workspace + workspace_size, workspace_content);
    const std::int64_t channels = call_.w[1];                // of one group
    const std::int64_t filters = call_.w[0] / call_.groups;  // of one group
    const std::vector<float> x = floats(pointers.x, call_.x);
    const std::vector<float> w = floats(pointers.w, call_.w);
    const std::int64_t x_image = volume(call_.x), w_image = volume(call_.w);
    std::vector<double> sums(static_cast<std::size_t>(volume(call_.y)));
    std::int64_t to = 0;
    for (std::int64_t n = 0; n < call_.y[0]; ++n)
      for (std::int64_t filter = 0; filter < call_.y[1]; ++filter) {
        std::fill(sums.begin(), sums.end(), 0);
        for (std::int64_t c = 0; c < channels; ++c)
          add(&x[static_cast<std::size_t>((n * call_.x[1] + filter / filters * channels + c) *
                                          x_image)],
              &w[static_cast<std::size_t>((filter * channels + c) * w_image)], sums.data());
        for (const double sum : sums) {
          auto value = static_cast<float>(sum);
          if (call_.has_addend) value += read(call_.element, pointers.addend, to);
          if (call_.has_bias) value += read(call_.element, pointers.bias, filter);
          if (call_.relu) value = std::max(value, 0.0F);
          write(call_.element, pointers.y, to++, value);
        }
      }
    return {};
  }

 private:
  // The sizes of an image as a volume.
  using Volume = std::array<std::int64_t, 3>;
  static Volume sizes(const Shape& shape) {
    return {shape.rank() == 5 ? shape[2] : 1, shape[shape.rank() - 2], shape[shape.rank() - 1]};
  }
  static std::int64_t volume(const Shape& shape) {
    const auto [depth, height, width] = sizes(shape);
    return depth * height * width;
  }
  [[nodiscard]] Volume of_axes(const std::vector<std::int64_t>& values,
                               std::int64_t missing) const {
    return {values.size() == 3 ? values[0] : missing, values[values.size() - 2], values.back()};
  }

  [[nodiscard]] std::vector<float> floats(const void* data, const Shape& shape) const {
    std::vector<float> values(static_cast<std::size_t>(*shape.elements()));
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = read(call_.element, data, static_cast<std::int64_t>(i));
    return values;
  }

  // One image by one filter, added to the sums.
  void add(const float* x, const float* w, double* sums) const {
    const Volume in = sizes(call_.x), out = sizes(call_.y), kernel = sizes(call_.w);
    const Volume strides = of_axes(call_.strides, 1), dilations = of_axes(call_.dilations, 1);
    const Volume pads = of_axes(call_.pads, 0);
    const auto position = [&](std::size_t axis, std::int64_t at, std::int64_t in_filter) {
      return at * strides[axis] + in_filter * dilations[axis] - pads[axis];
    };
    const auto inside = [&](std::size_t axis, std::int64_t at) { return at >= 0 && at < in[axis]; };
    for (std::int64_t i = 0; i < kernel[0]; ++i)
      for (std::int64_t j = 0; j < kernel[1]; ++j)
        for (std::int64_t k = 0; k < kernel[2]; ++k, ++w)
          for (std::int64_t oz = 0; oz < out[0]; ++oz)
            for (std::int64_t oy = 0; oy < out[1]; ++oy) {
              const std::int64_t z = position(0, oz, i), y = position(1, oy, j);
              if (!inside(0, z) || !inside(1, y)) continue;
              const float* row = x + (z * in[1] + y) * in[2];
              double* to = sums + (oz * out[1] + oy) * out[2];
              for (std::int64_t ox = 0; ox < out[2]; ++ox)
                if (const std::int64_t at = position(2, ox, k); inside(2, at))
                  to[ox] += static_cast<double>(*w) * static_cast<double>(row[at]);
            }
  }

  const ConvolutionCall call_;
};

}  // namespace

Result<std::shared_ptr<std::byte>> HostGpu::allocate(std::uint64_t bytes) {
  allocated += bytes;
  if (bytes == 0) return std::shared_ptr<std::byte>();
  auto memory = std::make_shared<AlignedMemory>(bytes);
  std::memset(memory->data(), 0xFF, bytes);
  return std::shared_ptr<std::byte>(memory, memory->data());
}

Result<> HostGpu::upload(std::byte* to, std::span<const std::byte> from) {
  std::copy(from.begin(), from.end(), to);
  return {};
}

Result<> HostGpu::enqueue(const Work& work, Stream) {
  ++enqueued;
  std::visit([](const auto& each) { choose(each, OnHost()); }, work);
  return {};
}

// cuDNN's own conditions, so that nobody asks it for more.
Result<std::unique_ptr<Convolver>> HostGpu::convolver(const ConvolutionCall& call) {
  if (call.is_fused() && !fuses) return fail(ErrorCode::unsupported, "nothing is fused here");
  const std::size_t axes = call.pads.size();
  bool allowed = (axes == 2 || axes == 3) && call.x.rank() == axes + 2 &&
                 call.w.rank() == axes + 2 && call.y.rank() == axes + 2 &&
                 call.strides.size() == axes && call.dilations.size() == axes;
  for (std::size_t i = 0; allowed && i < axes; ++i) {
    const std::int64_t extent = (call.w[i + 2] - 1) * call.dilations[i] + 1;
    allowed = (call.x[i + 2] + 2 * call.pads[i] - extent) / call.strides[i] + 1 == call.y[i + 2];
  }
  if (!allowed) return fail(ErrorCode::invalid_input, "a convolution that cuDNN does not take");
  return std::make_unique<PlainConvolver>(call);
}

Result<> HostGpu::multiply(const MatrixProduct& product, const void* a, const void* b, void* y,
                           std::byte* workspace, Stream) {
  std::fill(workspace, workspace + product_workspace_bytes(), workspace_content);
  const auto& [rows, inner, columns] = std::tie(product.rows, product.inner, product.columns);
  for (std::int64_t batch = 0; batch < product.batch; ++batch)
    for (std::int64_t row = 0; row < rows; ++row)
      for (std::int64_t column = 0; column < columns; ++column) {
        double sum = 0;
        for (std::int64_t k = 0; k < inner; ++k) {
          const std::int64_t left = product.transpose_a ? k * rows + row : row * inner + k;
          const std::int64_t right =
              product.transpose_b ? column * inner + k : k * columns + column;
          sum += static_cast<double>(read(product.element, a, batch * product.a_stride + left)) *
                 static_cast<double>(read(product.element, b, batch * product.b_stride + right));
        }
        write(product.element, y, batch * product.y_stride + row * columns + column,
              product.alpha * static_cast<float>(sum));
      }
  return {};
}

}  // namespace opsplit::operators::cuda::testing
