#include "graph/model.hpp"
#include "operators/operator.hpp"

namespace opsplit::operators {
namespace {

// A task below this (about 0.2 ms on one core) gains less from a second thread than it costs to wake
// one, some 30 us, at its start.
constexpr double small_task_cost = 2e7;

class NativeOperator final : public Operator {
 public:
  explicit NativeOperator(ThreadPlacement& placement) : placement_(placement) {}

  void add(std::unique_ptr<Program> program, int threads) {
    tasks_.push_back({std::move(program), threads});
  }

  Result<> run(std::size_t task, std::span<const TensorView> inputs,
               std::span<const MutableTensorView> outputs, RunContext& context) override {
    const auto all_cpus = placement_.spread(tasks_[task].threads);
    return tasks_[task].program->run(inputs, outputs, context);
  }

 private:
  struct Task {
    std::unique_ptr<Program> program;
    int threads;
  };
  ThreadPlacement& placement_;
  std::vector<Task> tasks_;
};

}  // namespace

Result<std::unique_ptr<Operator>> make_native_operator(const OperatorSpec& spec,
                                                       const CustomKernels& custom) {
  // Shapes were bound when the plan was made: a part declares them all.
  OPSPLIT_TRY(graph::Graph part, graph::import_part(spec.part, spec.weights_folder));
  OPSPLIT_CHECK(graph::infer_shapes(part, {}));
  const auto edges = [&](const std::vector<std::int32_t>& tensors) {
    std::vector<EdgeTensor> result;
    for (const std::int32_t tensor : tensors) {
      const PlannedTensor& planned = spec.plan.tensors[static_cast<std::size_t>(tensor)];
      result.push_back({planned.name, planned.layout});
    }
    return result;
  };
  CompileOptions options;
  options.packed_weights = &spec.packed_weights;
  options.custom = &custom;
  auto result = std::make_unique<NativeOperator>(spec.placement);
  for (const std::int32_t index : spec.op.tasks) {
    const PlannedTask& task = spec.plan.tasks[static_cast<std::size_t>(index)];
    options.threads = task.cost < small_task_cost ? 1 : spec.threads;
    OPSPLIT_TRY(auto program, Program::compile(part, task.nodes, edges(task.inputs),
                                               edges(task.outputs), options));
    result->add(std::move(program), options.threads);
  }
  return result;
}

}  // namespace opsplit::operators
