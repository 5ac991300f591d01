#include "graph/model.hpp"
#include "operators/operator.hpp"

namespace opsplit::operators {
namespace {

// A task below this (about 0.2 ms on one core) gains less from a second thread than it costs to wake
// one, some 30 us, at its start.
constexpr double small_task_cost = 2e7;

class NativeOperator final : public Operator {
 public:
  explicit NativeOperator(std::vector<std::unique_ptr<Program>> programs)
      : programs_(std::move(programs)) {}

  Result<> run(std::size_t task, std::span<const TensorView> inputs,
               std::span<const MutableTensorView> outputs, RunContext& context) override {
    return programs_[task]->run(inputs, outputs, context);
  }

 private:
  std::vector<std::unique_ptr<Program>> programs_;
};

}  // namespace

Result<std::unique_ptr<Operator>> make_native_operator(const OperatorSpec& spec) {
  // Shapes were bound when the plan was made: a part declares them all.
  OPSPLIT_TRY(graph::Graph part, graph::import_model(spec.part, graph::Weights::mapped));
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
  std::vector<std::unique_ptr<Program>> programs;
  for (const std::int32_t index : spec.op.tasks) {
    const PlannedTask& task = spec.plan.tasks[static_cast<std::size_t>(index)];
    options.threads = task.cost < small_task_cost ? 1 : spec.threads;
    OPSPLIT_TRY(auto program, Program::compile(part, task.nodes, edges(task.inputs),
                                               edges(task.outputs), options));
    programs.push_back(std::move(program));
  }
  return std::make_unique<NativeOperator>(std::move(programs));
}

}  // namespace opsplit::operators
