#include "operators/kernels/winograd.hpp"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <utility>

#include "operators/kernels/sequence.hpp"
#include "operators/kernels/winograd_tile.hpp"

namespace opsplit::operators {

namespace winograd {

const Code* code() {
  const Code* widest = avx512_code();
  return widest != nullptr ? widest : avx2_code();
}

}  // namespace winograd

namespace {

using winograd::points;
using winograd::whole_vectors;

constexpr std::size_t weights_input = 1;
constexpr std::size_t bias_input = 2;
constexpr std::int64_t fewest_channels = 8;  // below, transforms cost more than they save

const Operand* bias_of(const KernelSpec& spec) {
  const auto& inputs = spec.node->inputs;
  return inputs.size() > bias_input && inputs[bias_input] != graph::no_value
             ? &spec.inputs[bias_input]
             : nullptr;
}

// Distances in an image of `channels` in all.
std::optional<winograd::Image> distances(const Operand& image, int vector) {
  const Shape& shape = image.type.shape;
  if (image.layout == Layout::nhwc) return winograd::Image{shape[3] * shape[1], shape[1], vector};
  const bool blocked = (image.layout == Layout::nChw8c && vector == 8) ||
                       (image.layout == Layout::nChw16c && vector == 16);
  if (!blocked || shape[1] % vector != 0) return std::nullopt;
  return winograd::Image{shape[3] * vector, vector, shape[2] * shape[3] * vector};
}

// What of a kernel's post-ops is computed on the way; the rest become passes of their own.
struct Epilogue {
  float low = -std::numeric_limits<float>::infinity();
  float high = std::numeric_limits<float>::infinity();
  bool adds_to_output = false;
  std::optional<std::size_t> addend;  // an input
  std::size_t taken = 0;              // post-ops
};

Epilogue epilogue_of(const KernelSpec& spec) {
  Epilogue result;
  const auto next = [&]() -> const PostOp* {
    return result.taken < spec.post_ops.size() ? &spec.post_ops[result.taken] : nullptr;
  };
  if (const PostOp* op = next()) {
    const Operand& output = spec.outputs[0];
    if (op->kind == PostOp::Kind::sum) {
      result.adds_to_output = true;
      ++result.taken;
    } else if (op->kind == PostOp::Kind::binary && op->binary == BinaryFunction::add &&
               spec.inputs[op->operand].type == output.type &&
               spec.inputs[op->operand].layout == output.layout) {
      result.addend = op->operand;
      ++result.taken;
    }
  }
  if (const PostOp* op = next(); op != nullptr && op->kind == PostOp::Kind::activation) {
    const bool relu = op->activation.function == ActivationFunction::relu;
    if (relu || op->activation.function == ActivationFunction::clip) {
      result.low = relu ? 0 : op->activation.alpha;
      if (!relu) result.high = op->activation.beta;
      ++result.taken;
    }
  }
  return result;
}

// How the work is cut: tiles of an image and group into blocks, output channels into parts.
struct Cut {
  std::int64_t blocks = 1, parts = 1;
};

struct Problem {
  std::int64_t images, groups, tiles, channels, out_channels;  // channels of one group
  int outputs, vector, threads;

  [[nodiscard]] std::int64_t pairs() const { return (whole_vectors(out_channels, vector) + 1) / 2; }
};

// Estimated cycles of the busiest thread. A block's tiles and sums should stay in the second-level
// cache, but the more tiles a block has, the less often all weights are read.
double cost(const Problem& problem, const Cut& cut) {
  constexpr double cache_bytes = 1 << 20;
  constexpr double near = 32, streamed = 10, spilled = 3;  // bytes per cycle
  const auto split = [](std::int64_t whole, std::int64_t parts) {
    return static_cast<double>((whole + parts - 1) / parts);
  };
  const double tiles = split(problem.tiles, cut.blocks);
  const double vectors = 2 * split(problem.pairs(), cut.parts);
  const auto channels = static_cast<double>(problem.channels);
  const auto every_point = static_cast<double>(points(problem.outputs));
  const double images = 4 * every_point * tiles * (channels + vectors * problem.vector);
  const double weights = 4 * every_point * channels * vectors * problem.vector;
  const bool spills = images > cache_bytes;
  const double multiply = every_point * channels * vectors / 2 * (tiles + tiles / 12 + 1);
  const double move = images / near + (spills ? 2 * images / spilled : 0) +
                      (images + weights > cache_bytes ? weights / streamed : 0);
  return split(problem.images * problem.groups * cut.blocks * cut.parts, problem.threads) *
         (multiply + move);
}

Cut best_cut(const Problem& problem) {
  Cut best;
  double least = std::numeric_limits<double>::infinity();
  for (std::int64_t blocks = 1; blocks <= problem.tiles; ++blocks) {
    // Channels are parted only where there are fewer blocks than threads: each part transforms the tiles.
    const std::int64_t busy = problem.images * problem.groups * blocks;
    const std::int64_t parts = std::min(problem.pairs(), (problem.threads + busy - 1) / busy);
    if (const double cycles = cost(problem, {blocks, parts}); cycles < least) {
      least = cycles;
      best = {blocks, parts};
    }
  }
  return best;
}

// G g G^T, in double precision: the result is used many times.
void transform_weights(const float* g, int outputs, std::array<float, 36>& result) {
  static constexpr double two[4][3] = {{1, 0, 0}, {.5, .5, .5}, {.5, -.5, .5}, {0, 0, 1}};
  static constexpr double four[6][3] = {{1. / 4, 0, 0},
                                        {-1. / 6, -1. / 6, -1. / 6},
                                        {-1. / 6, 1. / 6, -1. / 6},
                                        {1. / 24, 1. / 12, 1. / 6},
                                        {1. / 24, -1. / 12, 1. / 6},
                                        {0, 0, 1}};
  const auto* matrix = outputs == 2 ? two : four;
  const int side = outputs + 2;
  for (int y = 0; y < side; ++y) {
    double row[3] = {};
    for (int x = 0; x < 3; ++x)
      for (int i = 0; i < 3; ++i) row[x] += matrix[y][i] * static_cast<double>(g[i * 3 + x]);
    for (int x = 0; x < side; ++x) {
      double sum = 0;
      for (int i = 0; i < 3; ++i) sum += row[i] * matrix[x][i];
      result[static_cast<std::size_t>(y * side + x)] = static_cast<float>(sum);
    }
  }
}

// As Work::weights describes it, group after group.
void pack(const Problem& problem, const float* weights, float* packed) {
  const std::int64_t vectors = whole_vectors(problem.out_channels, problem.vector);
  const std::int64_t matrix = vectors * problem.vector * problem.channels;
#pragma omp parallel for collapse(2)
  for (std::int64_t group = 0; group < problem.groups; ++group)
    for (std::int64_t vector = 0; vector < vectors; vector += 2) {
      const std::int64_t width = std::min<std::int64_t>(vectors - vector, 2) * problem.vector;
      const std::int64_t first = vector * problem.vector;
      float* panel = packed + group * points(problem.outputs) * matrix + first * problem.channels;
      std::array<float, 36> transformed{};
      for (std::int64_t c = 0; c < problem.channels; ++c)
        for (std::int64_t k = 0; k < width; ++k) {
          const std::int64_t out = group * problem.out_channels + first + k;
          if (first + k < problem.out_channels)
            transform_weights(weights + (out * problem.channels + c) * 9, problem.outputs,
                              transformed);
          else
            transformed.fill(0);
          for (std::int64_t point = 0; point < points(problem.outputs); ++point)
            panel[point * matrix + c * width + k] = transformed[static_cast<std::size_t>(point)];
        }
    }
}

class WinogradKernel final : public Kernel {
 public:
  // `work` says all that is the same in each run.
  WinogradKernel(const winograd::Code& code, const Problem& problem, const winograd::Work& work,
                 const Epilogue& epilogue, AlignedMemory bias, const KernelResources& resources)
      : code_(code),
        problem_(problem),
        cut_(best_cut(problem)),
        work_(work),
        epilogue_(epilogue),
        bias_(std::move(bias)),
        scratchpad_(resources.scratchpad) {
    const std::int64_t tiles = (problem.tiles + cut_.blocks - 1) / cut_.blocks;
    const std::int64_t pairs = (problem.pairs() + cut_.parts - 1) / cut_.parts;
    scratch_floats_ = winograd::scratch_floats(problem.outputs, tiles,
                                               whole_vectors(problem.channels, problem.vector),
                                               2 * pairs, problem.vector);
    scratchpad_->reserve(static_cast<std::size_t>(scratch_floats_ * problem.threads) *
                         sizeof(float));
  }

  Result<> run(std::span<const TensorView> inputs,
               std::span<const MutableTensorView> outputs) override {
    winograd::Work whole = work_;
    whole.input = inputs[0].as<float>();
    whole.output = outputs[0].as<float>();
    if (epilogue_.adds_to_output) whole.addend = whole.output;
    if (epilogue_.addend) whole.addend = inputs[*epilogue_.addend].as<float>();
    auto* scratch = reinterpret_cast<float*>(scratchpad_->data());
    const std::int64_t count = problem_.images * problem_.groups * cut_.blocks * cut_.parts;
#pragma omp parallel for schedule(static) num_threads(problem_.threads) if (count > 1)
    for (std::int64_t index = 0; index < count; ++index) {
      winograd::Work part = part_of(whole, index);
      part.scratch = scratch + omp_get_thread_num() * scratch_floats_;
      code_.run(part);
    }
    return {};
  }

 private:
  // Parts of the same tiles come one after the other.
  [[nodiscard]] winograd::Work part_of(const winograd::Work& whole, std::int64_t index) const {
    winograd::Work work = whole;
    const std::int64_t part = index % cut_.parts;
    const std::int64_t block = index / cut_.parts % cut_.blocks;
    const std::int64_t group = index / cut_.parts / cut_.blocks % problem_.groups;
    const std::int64_t image = index / cut_.parts / cut_.blocks / problem_.groups;
    const std::int64_t vectors = whole_vectors(problem_.out_channels, problem_.vector);
    work.first_tile = problem_.tiles * block / cut_.blocks;
    work.last_tile = problem_.tiles * (block + 1) / cut_.blocks;
    work.first_vector = problem_.pairs() * part / cut_.parts * 2;
    work.last_vector = std::min(vectors, problem_.pairs() * (part + 1) / cut_.parts * 2);
    const std::int64_t in_image = work.height * work.width * problem_.groups * problem_.channels;
    const std::int64_t out_image =
        work.out_height * work.out_width * problem_.groups * problem_.out_channels;
    // In a blocked layout groups are whole vectors.
    const auto channel = [&](const winograd::Image& lies, std::int64_t channels) {
      return group * channels / problem_.vector * lies.vector + group * channels % problem_.vector;
    };
    work.input += image * in_image + channel(work.in, problem_.channels);
    const std::int64_t out = image * out_image + channel(work.out, problem_.out_channels);
    work.output += out;
    if (work.addend != nullptr) work.addend += out;
    work.weights +=
        group * points(problem_.outputs) * problem_.channels * vectors * problem_.vector;
    if (work.bias != nullptr) work.bias += group * vectors * problem_.vector;
    return work;
  }

  const winograd::Code& code_;
  Problem problem_;
  Cut cut_;
  winograd::Work work_;
  Epilogue epilogue_;
  AlignedMemory bias_;
  std::shared_ptr<Scratchpad> scratchpad_;
  std::int64_t scratch_floats_ = 0;  // of a thread
};

Problem problem_of(const KernelSpec& spec, const Convolution& convolution, WinogradTile tile,
                   int vector) {
  const Shape& x = spec.inputs[0].type.shape;
  const Shape& y = spec.outputs[0].type.shape;
  const auto outputs = static_cast<int>(tile);
  const auto tiles = [&](std::int64_t size) { return (size + outputs - 1) / outputs; };
  return {.images = x[0],
          .groups = convolution.groups,
          .tiles = tiles(y[2]) * tiles(y[3]),
          .channels = x[1] / convolution.groups,
          .out_channels = y[1] / convolution.groups,
          .outputs = outputs,
          .vector = vector,
          .threads = omp_get_max_threads()};
}

Result<const float*> packed_weights(const graph::Constant& weights, const Problem& problem,
                                    const KernelResources& resources) {
  const std::string key = fmt::format(
      "winograd format 1, {} of vectors of {}; content {}; {} groups of {}x{}", problem.outputs,
      problem.vector, weights.hash(), problem.groups, problem.out_channels, problem.channels);
  const std::int64_t floats = points(problem.outputs) * problem.groups * problem.channels *
                              whole_vectors(problem.out_channels, problem.vector) * problem.vector;
  OPSPLIT_TRY(const auto packed,
              resources.weights->get(key, static_cast<std::uint64_t>(floats) * sizeof(float),
                                     [&](std::byte* data) -> Result<> {
                                       pack(problem,
                                            reinterpret_cast<const float*>(weights.bytes.data()),
                                            reinterpret_cast<float*>(data));
                                       return {};
                                     }));
  return reinterpret_cast<const float*>(packed.data());
}

// Whole vectors for each group.
AlignedMemory padded_bias(const graph::Constant& bias, const Problem& problem) {
  const std::int64_t width = whole_vectors(problem.out_channels, problem.vector) * problem.vector;
  AlignedMemory memory(static_cast<std::size_t>(problem.groups * width) * sizeof(float));
  auto* to = reinterpret_cast<float*>(memory.data());
  const auto* from = reinterpret_cast<const float*>(bias.bytes.data());
  for (std::int64_t group = 0; group < problem.groups; ++group, to += width) {
    std::fill_n(to, width, 0.0F);
    std::copy_n(from + group * problem.out_channels, problem.out_channels, to);
  }
  return memory;
}

}  // namespace

bool takes_winograd(const KernelSpec& spec, const Convolution& convolution,
                    const winograd::Code* code) {
  const Window& window = convolution.window;
  const std::vector<std::int64_t> three{3, 3}, one{1, 1};
  if (code == nullptr || window.kernel != three || window.strides != one ||
      window.dilations != one || spec.inputs[weights_input].constant == nullptr)
    return false;
  const Operand* bias = bias_of(spec);
  if (bias != nullptr && bias->constant == nullptr) return false;
  for (const Operand* image : {&spec.inputs[0], &spec.outputs[0]}) {
    const std::int64_t channels = image->type.shape[1] / convolution.groups;
    if (channels < fewest_channels || !distances(*image, code->vector)) return false;
    if (convolution.groups > 1 && image->layout != Layout::nhwc && channels % code->vector != 0)
      return false;
  }
  return true;
}

Result<std::unique_ptr<Kernel>> make_winograd(const KernelSpec& spec,
                                              const Convolution& convolution, WinogradTile tile,
                                              const KernelResources& resources,
                                              const winograd::Code& code) {
  const Problem problem = problem_of(spec, convolution, tile, code.vector);
  const Shape& x = spec.inputs[0].type.shape;
  const Shape& y = spec.outputs[0].type.shape;
  const Epilogue epilogue = epilogue_of(spec);
  AlignedMemory bias;
  if (const Operand* operand = bias_of(spec)) bias = padded_bias(*operand->constant, problem);
  winograd::Work work;
  work.outputs = problem.outputs;
  work.height = x[2];
  work.width = x[3];
  work.pad_top = convolution.window.pads_begin[0];
  work.pad_left = convolution.window.pads_begin[1];
  work.out_height = y[2];
  work.out_width = y[3];
  work.tiles_across = (y[3] + problem.outputs - 1) / problem.outputs;
  work.channels = problem.channels;
  work.out_channels = problem.out_channels;
  work.in = *distances(spec.inputs[0], code.vector);
  work.out = *distances(spec.outputs[0], code.vector);
  work.bias = reinterpret_cast<const float*>(bias.data());
  work.low = epilogue.low;
  work.high = epilogue.high;
  OPSPLIT_TRY(work.weights,
              packed_weights(*spec.inputs[weights_input].constant, problem, resources));
  auto kernel =
      std::make_unique<WinogradKernel>(code, problem, work, epilogue, std::move(bias), resources);
  KernelSpec rest = spec;
  rest.post_ops.erase(rest.post_ops.begin(),
                      rest.post_ops.begin() + static_cast<std::ptrdiff_t>(epilogue.taken));
  return with_separate_post_ops(std::move(kernel), rest, resources);
}

}  // namespace opsplit::operators
