// A small deployment for the tests of the hand-over: a plan, its board and an arena on the heap.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "ipc/board.hpp"
#include "ipc/futex.hpp"
#include "ipc/handover.hpp"
#include "ipc/places.hpp"

namespace opsplit::ipc {

// Tasks as a graph: each task has one output tensor of 4 floats; `reads` are indices of earlier
// tasks, -1 the client's input. The last task feeds the client.
struct TaskSpec {
  std::int32_t op;
  std::vector<std::int32_t> reads;
};

inline Plan make_plan(const std::vector<TaskSpec>& specs) {
  Plan plan;
  plan.model = "test";
  const auto add_tensor = [&](std::string name, std::int32_t producer) {
    PlannedTensor tensor;
    tensor.name = std::move(name);
    tensor.type = {float32, {4}};
    tensor.offset = plan.slot_bytes;
    tensor.bytes = 16;
    tensor.producer = producer;
    plan.slot_bytes += 64;
    plan.tensors.push_back(tensor);
    return static_cast<std::int32_t>(plan.tensors.size() - 1);
  };
  plan.inputs.push_back(add_tensor("x", PlannedTensor::none));
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const auto index = static_cast<std::int32_t>(i);
    PlannedTask task;
    task.name = "t" + std::to_string(i);
    task.op = specs[i].op;
    task.nodes = {task.name};
    for (const std::int32_t read : specs[i].reads) {
      // Tensor 0 is the client's, tensor i + 1 the output of task i.
      task.inputs.push_back(read + 1);
      plan.tensors[static_cast<std::size_t>(read + 1)].readers.push_back(index);
      if (read < 0) {
        task.reads_client = true;
      } else {
        task.producers.push_back(read);
        plan.tasks[static_cast<std::size_t>(read)].consumers.push_back(index);
      }
    }
    task.outputs = {add_tensor("y" + std::to_string(i), index)};
    task.feeds_client = i + 1 == specs.size();
    while (plan.operators.size() <= static_cast<std::size_t>(task.op)) {
      const std::string name = "op" + std::to_string(plan.operators.size());
      plan.operators.push_back({name, name + ".onnx", {}, 1});
    }
    plan.operators[static_cast<std::size_t>(task.op)].tasks.push_back(index);
    plan.tasks.push_back(task);
  }
  plan.outputs = {static_cast<std::int32_t>(plan.tensors.size() - 1)};
  return plan;
}

// a, b read the client; c joins them. Operator 0 runs a and b, operator 1 runs c.
inline Plan join_plan() { return make_plan({{0, {-1}}, {0, {-1}}, {1, {0, 1}}}); }

// Time stands still unless somebody waits; whoever waits is woken at once or at the deadline.
class FakeFutex final : public Futex {
 public:
  std::uint64_t now_ns() override { return now; }
  void wait(std::atomic<std::uint32_t>& word, std::uint32_t seen,
            std::uint64_t deadline_ns) override {
    ++waits;
    if (word.load() == seen) now = std::max(now, deadline_ns);
  }
  void wake(std::atomic<std::uint32_t>&, int) override { ++wakes; }
  int cpu() override { return on_cpu; }

  std::uint64_t now = 1;
  int on_cpu = 0;
  int waits = 0;
  int wakes = 0;
};

struct TestDeployment {
  explicit TestDeployment(Plan p, std::uint32_t depth = 2)
      : plan(std::move(p)),
        name("opsplit.test." + std::to_string(getpid()) + ".board"),
        layout(BoardLayout::of(plan, depth, 16).value()),
        board(create(name, layout)),
        handover(board, plan, futex),
        arena(depth * plan.slot_bytes) {}
  ~TestDeployment() { Board::remove(name); }

  static Board create(const std::string& name, const BoardLayout& layout) {
    Board::remove(name);
    return Board::create(name, layout, 1).value();
  }

  [[nodiscard]] TaskWord task(std::uint32_t slot, std::uint32_t index) const {
    return TaskWord::unpack(board.task(slot, index).word.load());
  }
  [[nodiscard]] SlotWord slot(std::uint32_t index) const {
    return SlotWord::unpack(board.slot(index).word.load());
  }

  Plan plan;
  std::string name;
  BoardLayout layout;
  Board board;
  FakeFutex futex;
  Handover handover;
  std::vector<std::byte> arena;
};

}  // namespace opsplit::ipc
