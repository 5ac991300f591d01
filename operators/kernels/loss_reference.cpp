// NegativeLogLikelihoodLoss, and SoftmaxCrossEntropyLoss: the same of a LogSoftmax.
#include <cmath>
#include <vector>

#include "operators/kernels/elementwise.hpp"

namespace opsplit::operators::reference {
namespace {

template <class T>
void log_softmax(const T* x, T* y, std::int64_t classes, std::int64_t inner) {
  T largest = x[0];
  for (std::int64_t c = 1; c < classes; ++c) largest = std::max(largest, x[c * inner]);
  double sum = 0;
  for (std::int64_t c = 0; c < classes; ++c)
    sum += std::exp(static_cast<double>(x[c * inner] - largest));
  for (std::int64_t c = 0; c < classes; ++c)
    y[c * inner] = static_cast<T>(static_cast<double>(x[c * inner] - largest) - std::log(sum));
}

// Scores are N x C x inner, labels N x inner.
template <class T>
Result<> loss_as(const Call& call) {
  const Shape& shape = call.inputs[0].type.shape;
  const std::int64_t batch = shape[0], classes = shape[1];
  std::int64_t inner = 1;
  for (std::size_t axis = 2; axis < shape.rank(); ++axis) inner *= shape[axis];
  const T* scores = call.inputs[0].as<T>();
  const T* weights = call.has_input(2) ? call.inputs[2].as<T>() : nullptr;
  const TensorView& labels = call.inputs[1];

  std::vector<T> logarithms;
  if (call.node.op_type == "SoftmaxCrossEntropyLoss") {
    logarithms.resize(static_cast<std::size_t>(batch * classes * inner));
    for (std::int64_t n = 0; n < batch && classes > 0; ++n)
      for (std::int64_t i = 0; i < inner; ++i)
        log_softmax(scores + n * classes * inner + i,
                    &logarithms[static_cast<std::size_t>(n * classes * inner + i)], classes, inner);
    scores = logarithms.data();
    if (call.outputs.size() > 1 && call.outputs[1].data != nullptr)
      std::copy(logarithms.begin(), logarithms.end(), call.outputs[1].as<T>());
  }

  const std::string reduction = call.node.text("reduction", "mean");
  const bool has_ignored = call.node.has("ignore_index");
  const std::int64_t ignored = call.node.integer("ignore_index", 0);
  T* y = call.outputs[0].as<T>();
  double sum = 0, total_weight = 0;
  for (std::int64_t i = 0; i < batch * inner; ++i) {
    const std::int64_t label =
        labels.type.dtype == int64 ? labels.as<std::int64_t>()[i] : labels.as<std::int32_t>()[i];
    const bool counts = !has_ignored || label != ignored;
    if (counts && (label < 0 || label >= classes))
      return fail(ErrorCode::invalid_input, "{} of class {}, there are {}", call.node.op_type,
                  label, classes);
    const T weight = !counts ? T{0} : weights != nullptr ? weights[label] : T{1};
    const std::int64_t at = (i / inner * classes + (counts ? label : 0)) * inner + i % inner;
    const T loss = counts ? -scores[at] * weight : T{0};
    if (reduction == "none") y[i] = loss;
    sum += static_cast<double>(loss);
    total_weight += static_cast<double>(weight);
  }
  if (reduction == "sum") y[0] = static_cast<T>(sum);
  if (reduction == "mean") y[0] = static_cast<T>(sum / total_weight);
  return {};
}

}  // namespace

Result<> loss(const Call& call) {
  const TensorType& type = call.inputs[0].type;
  const Shape& labels = call.inputs[1].type.shape;
  bool fits =
      type.shape.rank() >= 2 && call.outputs[0].type.dtype == type.dtype &&
      labels.rank() + 1 == type.shape.rank() && labels[0] == type.shape[0] &&
      (call.inputs[1].type.dtype == int64 || call.inputs[1].type.dtype == int32) &&
      (!call.has_input(2) || call.inputs[2].type == TensorType{type.dtype, Shape{type.shape[1]}}) &&
      (call.outputs.size() < 2 || call.outputs[1].data == nullptr || call.outputs[1].type == type);
  for (std::size_t axis = 2; axis < type.shape.rank() && fits; ++axis)
    fits = type.shape[axis] == labels[axis - 1];
  const bool one = call.node.text("reduction", "mean") != "none";
  if (!fits || call.outputs[0].type.shape != (one ? Shape{} : labels))
    return fail(ErrorCode::invalid_input, "{} of {} and {} giving {}", call.node.op_type,
                to_string(type), to_string(call.inputs[1].type), to_string(call.outputs[0].type));
  if (type.dtype == float32) return loss_as<float>(call);
  if (type.dtype == float64) return loss_as<double>(call);
  return not_supported(call);
}

}  // namespace opsplit::operators::reference
