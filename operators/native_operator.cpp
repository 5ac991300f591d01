// Operators whose tasks are Programs: of our own kernels, or each of one kernel of somebody else's.
#include <algorithm>
#include <set>

#include "graph/model.hpp"
#include "graph/ops/op.hpp"
#include "graph/planner.hpp"
#include "operators/operator.hpp"
#include "operators/task_graph.hpp"

namespace opsplit::operators {
namespace {

// A task below this (about 0.2 ms on one core) gains less from a second thread than it costs to wake
// one, some 30 us, at its start.
constexpr double small_task_cost = 2e7;

class ProgramOperator final : public Operator {
 public:
  explicit ProgramOperator(ThreadPlacement& placement) : placement_(placement) {}

  void add(std::unique_ptr<Program> program, int threads, bool is_picky) {
    tasks_.push_back({std::move(program), threads, is_picky});
  }

  [[nodiscard]] bool is_picky(std::size_t task) const override { return tasks_[task].is_picky; }

  Result<> run(std::size_t task, std::span<const TensorView> inputs,
               std::span<const MutableTensorView> outputs, RunContext& context) override {
    const auto all_cpus = placement_.spread(tasks_[task].threads);
    return tasks_[task].program->run(inputs, outputs, context);
  }

 private:
  struct Task {
    std::unique_ptr<Program> program;
    int threads;
    bool is_picky;
  };
  ThreadPlacement& placement_;
  std::vector<Task> tasks_;
};

std::vector<EdgeTensor> edges(const Plan& plan, const std::vector<std::int32_t>& tensors) {
  std::vector<EdgeTensor> result;
  for (const std::int32_t tensor : tensors) {
    const PlannedTensor& planned = plan.tensors[static_cast<std::size_t>(tensor)];
    result.push_back({planned.name, planned.layout});
  }
  return result;
}

using MakeProgram = std::function<Result<std::unique_ptr<Program>>(
    const graph::Graph& part, const PlannedTask& task, const CompileOptions& options)>;

Result<std::unique_ptr<Operator>> make_operator(const OperatorSpec& spec, double small_cost,
                                                const MakeProgram& make) {
  // Shapes were bound when the plan was made: a part declares them all.
  OPSPLIT_TRY(graph::Graph part, graph::import_part(spec.part, spec.weights_folder));
  OPSPLIT_CHECK(graph::infer_shapes(part, {}));
  CompileOptions options;
  options.packed_weights = &spec.packed_weights;
  auto result = std::make_unique<ProgramOperator>(spec.placement);
  for (const std::int32_t index : spec.op.tasks) {
    const PlannedTask& task = spec.plan.tasks[static_cast<std::size_t>(index)];
    options.threads = task.cost < small_cost ? 1 : spec.threads;
    OPSPLIT_TRY(auto program, make(part, task, options));
    result->add(std::move(program), options.threads, has_unknown_nodes(part, task));
  }
  return result;
}

}  // namespace

bool has_unknown_nodes(const graph::Graph& part, const PlannedTask& task) {
  const std::set<std::string_view> names(task.nodes.begin(), task.nodes.end());
  return std::ranges::any_of(part.nodes, [&](const graph::Node& node) {
    return names.contains(node.name) && graph::ops::find_named(node) == nullptr;
  });
}

Result<> describe_task(const OperatorSpec& spec, const graph::Graph& part, const PlannedTask& task,
                       int threads, const std::function<Result<>(const TaskSpec&)>& use) {
  TaskSpec described{.name = task.name, .threads = threads};
  const auto add_names = [&](const std::vector<std::int32_t>& tensors, std::vector<NamedType>& to) {
    std::vector<std::string> names;
    for (const std::int32_t tensor : tensors) {
      const PlannedTensor& planned = spec.plan.tensors[static_cast<std::size_t>(tensor)];
      to.push_back({planned.name, planned.type, planned.varies});
      names.push_back(planned.name);
    }
    return names;
  };
  const auto inputs = add_names(task.inputs, described.inputs);
  const auto outputs = add_names(task.outputs, described.outputs);
  described.model = [&] { return graph::export_task(part, task.nodes, inputs, outputs); };
  OPSPLIT_TRY(const TaskGraph extracted,
              extract_task(part, task.nodes, edges(spec.plan, task.inputs),
                           edges(spec.plan, task.outputs)));
  // A step without a node copies an output that no node gives.
  for (const Step& step : extracted.steps)
    if (step.node != nullptr) described.nodes.push_back(spec_of(extracted, step));
  const auto used = use(described);
  return used ? used : within("task " + task.name, used.error());
}

Result<Shape> varying_shape(const Plan& plan, const PlannedTask& task, std::size_t index,
                            const RunContext& context) {
  if (index < context.output_shapes.size() && context.output_shapes[index])
    return *context.output_shapes[index];
  return fail(ErrorCode::operator_failed,
              "how large output '{}' has become must be said: it varies (resize() in Python)",
              plan.tensors[static_cast<std::size_t>(task.outputs[index])].name);
}

Result<std::unique_ptr<Operator>> make_native_operator(const OperatorSpec& spec,
                                                       const CustomKernels& custom) {
  return make_operator(
      spec, small_task_cost,
      [&](const graph::Graph& part, const PlannedTask& task, CompileOptions options) {
        options.custom = &custom;
        return Program::compile(part, task.nodes, edges(spec.plan, task.inputs),
                                edges(spec.plan, task.outputs), options);
      });
}

// How many threads pay for a task is for whoever runs it to find out.
Result<std::unique_ptr<Operator>> make_backend_operator(const OperatorSpec& spec,
                                                        const MakeTaskKernel& make) {
  return make_operator(spec, 0,
                       [&](const graph::Graph& part, const PlannedTask& task,
                           const CompileOptions& options) -> Result<std::unique_ptr<Program>> {
                         std::unique_ptr<Kernel> kernel;
                         OPSPLIT_CHECK(describe_task(spec, part, task, options.threads,
                                                     [&](const TaskSpec& described) -> Result<> {
                                                       OPSPLIT_TRY(kernel, make(described));
                                                       return {};
                                                     }));
                         return Program::wrap(part, edges(spec.plan, task.inputs),
                                              edges(spec.plan, task.outputs), std::move(kernel),
                                              options);
                       });
}

}  // namespace opsplit::operators
