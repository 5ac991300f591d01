#include "operators/memory_plan.hpp"

#include <algorithm>
#include <limits>
#include <optional>

#include "operators/kernels/kernels.hpp"
#include "operators/kernels/movement.hpp"

namespace opsplit::operators {
namespace {

constexpr std::uint64_t alignment = 64;

bool is_private(const TaskTensor& tensor) {
  return tensor.input < 0 && tensor.output < 0 && tensor.fixed == nullptr &&
         tensor.inside == no_tensor;
}

Result<std::uint64_t> bytes_of(const TaskTensor& tensor) {
  return byte_size(tensor.type, tensor.layout);
}

// Is what lies before and after the axis's part of a tensor none of the part's: do its elements
// along `axis` lie in one piece?
bool in_one_piece(const TaskTensor& tensor, std::size_t axis) {
  const Shape& shape = tensor.type.shape;
  for (std::size_t i = 0; i < axis; ++i)
    if (shape[i] != 1) return false;
  return tensor.layout != Layout::nhwc || shape[2] * shape[3] == 1;
}

// Puts the inputs of a Concat where its output has them, if they can be computed there.
Result<> concat_in_place(TaskGraph& task, Step& step, const KernelResources& resources) {
  const TensorId output = step.outputs[0];
  KernelSpec spec = spec_of(task, step);
  OPSPLIT_TRY(const std::size_t axis,
              read_axis(*step.node, 0, task.tensor(output).type.shape.rank()));
  if (!in_one_piece(task.tensor(output), axis)) return {};
  std::uint64_t offset = 0;
  for (std::size_t i = 0; i < step.inputs.size(); ++i) {
    OPSPLIT_TRY(const std::uint64_t bytes, bytes_of(task.tensor(step.inputs[i])));
    const auto [whole, whole_offset] = task.whole(step.inputs[i]);
    TaskTensor& memory = task.tensor(whole);
    OPSPLIT_TRY(const std::uint64_t whole_bytes, bytes_of(memory));
    // Not an edge, not a part of something already (of another Concat, or twice of this one).
    if (is_private(memory) && whole_bytes == bytes && whole_offset == 0 && bytes > 0 &&
        whole != task.whole(output).tensor) {
      memory.inside = output;
      memory.inside_offset = offset;
      spec.inputs[i].in_place = true;
    }
    offset += bytes;
  }
  OPSPLIT_TRY(step.kernel, make_kernel(spec, resources));
  if (std::all_of(spec.inputs.begin(), spec.inputs.end(),
                  [](const Operand& input) { return input.in_place; }))
    step.kernel = nullptr;
  return {};
}

// First and last step at which a tensor's memory holds something, tensors inside it included.
struct Life {
  std::size_t first = std::numeric_limits<std::size_t>::max();
  std::size_t last = 0;
};

std::vector<Life> lives_of(const TaskGraph& task) {
  std::vector<Life> lives(task.tensors.size());
  for (std::size_t i = 0; i < task.steps.size(); ++i)
    for (const auto* ids : {&task.steps[i].inputs, &task.steps[i].outputs})
      for (const TensorId id : *ids) {
        if (id == no_tensor) continue;
        Life& life = lives[static_cast<std::size_t>(task.whole(id).tensor)];
        life.first = std::min(life.first, i);
        life.last = std::max(life.last, i);
      }
  return lives;
}

// An operand that is added to the output, and that nobody reads afterwards, becomes the output: its
// memory then takes part in a convolution once instead of twice.
Result<> sum_in_place(TaskGraph& task, std::size_t at, const KernelResources& resources) {
  Step& step = task.steps[at];
  if (step.kind != Step::Kind::node || step.node->op_type != "Conv") return {};
  const TensorId output = step.outputs[0];
  if (!is_private(task.tensor(output))) return {};
  const auto lives = lives_of(task);
  for (PostOp& op : step.post_ops) {
    if (op.kind != PostOp::Kind::binary || op.binary != BinaryFunction::add) continue;
    const TensorId operand = step.inputs[op.operand];
    const TaskTensor& residual = task.tensor(operand);
    const auto [whole, offset] = task.whole(operand);
    if (!is_private(task.tensor(whole)) || offset != 0 || whole == output ||
        residual.type != task.tensor(output).type ||
        residual.layout != task.tensor(output).layout ||
        lives[static_cast<std::size_t>(whole)].last != at)
      continue;
    // The convolution must not read the memory that it writes as anything else.
    const auto uses = std::count_if(step.inputs.begin(), step.inputs.end(), [&](TensorId input) {
      return input != no_tensor && task.whole(input).tensor == whole;
    });
    if (uses != 1) continue;
    op.kind = PostOp::Kind::sum;
    auto kernel = make_kernel(spec_of(task, step), resources);
    if (!kernel) {
      op.kind = PostOp::Kind::binary;
      continue;
    }
    step.kernel = std::move(*kernel);
    task.tensor(output).inside = whole;
    return {};  // once per step: there is one output
  }
  return {};
}

struct Block {
  TensorId tensor;
  std::uint64_t bytes;
  std::uint64_t offset = 0;
};

// Largest first, each as low as those that live at the same time allow.
Result<std::uint64_t> assign_offsets(const TaskGraph& task, std::vector<Block>& blocks) {
  const auto lives = lives_of(task);
  std::stable_sort(blocks.begin(), blocks.end(),
                   [](const Block& a, const Block& b) { return a.bytes > b.bytes; });
  std::vector<Block> placed;  // by offset
  std::uint64_t total = 0;
  for (Block& block : blocks) {
    const Life& life = lives[static_cast<std::size_t>(block.tensor)];
    block.offset = 0;
    for (const Block& other : placed) {
      const Life& other_life = lives[static_cast<std::size_t>(other.tensor)];
      const bool together = life.first <= other_life.last && other_life.first <= life.last;
      if (!together || other.offset + other.bytes <= block.offset) continue;
      if (other.offset >= block.offset + block.bytes) break;
      block.offset = other.offset + other.bytes;
    }
    total = std::max(total, block.offset + block.bytes);
    placed.insert(
        std::upper_bound(placed.begin(), placed.end(), block,
                         [](const Block& a, const Block& b) { return a.offset < b.offset; }),
        block);
  }
  return total;
}

Location location_of(const TaskGraph& task, TensorId id, std::span<const std::uint64_t> offsets) {
  const auto [whole, offset] = task.whole(id);
  const TaskTensor& memory = task.tensor(whole);
  using Where = Location::Where;
  if (memory.fixed) return {.where = Where::fixed, .fixed = memory.fixed + offset};
  if (memory.input >= 0)
    return {
        .where = Where::input, .index = static_cast<std::size_t>(memory.input), .offset = offset};
  if (memory.output >= 0)
    return {
        .where = Where::output, .index = static_cast<std::size_t>(memory.output), .offset = offset};
  return {.where = Where::memory, .offset = offsets[static_cast<std::size_t>(whole)] + offset};
}

}  // namespace

Result<MemoryPlan> plan_memory(TaskGraph& task, const KernelResources& resources) {
  for (Step& step : task.steps)
    if (step.kind == Step::Kind::node && step.node->op_type == "Concat")
      OPSPLIT_CHECK(concat_in_place(task, step, resources));
  std::erase_if(task.steps, [](const Step& step) { return step.kernel == nullptr; });
  for (std::size_t at = 0; at < task.steps.size(); ++at)
    OPSPLIT_CHECK(sum_in_place(task, at, resources));
  return place_tensors(task);
}

Result<MemoryPlan> place_tensors(const TaskGraph& task) {
  std::vector<Block> blocks;
  const auto lives = lives_of(task);
  for (std::size_t i = 0; i < task.tensors.size(); ++i) {
    const auto id = static_cast<TensorId>(i);
    if (!is_private(task.tensors[i]) || lives[i].first > lives[i].last) continue;
    OPSPLIT_TRY(const std::uint64_t bytes, bytes_of(task.tensors[i]));
    blocks.push_back({id, (bytes + alignment - 1) / alignment * alignment});
  }
  MemoryPlan plan;
  OPSPLIT_TRY(plan.bytes, assign_offsets(task, blocks));
  std::vector<std::uint64_t> offsets(task.tensors.size(), 0);
  for (const Block& block : blocks) offsets[static_cast<std::size_t>(block.tensor)] = block.offset;
  for (std::size_t i = 0; i < task.tensors.size(); ++i)
    plan.locations.push_back(location_of(task, static_cast<TensorId>(i), offsets));
  return plan;
}

}  // namespace opsplit::operators
