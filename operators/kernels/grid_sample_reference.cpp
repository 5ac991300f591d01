// GridSample: an image of any number of axes, read at places between its elements.
#include <array>
#include <cmath>

#include "operators/kernels/elementwise.hpp"

namespace opsplit::operators::reference {
namespace {

enum class Mode { nearest, linear, cubic };
enum class Padding { zeros, border, reflection };

struct Sampling {
  Mode mode = Mode::linear;
  Padding padding = Padding::zeros;
  bool align_corners = false;
};

constexpr std::int64_t outside = -1;

// From -1 ... 1 to elements of an axis.
double position_of(double x, std::int64_t size, bool align_corners) {
  const auto length = static_cast<double>(size);
  return align_corners ? (x + 1) / 2 * (length - 1) : ((x + 1) * length - 1) / 2;
}

double reflected(double x, double low, double high) {
  const double range = high - low;
  if (range <= 0) return low;
  double beyond = std::fmod(std::abs(x - low), 2 * range);
  if (beyond > range) beyond = 2 * range - beyond;
  return low + beyond;
}

// The element that is read at `index`, which may lie outside.
std::int64_t padded(double index, std::int64_t size, const Sampling& sampling) {
  const auto last = static_cast<double>(size - 1);
  if (!(index >= 0 && index <= last)) {
    if (sampling.padding == Padding::zeros) return outside;
    if (sampling.padding == Padding::reflection)
      index =
          sampling.align_corners ? reflected(index, 0, last) : reflected(index, -0.5, last + 0.5);
    if (std::isnan(index)) return outside;
    index = std::clamp(std::nearbyint(index), 0.0, last);
  }
  return static_cast<std::int64_t>(index);
}

// The elements along one axis that count at a position, and how much.
struct Taps {
  std::array<std::int64_t, 4> index{};
  std::array<double, 4> weight{};
  int count = 0;
};

Taps taps_of(double x, std::int64_t size, const Sampling& sampling) {
  double position = position_of(x, size, sampling.align_corners);
  const auto last = static_cast<double>(size - 1);
  if (sampling.mode != Mode::cubic) {
    // A position beyond the border is moved before its neighbours are looked for.
    if (sampling.padding == Padding::border) position = std::clamp(position, 0.0, last);
    if (sampling.padding == Padding::reflection) {
      position = sampling.align_corners ? reflected(position, 0, last)
                                        : reflected(position, -0.5, last + 0.5);
      position = std::clamp(position, 0.0, last);
    }
  }
  Taps taps;
  const auto add = [&](double index, double weight) {
    const auto at = static_cast<std::size_t>(taps.count++);
    taps.index[at] = padded(index, size, sampling);
    taps.weight[at] = weight;
  };
  const double below = std::floor(position), t = position - below;
  switch (sampling.mode) {
    case Mode::nearest:
      add(std::nearbyint(position), 1);
      break;
    case Mode::linear:
      add(below, 1 - t);
      add(below + 1, t);
      break;
    case Mode::cubic: {
      constexpr double a = -0.75;
      const auto far = [](double d) { return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a; };
      const auto near = [](double d) { return ((a + 2) * d - (a + 3)) * d * d + 1; };
      add(below - 1, far(1 + t));
      add(below, near(t));
      add(below + 1, near(1 - t));
      add(below + 2, far(2 - t));
      break;
    }
  }
  return taps;
}

Result<Sampling> sampling_of(const Call& call) {
  const std::string mode = call.node.text("mode", "linear");
  const std::string padding = call.node.text("padding_mode", "zeros");
  Sampling sampling;
  sampling.mode = mode == "nearest"                      ? Mode::nearest
                  : mode == "cubic" || mode == "bicubic" ? Mode::cubic
                                                         : Mode::linear;
  sampling.padding = padding == "border"       ? Padding::border
                     : padding == "reflection" ? Padding::reflection
                                               : Padding::zeros;
  sampling.align_corners = call.node.integer("align_corners", 0) != 0;
  return sampling;
}

// The weighted sum of the elements under the taps of all axes.
double sample(const float* image, const Coordinates& strides, const std::vector<Taps>& taps) {
  double sum = 0;
  std::array<int, Shape::max_rank> at{};
  while (true) {
    double weight = 1;
    std::int64_t offset = 0;
    for (std::size_t axis = 0; axis < taps.size(); ++axis) {
      const auto tap = static_cast<std::size_t>(at[axis]);
      const std::int64_t index = taps[axis].index[tap];
      weight *= index == outside ? 0 : taps[axis].weight[tap];
      offset += std::max<std::int64_t>(index, 0) * strides[axis + 2];
    }
    if (weight != 0) sum += weight * static_cast<double>(image[offset]);
    std::size_t axis = taps.size();
    while (axis > 0 && ++at[axis - 1] == taps[axis - 1].count) at[--axis] = 0;
    if (axis == 0) return sum;
  }
}

}  // namespace

Result<> grid_sample(const Call& call) {
  const TensorView& x = call.inputs[0];
  const TensorView& grid = call.inputs[1];
  const MutableTensorView& y = call.outputs[0];
  const std::size_t rank = x.type.shape.rank();
  bool fits = rank >= 3 && grid.type.shape.rank() == rank && y.type.shape.rank() == rank &&
              x.type.dtype == float32 && grid.type.dtype == float32 && y.type.dtype == float32 &&
              grid.type.shape[rank - 1] == static_cast<std::int64_t>(rank - 2) &&
              grid.type.shape[0] == x.type.shape[0] && y.type.shape[0] == x.type.shape[0] &&
              y.type.shape[1] == x.type.shape[1];
  for (std::size_t axis = 2; axis < rank && fits; ++axis)
    fits = y.type.shape[axis] == grid.type.shape[axis - 1] && x.type.shape[axis] > 0;
  if (!fits)
    return fail(ErrorCode::invalid_input, "GridSample of {} at {} giving {}", to_string(x.type),
                to_string(grid.type), to_string(y.type));
  OPSPLIT_TRY(const Sampling sampling, sampling_of(call));
  const Coordinates x_strides = strides_of(x.type.shape);
  const Coordinates y_strides = strides_of(y.type.shape);
  Shape places = grid.type.shape;
  places[rank - 1] = 1;
  const float* place = grid.as<float>();
  std::vector<Taps> taps(rank - 2);
  for_each_index(places, [&](const Coordinates& at) {
    for (std::size_t axis = 0; axis < taps.size(); ++axis)  // the last axis comes first
      taps[axis] = taps_of(static_cast<double>(place[taps.size() - 1 - axis]),
                           x.type.shape[axis + 2], sampling);
    place += taps.size();
    std::int64_t to = at[0] * y_strides[0];
    for (std::size_t axis = 1; axis + 1 < rank; ++axis) to += at[axis] * y_strides[axis + 1];
    for (std::int64_t channel = 0; channel < x.type.shape[1]; ++channel)
      y.as<float>()[to + channel * y_strides[1]] = static_cast<float>(
          sample(x.as<float>() + at[0] * x_strides[0] + channel * x_strides[1], x_strides, taps));
  });
  return {};
}

}  // namespace opsplit::operators::reference
