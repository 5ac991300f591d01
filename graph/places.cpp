#include "graph/places.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

namespace opsplit::graph {
namespace {

constexpr std::uint64_t alignment = 64;

// A set of tasks.
class TaskSet {
 public:
  explicit TaskSet(std::size_t tasks) : words_(tasks / 64 + 1) {}
  void add(std::size_t task) { words_[task / 64] |= std::uint64_t{1} << (task % 64); }
  void add(const TaskSet& other) {
    for (std::size_t i = 0; i < words_.size(); ++i) words_[i] |= other.words_[i];
  }
  void keep(const TaskSet& other) {
    for (std::size_t i = 0; i < words_.size(); ++i) words_[i] &= other.words_[i];
  }
  void clear() { std::fill(words_.begin(), words_.end(), 0); }
  [[nodiscard]] bool has(std::size_t task) const { return words_[task / 64] >> (task % 64) & 1; }

 private:
  std::vector<std::uint64_t> words_;
};

std::vector<TaskSet> descendants(const Plan& plan) {
  std::vector<TaskSet> sets(plan.tasks.size(), TaskSet(plan.tasks.size()));
  for (std::size_t task = plan.tasks.size(); task-- > 0;)
    for (const std::int32_t consumer : plan.tasks[task].consumers) {
      sets[task].add(static_cast<std::size_t>(consumer));
      sets[task].add(sets[static_cast<std::size_t>(consumer)]);
    }
  return sets;
}

// For each tensor that has a place of its own, the tasks that may write over it.
std::vector<TaskSet> successors_in_place(const Plan& plan) {
  const auto below = descendants(plan);
  TaskSet none(plan.tasks.size());
  std::vector<TaskSet> sets(plan.tensors.size(), none);
  for (std::size_t id = 0; id < plan.tensors.size(); ++id)
    if (const auto producer = plan.tensors[id].producer; producer != PlannedTensor::none)
      sets[id] = below[static_cast<std::size_t>(producer)];  // none: written by the client, never
  for (std::size_t id = 0; id < plan.tensors.size(); ++id)
    for (const std::int32_t reader : plan.tensors[id].readers)
      sets[static_cast<std::size_t>(plan.root(static_cast<std::int32_t>(id)))].keep(
          below[static_cast<std::size_t>(reader)]);
  for (const std::int32_t output : plan.outputs)
    sets[static_cast<std::size_t>(plan.root(output))].clear();
  return sets;
}

struct Range {
  std::uint64_t begin;
  std::uint64_t end;
};

// The lowest offset at which `bytes` fit between these ranges.
std::uint64_t lowest_gap(std::vector<Range> taken, std::uint64_t bytes) {
  std::sort(taken.begin(), taken.end(),
            [](const Range& a, const Range& b) { return a.begin < b.begin; });
  std::uint64_t offset = 0;
  for (const Range& range : taken) {
    if (range.begin >= offset && range.begin - offset >= bytes) break;
    offset = std::max(offset, range.end);
  }
  return offset;
}

}  // namespace

Result<> assign_places(Plan& plan) {
  const auto may_follow = successors_in_place(plan);
  const auto may_share = [&](std::size_t a, std::size_t b) {
    const auto follows = [&](std::size_t first, std::size_t second) {
      const std::int32_t producer = plan.tensors[second].producer;
      return producer != PlannedTensor::none &&
             may_follow[first].has(static_cast<std::size_t>(producer));
    };
    return follows(a, b) || follows(b, a);
  };

  std::vector<std::size_t> order;
  for (std::size_t id = 0; id < plan.tensors.size(); ++id)
    if (plan.tensors[id].view_of == PlannedTensor::none) order.push_back(id);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return plan.tensors[a].bytes > plan.tensors[b].bytes;
  });

  plan.slot_bytes = alignment;  // even where all tensors are empty: an arena can't be
  for (std::size_t i = 0; i < order.size(); ++i) {
    PlannedTensor& tensor = plan.tensors[order[i]];
    std::vector<Range> taken;
    for (std::size_t j = 0; j < i; ++j) {
      const PlannedTensor& placed = plan.tensors[order[j]];
      if (!may_share(order[i], order[j]))
        taken.push_back({placed.offset,
                         (placed.offset + placed.bytes + alignment - 1) / alignment * alignment});
    }
    tensor.offset = lowest_gap(std::move(taken), tensor.bytes);
    if (tensor.bytes > std::numeric_limits<std::int64_t>::max() - alignment - tensor.offset)
      return fail(ErrorCode::limit_exceeded,
                  "tensor '{}': the slot would take more than 2^63 bytes", tensor.name);
    const std::uint64_t end =
        (tensor.offset + tensor.bytes + alignment - 1) / alignment * alignment;
    plan.slot_bytes = std::max(plan.slot_bytes, end);
  }
  for (PlannedTensor& tensor : plan.tensors)
    if (tensor.view_of != PlannedTensor::none)
      tensor.offset = plan.tensors[static_cast<std::size_t>(tensor.view_of)].offset;
  return {};
}

}  // namespace opsplit::graph
