// Gemm and MatMul.
#include "operators/kernels/dense.hpp"
#include "operators/kernels/elementwise.hpp"

namespace opsplit::operators {

Result<Gemm> read_gemm(const graph::Node& node, const TensorType& a, const TensorType& b,
                       const TensorType* c, const TensorType& y) {
  Gemm gemm{.transpose_a = node.integer("transA", 0) != 0,
            .transpose_b = node.integer("transB", 0) != 0,
            .alpha = node.real("alpha", 1.0F),
            .beta = node.real("beta", 1.0F)};
  const auto mismatch = [&] {
    return fail(ErrorCode::invalid_input, "Gemm of {} and {} giving {}", to_string(a), to_string(b),
                to_string(y));
  };
  if (a.shape.rank() != 2 || b.shape.rank() != 2 || y.shape.rank() != 2 || b.dtype != a.dtype ||
      y.dtype != a.dtype)
    return mismatch();
  gemm.rows = a.shape[gemm.transpose_a ? 1 : 0];
  gemm.inner = a.shape[gemm.transpose_a ? 0 : 1];
  gemm.columns = b.shape[gemm.transpose_b ? 0 : 1];
  if (b.shape[gemm.transpose_b ? 1 : 0] != gemm.inner || y.shape != Shape{gemm.rows, gemm.columns})
    return mismatch();
  if (c && (c->dtype != a.dtype || !is_broadcastable(c->shape, y.shape))) return mismatch();
  return gemm;
}

Result<MatMul> read_matmul(const TensorType& a, const TensorType& b, const TensorType& y) {
  const auto mismatch = [&] {
    return fail(ErrorCode::invalid_input, "MatMul of {} and {} giving {}", to_string(a),
                to_string(b), to_string(y));
  };
  const std::size_t a_rank = a.shape.rank();
  const std::size_t b_rank = b.shape.rank();
  if (a_rank == 0 || b_rank == 0 || b.dtype != a.dtype || y.dtype != a.dtype) return mismatch();
  // Vectors get a dimension of 1, which the output then has not.
  std::vector<std::int64_t> a_dims(a.shape.begin(), a.shape.end());
  std::vector<std::int64_t> b_dims(b.shape.begin(), b.shape.end());
  if (a_rank == 1) a_dims.insert(a_dims.begin(), 1);
  if (b_rank == 1) b_dims.push_back(1);
  std::vector<std::int64_t> y_dims(y.shape.begin(), y.shape.end());
  if (a_rank == 1) y_dims.insert(y_dims.end() - (b_rank == 1 || y_dims.empty() ? 0 : 1), 1);
  if (b_rank == 1) y_dims.push_back(1);
  if (y_dims.size() != std::max(a_dims.size(), b_dims.size())) return mismatch();
  // Equal ranks, batches in front.
  a_dims.insert(a_dims.begin(), y_dims.size() - a_dims.size(), 1);
  b_dims.insert(b_dims.begin(), y_dims.size() - b_dims.size(), 1);
  MatMul result;
  OPSPLIT_TRY(result.a, Shape::from(a_dims));
  OPSPLIT_TRY(result.b, Shape::from(b_dims));
  OPSPLIT_TRY(result.y, Shape::from(y_dims));
  const std::size_t rank = y_dims.size();
  for (std::size_t axis = 0; axis + 2 < rank; ++axis)
    if ((a_dims[axis] != 1 && a_dims[axis] != y_dims[axis]) ||
        (b_dims[axis] != 1 && b_dims[axis] != y_dims[axis]))
      return mismatch();
  if (a_dims[rank - 1] != b_dims[rank - 2] || a_dims[rank - 2] != y_dims[rank - 2] ||
      b_dims[rank - 1] != y_dims[rank - 1])
    return mismatch();
  return result;
}

namespace reference {
namespace {

template <class T>
void gemm_as(const Call& call, const Gemm& gemm) {
  const TensorView* c = call.has_input(2) ? &call.inputs[2] : nullptr;
  const MutableTensorView& y = call.outputs[0];
  const T* a = call.inputs[0].as<T>();
  const T* b = call.inputs[1].as<T>();
  const Coordinates c_strides = c ? broadcast_strides(c->type.shape, y.type.shape) : Coordinates{};
  for (std::int64_t row = 0; row < gemm.rows; ++row)
    for (std::int64_t column = 0; column < gemm.columns; ++column) {
      double sum = 0;
      for (std::int64_t k = 0; k < gemm.inner; ++k) {
        const T left = a[gemm.transpose_a ? k * gemm.rows + row : row * gemm.inner + k];
        const T right = b[gemm.transpose_b ? column * gemm.inner + k : k * gemm.columns + column];
        sum += static_cast<double>(left) * static_cast<double>(right);
      }
      sum *= static_cast<double>(gemm.alpha);
      if (c)
        sum += static_cast<double>(gemm.beta) *
               static_cast<double>(c->as<T>()[row * c_strides[0] + column * c_strides[1]]);
      y.as<T>()[row * gemm.columns + column] = static_cast<T>(sum);
    }
}

template <class T>
void matmul_as(const Call& call, const MatMul& shapes) {
  using Sum = std::conditional_t<std::is_integral_v<T>, T, double>;  // integers wrap around
  const std::size_t rank = shapes.y.rank();
  const std::int64_t inner = shapes.a[rank - 1];
  Coordinates a_strides = broadcast_strides(shapes.a, shapes.y);
  Coordinates b_strides = broadcast_strides(shapes.b, shapes.y);
  a_strides[rank - 1] = 0;  // the last two axes are walked by hand
  b_strides[rank - 2] = 0;
  const std::int64_t b_step = shapes.b[rank - 1];
  T* out = call.outputs[0].as<T>();
  for_each_index(shapes.y, [&](const Coordinates& at) {
    const T* a = call.inputs[0].as<T>() + offset_of(at, a_strides, rank);
    const T* b = call.inputs[1].as<T>() + offset_of(at, b_strides, rank);
    Sum sum = 0;
    for (std::int64_t k = 0; k < inner; ++k)
      sum = add(sum, multiply(static_cast<Sum>(a[k]), static_cast<Sum>(b[k * b_step])));
    *out++ = static_cast<T>(sum);
  });
}

}  // namespace

Result<> gemm(const Call& call) {
  OPSPLIT_TRY(const Gemm gemm,
              read_gemm(call.node, call.inputs[0].type, call.inputs[1].type,
                        call.has_input(2) ? &call.inputs[2].type : nullptr, call.outputs[0].type));
  return with_reals(
      call, [&](auto* type) { gemm_as<std::remove_pointer_t<decltype(type)>>(call, gemm); });
}

Result<> matmul(const Call& call) {
  OPSPLIT_TRY(const MatMul shapes,
              read_matmul(call.inputs[0].type, call.inputs[1].type, call.outputs[0].type));
  return with_numbers(
      call, [&](auto* type) { matmul_as<std::remove_pointer_t<decltype(type)>>(call, shapes); });
}

}  // namespace reference
}  // namespace opsplit::operators
