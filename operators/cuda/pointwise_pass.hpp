// A pass over a tensor: a Pointwise with operands that a kernel knows by the index of its inputs.
#pragma once

#include <vector>

#include "operators/cuda/gpu.hpp"
#include "operators/kernels/kernel_spec.hpp"

namespace opsplit::operators::cuda {

class PointwisePass {
 public:
  // The output itself, as what the pass starts from: it is computed in place.
  static constexpr std::size_t in_place = static_cast<std::size_t>(-1);

  // Over a tensor of this shape, starting from input `first` of `shape`, broadcast to it.
  static Result<PointwisePass> over(const Shape& y, Element element, std::size_t first,
                                    const Shape& shape);

  // value = function(value)
  Result<> then(const Activation& activation);
  // value = function(value, factor x input), or the other way round. `shape` is the input's.
  Result<> then(BinaryFunction function, std::size_t input, const Shape& shape, float factor = 1,
                bool operand_first = false);
  Result<> then(const PostOp& op, const KernelSpec& spec);
  // A number for each channel, which is y's axis 1.
  Result<> add_by_channel(std::size_t input);

  [[nodiscard]] bool is_empty() const { return work_.steps == 0; }
  // Adjacent axes that all operands walk as one are one.
  void collapse();
  Result<> launch(Gpu& gpu, std::span<const DeviceView> inputs, void* y, Stream stream) const;

 private:
  Result<std::int32_t> add_operand(std::size_t input, const Shape& shape);
  Result<> add(const Pointwise::Step& step);

  Shape y_;
  Pointwise work_;
  std::vector<std::size_t> inputs_;  // of each operand
};

}  // namespace opsplit::operators::cuda
