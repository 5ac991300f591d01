#include <algorithm>
#include <cmath>
#include <string_view>
#include <vector>

#include "operators/kernels/index_space.hpp"
#include "operators/kernels/reduction.hpp"
#include "operators/kernels/reference.hpp"

namespace opsplit::operators::reference {

Result<> reduce(const Call& call) {
  const TensorView& x = call.inputs[0];
  const MutableTensorView& y = call.outputs[0];
  std::optional<std::span<const std::int64_t>> axes;
  if (call.has_input(1)) {
    const TensorView& view = call.inputs[1];
    if (view.type.dtype != int64)
      return fail(ErrorCode::invalid_input, "axes of type {}", to_string(view.type.dtype));
    OPSPLIT_TRY(const std::int64_t count, view.type.shape.elements());
    axes.emplace(view.as<std::int64_t>(), static_cast<std::size_t>(count));
  }
  OPSPLIT_TRY(const auto reduced, reduced_axes(call.node, x.type.shape.rank(), axes));
  // Strides of the output, walked by the input's coordinates: 0 along reduced axes.
  Coordinates strides{};
  std::int64_t kept = 1;
  std::int64_t count = 1;
  for (std::size_t axis = reduced.size(); axis-- > 0;) {
    if (reduced[axis]) {
      count *= x.type.shape[axis];
    } else {
      strides[axis] = kept;
      kept *= x.type.shape[axis];
    }
  }
  const std::string_view op = call.node.op_type;
  OPSPLIT_TRY(const std::int64_t elements, y.type.shape.elements());
  if (elements != kept || x.type.dtype != float32 || y.type.dtype != float32 ||
      (count == 0 && op != "ReduceSum"))
    return fail(ErrorCode::invalid_input, "{} of {} giving {}", op, to_string(x.type),
                to_string(y.type));
  const bool maximum = op == "ReduceMax";
  std::vector<double> results(static_cast<std::size_t>(kept), maximum ? -INFINITY : 0.0);
  const float* in = x.as<float>();
  for_each_index(x.type.shape, [&](const Coordinates& at) {
    const auto value = static_cast<double>(*in++);
    double& result = results[static_cast<std::size_t>(offset_of(at, strides, reduced.size()))];
    result = maximum ? std::max(result, value) : result + value;
  });
  const double divisor = op == "ReduceMean" ? static_cast<double>(count) : 1.0;
  for (std::size_t i = 0; i < results.size(); ++i)
    y.as<float>()[i] = static_cast<float>(results[i] / divisor);
  return {};
}

}  // namespace opsplit::operators::reference
