// What our own kernels are asked to do: plain arguments, as they are passed to the GPU. What one means
// for an index is in the *_body.hpp of its family; both run the same on the CPU.
//
// Strides and offsets count elements. Sizes are non-negative and their products fit into 63 bits, as
// those of a plan do. Pointers are device pointers, put in for each launch.
#pragma once

#include <cstdint>
#include <variant>

#include "operators/kernels/functions.hpp"

namespace opsplit::operators::cuda {

constexpr int max_rank = 8;     // Shape::max_rank
constexpr int window_axes = 3;  // of an image; those that it has not are 1 and come first

enum class Element : std::uint8_t { float32, float16 };  // computed with as float32 both

constexpr int bytes_of(Element element) { return element == Element::float16 ? 2 : 4; }

// y = a chain of functions of x and of further operands, all broadcast to y. x, which is operand 0,
// may lie where y lies.
struct Pointwise {
  static constexpr int max_operands = 6;
  static constexpr int max_steps = 8;
  struct Step {
    bool is_binary = false;
    bool operand_first = false;  // f(operand, value) instead of f(value, operand)
    ActivationFunction activation = {};
    BinaryFunction binary = {};
    std::int32_t operand = 0;
    float alpha = 0, beta = 0;  // of the activation; a binary step multiplies its operand by alpha
  };
  Element element = {};
  std::int32_t rank = 0, operands = 0, steps = 0;
  std::int64_t elements = 0;
  std::int64_t dims[max_rank] = {};
  const void* data[max_operands] = {};
  std::int64_t strides[max_operands][max_rank] = {};
  Step step[max_steps] = {};
  void* y = nullptr;
};

// Between float32 and float16.
struct Cast {
  Element from = {}, to = {};
  std::int64_t elements = 0;
  const void* x = nullptr;
  void* y = nullptr;
};

// y = (x - mean) / sqrt(variance + epsilon) scale + shift, the four by channel. x is images x channels
// x inner.
struct Normalization {
  Element element = {}, parameter = {};
  std::int64_t elements = 0, channels = 1, inner = 1;
  float epsilon = 0;
  const void* x = nullptr;
  const void *scale = nullptr, *shift = nullptr, *mean = nullptr, *variance = nullptr;
  void* y = nullptr;
};

enum class Reduction : std::uint8_t { maximum, average };

// A window that moves over `images` (batch x channels) images.
struct Pool {
  Element element = {};
  Reduction reduction = {};
  bool count_padding = false;  // an average divides by what lies in the declared padding, too
  std::int64_t images = 0;
  std::int64_t in[window_axes] = {}, out[window_axes] = {};
  std::int64_t kernel[window_axes] = {}, strides[window_axes] = {}, dilations[window_axes] = {};
  std::int64_t pads[window_axes] = {};  // before the image
  std::int64_t ends[window_axes] = {};  // where the declared padding behind it ends
  const void* x = nullptr;
  void* y = nullptr;
};

// One number for each of `rows` rows of `size` elements.
struct RowReduction {
  Element element = {};
  Reduction reduction = {};
  std::int64_t rows = 0, size = 0;
  const void* x = nullptr;
  void* y = nullptr;
};

// Over `size` elements that lie `inner` apart, `outer` x `inner` times.
struct SoftmaxRows {
  Element element = {};
  std::int64_t outer = 1, size = 1, inner = 1;
  const void* x = nullptr;
  void* y = nullptr;
};

// Moves units of 1 to 16 bytes: y[y_offset + at y_strides] = x[x_offset + at x_strides].
struct Move {
  std::int32_t unit = 1, rank = 0;  // bytes; a power of two
  std::int64_t elements = 0;
  std::int64_t dims[max_rank] = {};
  std::int64_t x_strides[max_rank] = {}, y_strides[max_rank] = {};
  std::int64_t x_offset = 0, y_offset = 0;
  const void* x = nullptr;
  void* y = nullptr;
};

enum class PadMode : std::uint8_t { constant, edge, reflect, wrap };

// y[at] = x[at - before], or what the mode has where that is not in x.
struct Pad {
  std::int32_t unit = 1, rank = 0;  // bytes of an element: 1, 2, 4 or 8
  PadMode mode = PadMode::constant;
  std::int64_t elements = 0;  // of y
  std::int64_t y_dims[max_rank] = {}, x_dims[max_rank] = {};
  std::int64_t before[max_rank] = {};
  const void* x = nullptr;
  const void* value = nullptr;  // one element, of mode constant; null: `bits`
  std::uint64_t bits = 0;       // the element's bytes, the first one lowest
  void* y = nullptr;
};

using Work =
    std::variant<Pointwise, Cast, Normalization, Pool, RowReduction, SoftmaxRows, Move, Pad>;

}  // namespace opsplit::operators::cuda
