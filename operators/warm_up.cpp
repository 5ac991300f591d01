#include "operators/warm_up.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <list>

#include "operators/aligned_memory.hpp"

namespace opsplit::operators {
namespace {

// The bits of a 1, the lowest first.
std::uint64_t one(DType dtype) {
  if (dtype == float64) return std::bit_cast<std::uint64_t>(1.0);
  if (dtype == float32) return std::bit_cast<std::uint32_t>(1.0F);
  if (dtype == float16) return 0x3C00;
  if (dtype == bfloat16) return 0x3F80;
  return 1;
}

void fill_with_ones(std::byte* data, std::uint64_t bytes, DType dtype) {
  const std::uint64_t bits = one(dtype);
  const std::uint64_t size = dtype.bytes();
  for (std::uint64_t at = 0; at + size <= bytes; at += size) std::memcpy(data + at, &bits, size);
}

// The padding of a blocked layout must be zeros; what lies so is an image, to which zeros are as good.
bool has_padding(Layout layout) { return layout != Layout::row_major && layout != Layout::nhwc; }

Result<> run_once(Operator& op, const Plan& plan, const PlannedTask& task, std::size_t position,
                  bool on_ones, RunContext& context) {
  std::list<AlignedMemory> memory;
  const auto lay_out = [&](std::int32_t id, auto& views) -> Result<> {
    const PlannedTensor& tensor = plan.tensors[static_cast<std::size_t>(id)];
    OPSPLIT_TRY(const std::uint64_t bytes, byte_size(tensor.type, tensor.layout));
    std::byte* data = memory.emplace_back(bytes).data();
    std::fill_n(data, bytes, std::byte{0});
    if (on_ones && !has_padding(tensor.layout)) fill_with_ones(data, bytes, tensor.type.dtype);
    views.push_back({tensor.type, tensor.layout, data});
    return {};
  };
  std::vector<TensorView> inputs;
  std::vector<MutableTensorView> outputs;
  for (const std::int32_t tensor : task.inputs) OPSPLIT_CHECK(lay_out(tensor, inputs));
  for (const std::int32_t tensor : task.outputs) OPSPLIT_CHECK(lay_out(tensor, outputs));
  return op.run(position, inputs, outputs, context);
}

// Who has not done that will never do it.
Result<> check_shapes(const Plan& plan, const PlannedTask& task, const RunContext& context) {
  for (std::size_t i = 0; i < task.outputs.size(); ++i)
    if (plan.tensors[static_cast<std::size_t>(task.outputs[i])].varies)
      OPSPLIT_CHECK(varying_shape(plan, task, i, context));
  return {};
}

}  // namespace

Result<> warm_up(Operator& op, const Plan& plan, const PlannedOperator& planned,
                 RunContext& context) {
  for (std::size_t position = 0; position < planned.tasks.size(); ++position) {
    const PlannedTask& task = plan.tasks[static_cast<std::size_t>(planned.tasks[position])];
    const auto run = [&](bool on_ones) {
      context.output_shapes.clear();
      return run_once(op, plan, task, position, on_ones, context);
    };
    const auto on_ones = run(true);
    const auto ran = on_ones || context.lost ? on_ones : run(false);
    if (context.lost) return within("task " + task.name, ran.error());
    if (ran)
      OPSPLIT_CHECK(check_shapes(plan, task, context));
    else if (!op.is_picky(position))
      return within("task " + task.name + " computes neither ones nor zeros", on_ones.error());
  }
  return {};
}

}  // namespace opsplit::operators
