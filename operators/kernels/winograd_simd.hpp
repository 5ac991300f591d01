// The code of a Winograd convolution, for whatever the includer has defined as a vector: a type Vector
// with arithmetic operators, and functions load, load_part, store, store_part, broadcast, fma, clamp.
// No include: it stands in the includer's unnamed namespace, under its instruction set.

constexpr std::int64_t line = 16;  // floats

// B^T d for a column or row d of 4 or 6.
template <int outputs>
inline void transform_input(const Vector* d, int from, Vector* out, int to) {
  if constexpr (outputs == 2) {
    out[0] = d[0] - d[2 * from];
    out[to] = d[from] + d[2 * from];
    out[2 * to] = d[2 * from] - d[from];
    out[3 * to] = d[from] - d[3 * from];
  } else {
    const Vector two = broadcast(2), four = broadcast(4), minus_five = broadcast(-5);
    const Vector d0 = d[0], d1 = d[from], d2 = d[2 * from], d3 = d[3 * from], d4 = d[4 * from],
                 d5 = d[5 * from];
    const Vector even = fma(-four, d2, d4), odd = fma(-four, d1, d3);
    const Vector near = d4 - d2, far = two * (d3 - d1);
    out[0] = fma(minus_five, d2, fma(four, d0, d4));
    out[to] = even + odd;
    out[2 * to] = even - odd;
    out[3 * to] = near + far;
    out[4 * to] = near - far;
    out[5 * to] = fma(minus_five, d3, fma(four, d1, d5));
  }
}

// A^T m for a column or row m of 4 or 6.
template <int outputs>
inline void transform_output(const Vector* m, int from, Vector* out, int to) {
  if constexpr (outputs == 2) {
    out[0] = m[0] + m[from] + m[2 * from];
    out[to] = m[from] - m[2 * from] - m[3 * from];
  } else {
    const Vector sum = m[from] + m[2 * from], difference = m[from] - m[2 * from];
    const Vector far_sum = m[3 * from] + m[4 * from], far_difference = m[3 * from] - m[4 * from];
    out[0] = m[0] + sum + far_sum;
    out[to] = fma(broadcast(2), far_difference, difference);
    out[2 * to] = fma(broadcast(4), far_sum, sum);
    out[3 * to] = fma(broadcast(8), far_difference, difference) + m[5 * from];
  }
}

struct Tile {
  std::int64_t y, x;  // of its first output
};

inline Tile tile_at(const Work& work, std::int64_t index) {
  return {index / work.tiles_across * work.outputs, index % work.tiles_across * work.outputs};
}

template <int outputs>
void transform_inputs(const Work& work, float* transformed, const Matrices& lie) {
  constexpr int side = outputs + 2;
  const std::int64_t whole = work.channels / lanes;
  const int rest = static_cast<int>(work.channels % lanes);
  for (std::int64_t index = work.first_tile; index < work.last_tile; ++index) {
    const Tile tile = tile_at(work, index);
    const std::int64_t top = tile.y - work.pad_top, left = tile.x - work.pad_left;
    const bool inside =
        top >= 0 && left >= 0 && top + side <= work.height && left + side <= work.width;
    const float* from = work.input + top * work.in.row + left * work.in.pixel;
    float* to = transformed + (index - work.first_tile) * lie.row;
    for (std::int64_t vector = 0; vector < whole + (rest != 0 ? 1 : 0); ++vector) {
      Vector square[side * side], half[side * side], done[side * side];
      const float* data = from + vector * work.in.vector;
      if (inside && vector < whole) {
        for (int y = 0; y < side; ++y)
          for (int x = 0; x < side; ++x)
            square[y * side + x] = load(data + y * work.in.row + x * work.in.pixel);
      } else {
        for (int y = 0; y < side; ++y)
          for (int x = 0; x < side; ++x) {
            const bool there =
                top + y >= 0 && top + y < work.height && left + x >= 0 && left + x < work.width;
            const float* pixel = data + y * work.in.row + x * work.in.pixel;
            square[y * side + x] = !there           ? broadcast(0)
                                   : vector < whole ? load(pixel)
                                                    : load_part(pixel, rest);
          }
      }
      for (int x = 0; x < side; ++x) transform_input<outputs>(square + x, side, half + x, side);
      for (int y = 0; y < side; ++y)
        transform_input<outputs>(half + y * side, 1, done + y * side, 1);
      for (int point = 0; point < side * side; ++point)
        store(to + point * lie.matrix + vector * lanes, done[point]);
    }
  }
}

// A few rows of a matrix of tiles times a panel of weights: channels x (1 or 2 vectors).
struct Product {
  std::int64_t channels;
  const float* tiles;
  std::int64_t tile_row;
  const float* weights;
  const float* next;  // weights that are needed soon, a line for each channel
  float* sums;
  std::int64_t sum_row;
};

template <int rows, int vectors>
void multiply(const Product& product) {
  // Three rows from a pointer, as the CPU's addresses can: one for each would be more than it has.
  const float* row[(rows + 2) / 3];
#pragma GCC unroll 8
  for (int i = 0; i < (rows + 2) / 3; ++i) row[i] = product.tiles + 3 * i * product.tile_row;
  const std::int64_t distance = product.tile_row;
  const float* weights = product.weights;
  const float* next = product.next;
  Vector sum[rows][vectors];
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) sum[r][v] = broadcast(0);
  for (std::int64_t c = 0; c < product.channels; ++c) {
    // The weights of a layer come from afar, and in an order that the CPU does not foresee in time.
    __builtin_prefetch(next, 0, 2);
    next += line;
    Vector weight[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) weight[v] = load(weights + v * lanes);
    weights += vectors * lanes;
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      const Vector tile = broadcast(row[r / 3][r % 3 * distance]);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) sum[r][v] = fma(tile, weight[v], sum[r][v]);
    }
#pragma GCC unroll 8
    for (const float*& each : row) ++each;
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v)
      store(product.sums + r * product.sum_row + v * lanes, sum[r][v]);
}

template <int vectors, int rows = most_rows>
void multiply_rows(int wanted, const Product& product) {
  if constexpr (rows > 0) {
    if (wanted == rows)
      multiply<rows, vectors>(product);
    else
      multiply_rows<vectors, rows - 1>(wanted, product);
  }
}

void multiply_point(const Work& work, const float* tiles, const Matrices& tiles_lie,
                    const float* weights, float* sums, const Matrices& sums_lie) {
  const std::int64_t rows = work.last_tile - work.first_tile;
  const std::int64_t groups = (rows + most_rows - 1) / most_rows;
  for (std::int64_t vector = work.first_vector; vector < work.last_vector; vector += 2) {
    const std::int64_t vectors = std::min<std::int64_t>(work.last_vector - vector, 2);
    const float* panel = weights + vector * lanes * work.channels;
    for (std::int64_t group = 0; group < groups; ++group) {
      const std::int64_t first = rows * group / groups, last = rows * (group + 1) / groups;
      const std::int64_t fetched = std::min(group, vectors - 1);  // of the next panel's lines
      Product product{.channels = work.channels,
                      .tiles = tiles + first * tiles_lie.row,
                      .tile_row = tiles_lie.row,
                      .weights = panel,
                      .next = panel + (vectors * lanes + fetched * line) * work.channels,
                      .sums = sums + (vector - work.first_vector) * lanes + first * sums_lie.row,
                      .sum_row = sums_lie.row};
      if (vectors == 2)
        multiply_rows<2>(static_cast<int>(last - first), product);
      else
        multiply_rows<1>(static_cast<int>(last - first), product);
    }
  }
}

template <int outputs>
void transform_outputs(const Work& work, const float* sums, const Matrices& lie) {
  constexpr int side = outputs + 2;
  const Vector low = broadcast(work.low), high = broadcast(work.high);
  const std::int64_t whole = work.out_channels / lanes;
  const int rest = static_cast<int>(work.out_channels % lanes);
  for (std::int64_t index = work.first_tile; index < work.last_tile; ++index) {
    const Tile tile = tile_at(work, index);
    const float* from = sums + (index - work.first_tile) * lie.row;
    const int rows = static_cast<int>(std::min<std::int64_t>(outputs, work.out_height - tile.y));
    const int columns = static_cast<int>(std::min<std::int64_t>(outputs, work.out_width - tile.x));
    for (std::int64_t vector = work.first_vector; vector < work.last_vector; ++vector) {
      Vector square[side * side], half[outputs * side], done[outputs * outputs];
      const float* data = from + (vector - work.first_vector) * lanes;
      for (int point = 0; point < side * side; ++point)
        square[point] = load(data + point * lie.matrix);
      for (int x = 0; x < side; ++x) transform_output<outputs>(square + x, side, half + x, side);
      for (int y = 0; y < outputs; ++y)
        transform_output<outputs>(half + y * side, 1, done + y * outputs, 1);
      const Vector bias = work.bias == nullptr ? broadcast(0) : load(work.bias + vector * lanes);
      const std::int64_t at =
          tile.y * work.out.row + tile.x * work.out.pixel + vector * work.out.vector;
      for (int y = 0; y < rows; ++y)
        for (int x = 0; x < columns; ++x) {
          const std::int64_t pixel = at + y * work.out.row + x * work.out.pixel;
          Vector value = done[y * outputs + x] + bias;
          if (vector < whole) {
            if (work.addend != nullptr) value = value + load(work.addend + pixel);
            store(work.output + pixel, clamp(value, low, high));
          } else {
            if (work.addend != nullptr) value = value + load_part(work.addend + pixel, rest);
            store_part(work.output + pixel, rest, clamp(value, low, high));
          }
        }
    }
  }
}

template <int outputs>
void convolve(const Work& work) {
  const std::int64_t tiles = work.last_tile - work.first_tile;
  const Matrices tiles_lie(tiles, whole_vectors(work.channels, lanes), lanes);
  const Matrices sums_lie(tiles, work.last_vector - work.first_vector, lanes);
  float* transformed = work.scratch;
  float* sums = transformed + points(outputs) * tiles_lie.matrix;
  transform_inputs<outputs>(work, transformed, tiles_lie);
  const std::int64_t weights =
      work.channels * whole_vectors(work.out_channels, lanes) * lanes;  // of a point
  for (std::int64_t point = 0; point < points(outputs); ++point)
    multiply_point(work, transformed + point * tiles_lie.matrix, tiles_lie,
                   work.weights + point * weights, sums + point * sums_lie.matrix, sums_lie);
  transform_outputs<outputs>(work, sums, sums_lie);
}

void run(const Work& work) {
  if (work.outputs == 2)
    convolve<2>(work);
  else
    convolve<4>(work);
}
