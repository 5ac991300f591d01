// ReduceMean, ReduceSum, ReduceMax over neighbouring axes, on Eigen, whose expressions say just that;
// others are left to the reference.
#include "operators/kernels/reduction.hpp"

#include <Eigen/Core>
#include <limits>
#include <memory>

#include "operators/kernels/kernels.hpp"
#include "operators/kernels/sequence.hpp"

namespace opsplit::operators {
namespace {

// Below this many elements waking other threads costs more than it saves.
constexpr std::int64_t parallel_from = 32 * 1024;

// A tensor seen as outer x reduced x inner.
struct Extents {
  std::int64_t outer = 1, reduced = 1, inner = 1;
};

// Nothing where kept axes lie between reduced ones.
std::optional<Extents> extents_of(const Shape& shape, const std::vector<bool>& reduced) {
  Extents extents;
  enum { outer, middle, inner } part = outer;
  for (std::size_t axis = 0; axis < reduced.size(); ++axis) {
    if (shape[axis] == 1) continue;
    if (reduced[axis] && part == inner) return std::nullopt;
    if (reduced[axis]) part = middle;
    if (!reduced[axis] && part == middle) part = inner;
    (part == outer    ? extents.outer
     : part == middle ? extents.reduced
                      : extents.inner) *= shape[axis];
  }
  return extents;
}

enum class Function { mean, sum, maximum };

using Row = Eigen::Array<float, 1, Eigen::Dynamic>;
using ConstRow = Eigen::Map<const Row>;

class ReductionKernel final : public Kernel {
 public:
  ReductionKernel(Function function, Extents extents) : function_(function), extents_(extents) {}

  Result<> run(std::span<const TensorView> inputs,
               std::span<const MutableTensorView> outputs) override {
    const float* x = inputs[0].as<float>();
    float* y = outputs[0].as<float>();
    const auto [outer, reduced, inner] = extents_;
#pragma omp parallel for schedule(static) if (outer > 1 && outer * reduced * inner >= parallel_from)
    for (std::int64_t i = 0; i < outer; ++i) {
      const float* from = x + i * reduced * inner;
      if (inner == 1)
        y[i] = reduce(ConstRow(from, reduced));
      else
        reduce_rows(from, Eigen::Map<Row>(y + i * inner, inner));
    }
    return {};
  }

 private:
  // A maximum passes over what is no number, as the reference does.
  [[nodiscard]] float reduce(const ConstRow& row) const {
    switch (function_) {
      case Function::mean:
        return row.mean();
      case Function::sum:
        return row.sum();
      case Function::maximum:
        return row.maxCoeff<Eigen::PropagateNumbers>();
    }
    return 0;
  }

  // Row by row, so that memory is read in its order.
  void reduce_rows(const float* from, Eigen::Map<Row> result) const {
    result.setConstant(function_ == Function::maximum ? -std::numeric_limits<float>::infinity()
                                                      : 0);
    for (std::int64_t r = 0; r < extents_.reduced; ++r) {
      const ConstRow row(from + r * extents_.inner, extents_.inner);
      if (function_ == Function::maximum)
        result = (row > result).select(row, result);
      else
        result += row;
    }
    if (function_ == Function::mean) result /= static_cast<float>(extents_.reduced);
  }

  Function function_;
  Extents extents_;
};

std::optional<Extents> extents_of(const KernelSpec& spec) {
  const Operand& x = spec.inputs[0];
  std::optional<std::span<const std::int64_t>> axes;
  if (spec.node->inputs.size() > 1 && spec.inputs[1].present) {
    const graph::Constant* constant = spec.inputs[1].constant;
    if (constant == nullptr || constant->type.dtype != int64) return std::nullopt;
    axes = constant->as<std::int64_t>();
  }
  const auto reduced = reduced_axes(*spec.node, x.type.shape.rank(), axes);
  if (!reduced || x.type.dtype != float32 || spec.outputs[0].type.dtype != float32)
    return std::nullopt;
  const auto extents = extents_of(x.type.shape, *reduced);
  if (!extents || spec.outputs[0].type.shape.elements() != extents->outer * extents->inner)
    return std::nullopt;
  return extents;
}

}  // namespace

Result<std::vector<bool>> reduced_axes(const graph::Node& node, std::size_t rank,
                                       std::optional<std::span<const std::int64_t>> input) {
  std::vector<std::int64_t> axes = node.integers("axes");
  if (input) axes.assign(input->begin(), input->end());
  std::vector<bool> reduced(rank, axes.empty() && node.integer("noop_with_empty_axes", 0) == 0);
  for (const std::int64_t axis : axes) {
    const std::int64_t at = axis < 0 ? axis + static_cast<std::int64_t>(rank) : axis;
    if (at < 0 || at >= static_cast<std::int64_t>(rank))
      return fail(ErrorCode::invalid_input, "{} along axis {}", node.op_type, axis);
    reduced[static_cast<std::size_t>(at)] = true;
  }
  return reduced;
}

Result<std::unique_ptr<Kernel>> make_reduction(const KernelSpec& spec,
                                               const KernelResources& resources) {
  const auto extents = extents_of(spec);
  const std::string_view op = spec.node->op_type;
  if (!extents) return make_reference(spec, resources);
  const Function function = op == "ReduceMean"  ? Function::mean
                            : op == "ReduceSum" ? Function::sum
                                                : Function::maximum;
  return std::make_unique<ReductionKernel>(function, *extents);
}

}  // namespace opsplit::operators
