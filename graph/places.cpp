#include "graph/places.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

namespace opsplit::graph {
namespace {

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

std::uint64_t aligned(std::uint64_t bytes, std::uint64_t align) {
  return (bytes + align - 1) / align * align;
}

// A tensor that is to lie in some memory.
struct Wanted {
  std::size_t tensor;
  std::uint64_t bytes;
  std::uint64_t* offset;
};

class Placement {
 public:
  explicit Placement(const Plan& plan) : plan_(plan), may_follow_(successors_in_place(plan)) {}

  // Gives each its offset, a multiple of `align`. Returns the bytes of the slot, at least that.
  Result<std::uint64_t> assign(std::vector<Wanted> wanted, std::uint64_t align) const {
    std::stable_sort(wanted.begin(), wanted.end(),
                     [](const Wanted& a, const Wanted& b) { return a.bytes > b.bytes; });
    std::uint64_t slot_bytes = align;  // even where all tensors are empty: an arena can't be
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      std::vector<Range> taken;
      for (std::size_t j = 0; j < i; ++j)
        if (const std::uint64_t begin = *wanted[j].offset;
            !may_share(wanted[i].tensor, wanted[j].tensor))
          taken.push_back({begin, aligned(begin + wanted[j].bytes, align)});
      const std::uint64_t offset = lowest_gap(std::move(taken), wanted[i].bytes);
      if (wanted[i].bytes > std::numeric_limits<std::int64_t>::max() - align - offset)
        return fail(ErrorCode::limit_exceeded,
                    "tensor '{}': the slot would take more than 2^63 bytes",
                    plan_.tensors[wanted[i].tensor].name);
      *wanted[i].offset = offset;
      slot_bytes = std::max(slot_bytes, aligned(offset + wanted[i].bytes, align));
    }
    return slot_bytes;
  }

 private:
  [[nodiscard]] bool may_share(std::size_t a, std::size_t b) const {
    const auto follows = [&](std::size_t first, std::size_t second) {
      const std::int32_t producer = plan_.tensors[second].producer;
      return producer != PlannedTensor::none &&
             may_follow_[first].has(static_cast<std::size_t>(producer));
    };
    return follows(a, b) || follows(b, a);
  }

  const Plan& plan_;
  const std::vector<TaskSet> may_follow_;
};

}  // namespace

Result<> assign_places(Plan& plan) {
  const Placement placement(plan);
  std::vector<Wanted> in_arena;
  std::vector<std::vector<Wanted>> on_gpus(plan.gpu_slot_bytes.size());
  for (std::size_t id = 0; id < plan.tensors.size(); ++id) {
    PlannedTensor& tensor = plan.tensors[id];
    if (tensor.view_of != PlannedTensor::none) continue;
    if (tensor.in_arena) in_arena.push_back({id, tensor.bytes, &tensor.offset});
    if (tensor.gpu == PlannedTensor::none) continue;
    OPSPLIT_TRY(const std::uint64_t bytes, byte_size(tensor.type));
    on_gpus[static_cast<std::size_t>(tensor.gpu)].push_back({id, bytes, &tensor.gpu_offset});
  }
  OPSPLIT_TRY(plan.slot_bytes, placement.assign(std::move(in_arena), place_alignment));
  for (std::size_t gpu = 0; gpu < on_gpus.size(); ++gpu) {
    OPSPLIT_TRY(plan.gpu_slot_bytes[gpu], placement.assign(std::move(on_gpus[gpu]), gpu_alignment));
  }
  for (PlannedTensor& tensor : plan.tensors) {
    if (tensor.view_of == PlannedTensor::none) continue;
    const PlannedTensor& root = plan.tensors[static_cast<std::size_t>(tensor.view_of)];
    tensor.offset = root.offset;
    tensor.gpu_offset = root.gpu_offset;
  }
  return {};
}

}  // namespace opsplit::graph
