#include "operators/channel_shuffle.hpp"

#include <algorithm>
#include <optional>
#include <utility>

namespace opsplit::operators {
namespace {

// The last of the three steps, if `first` is the first of them.
std::optional<std::size_t> shuffle_from(const TaskGraph& task, std::size_t first) {
  const Step& split = task.steps[first];
  if (split.kind != Step::Kind::view || split.inputs[0] == no_tensor) return std::nullopt;
  const TensorType& image = task.tensor(split.inputs[0]).type;
  const TensorType& grouped = task.tensor(split.outputs[0]).type;
  if (image.dtype != float32 || image.shape.rank() != 4 || grouped.shape.rank() != 5)
    return std::nullopt;
  const Shape& x = image.shape;
  const Shape& g = grouped.shape;
  if (g[0] != x[0] || g[1] * g[2] != x[1] || g[3] != x[2] || g[4] != x[3]) return std::nullopt;

  const auto second = task.only_reader(split.outputs[0]);
  if (!second) return std::nullopt;
  const Step& transpose = task.steps[*second];
  if (transpose.kind != Step::Kind::node || transpose.node->op_type != "Transpose" ||
      transpose.node->integers("perm") != std::vector<std::int64_t>{0, 2, 1, 3, 4})
    return std::nullopt;
  const auto third = task.only_reader(transpose.outputs[0]);
  if (!third) return std::nullopt;
  const Step& join = task.steps[*third];
  if (join.kind != Step::Kind::view || join.inputs[0] != transpose.outputs[0] ||
      task.tensor(join.outputs[0]).type != image)
    return std::nullopt;
  return third;
}

}  // namespace

void join_channel_shuffles(TaskGraph& task) {
  for (std::size_t first = 0; first < task.steps.size(); ++first) {
    const auto last = shuffle_from(task, first);
    if (!last) continue;
    const Step& split = task.steps[first];
    Step shuffle{.kind = Step::Kind::shuffle,
                 .groups = task.tensor(split.outputs[0]).type.shape[1],
                 .inputs = {split.inputs[0]},
                 .outputs = {task.steps[*last].outputs[0]}};
    const std::size_t middle = *task.only_reader(split.outputs[0]);
    task.steps[*last] = std::move(shuffle);
    for (const std::size_t gone : {middle, first})
      task.steps.erase(task.steps.begin() + static_cast<std::ptrdiff_t>(gone));
    --first;  // what is here now has not been looked at
  }
}

}  // namespace opsplit::operators
