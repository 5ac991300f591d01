// The numbers of a Winograd convolution that its packed weights and its code agree on, and the code
// itself: compiled once per instruction set.
//
// A 3x3 convolution of stride 1 becomes a product of matrices: squares of the input, each as large as
// `outputs` + 2 on a side and overlapping by 2, are transformed; at each of the points of such a square
// the channels are multiplied with the (transformed) weights; the sums are transformed back into squares
// of `outputs` on a side. That takes 9 / 2.25 (outputs 2) or 9 / 4 (outputs 4) as many multiplications.
// Lavin and Gray, "Fast algorithms for convolutional neural networks", 2015, has the transforms.
#pragma once

#include <cstddef>
#include <cstdint>

namespace opsplit::operators::winograd {

// Elements are floats, and so are distances. A vector is as many channels as a register holds; its
// channels lie side by side in every layout that is used.
struct Image {
  std::int64_t row, pixel, vector;  // distances
};

// One thread's work at a time: tiles [first_tile, last_tile) of one image and group, and of the output
// channels those in vectors [first_vector, last_vector), of which the first is even.
struct Work {
  int outputs = 4;  // on a side of a tile: 2 or 4
  std::int64_t height = 0, width = 0, pad_top = 0, pad_left = 0;
  std::int64_t out_height = 0, out_width = 0, tiles_across = 0;
  std::int64_t channels = 0, out_channels = 0;
  Image in = {}, out = {};
  const float* input = nullptr;
  const float* weights = nullptr;  // [point][pair of vectors][channel][output channel]
  const float* bias = nullptr;     // whole vectors; null: none
  const float* addend = nullptr;   // lies like the output; null: none
  float* output = nullptr;
  float low = 0, high = 0;  // what the output is clamped to
  std::int64_t first_tile = 0, last_tile = 0, first_vector = 0, last_vector = 0;
  float* scratch = nullptr;  // of this thread, 64-byte aligned: scratch_floats() of them
};

struct Code {
  int vector;  // floats
  void (*run)(const Work& work);
};

// For the instruction sets that this CPU has; null if there is none.
const Code* code();
const Code* avx2_code();
const Code* avx512_code();

constexpr std::int64_t points(int outputs) { return (outputs + 2) * (outputs + 2); }
constexpr std::int64_t whole_vectors(std::int64_t channels, int vector) {
  return (channels + vector - 1) / vector;
}

// A matrix for each point, one after the other: transformed tiles or sums. Rows and matrices are an odd
// number of cache lines apart, else they would fall into a few sets of the cache.
struct Matrices {
  std::int64_t row, matrix;  // distances

  constexpr Matrices(std::int64_t rows, std::int64_t vectors, int vector)
      : row(odd_lines(vectors * vector)), matrix(odd_lines(rows * row)) {}

 private:
  static constexpr std::int64_t odd_lines(std::int64_t floats) {
    return ((floats + 15) / 16 | 1) * 16;
  }
};

constexpr std::int64_t scratch_floats(int outputs, std::int64_t tiles, std::int64_t vectors,
                                      std::int64_t out_vectors, int vector) {
  return points(outputs) *
         (Matrices(tiles, vectors, vector).matrix + Matrices(tiles, out_vectors, vector).matrix);
}

}  // namespace opsplit::operators::winograd
