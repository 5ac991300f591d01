// Program: a compiled task and its run. The passes of compile() are in files of their own.
#include "operators/program.hpp"

#include <omp.h>

#include <algorithm>
#include <map>
#include <utility>

#include "base/cpu.hpp"
#include "operators/channel_shuffle.hpp"
#include "operators/fusion.hpp"
#include "operators/kernels/kernels.hpp"
#include "operators/layout_choice.hpp"
#include "operators/memory_plan.hpp"
#include "operators/task_graph.hpp"

namespace opsplit::operators {
namespace {

// A step, ready to run. Views of what is no constant get their pointers in each run.
struct CompiledStep {
  std::unique_ptr<Kernel> kernel;
  std::string name;  // for errors; empty: the kernel's own say enough
  bool is_custom = false;
  std::vector<TensorView> inputs = {};
  std::vector<MutableTensorView> outputs = {};
};

struct EdgeType {
  std::string name;
  TensorType type;
  Layout layout;
};

// A tensor that came in another layout than agreed is converted into memory of ours.
struct Conversion {
  std::unique_ptr<Kernel> kernel;
  AlignedMemory memory;
};

class CompiledProgram final : public Program {
 public:
  CompiledProgram(int threads, KernelResources resources)
      : threads_(threads), resources_(std::move(resources)) {}

  Result<> build(const graph::Graph& part, TaskGraph task, std::span<const EdgeTensor> inputs,
                 std::span<const EdgeTensor> outputs) {
    OPSPLIT_TRY(inputs_, edge_types(part, inputs));
    OPSPLIT_TRY(outputs_, edge_types(part, outputs));
    OPSPLIT_TRY(const MemoryPlan plan, plan_memory(task, resources_));
    memory_ = AlignedMemory(plan.bytes);
    // The part need not outlive the program, what kernels read of its constants must.
    for (const TaskTensor& tensor : task.tensors)
      if (tensor.constant) constants_.push_back(tensor.constant->owner);
    for (Step& step : task.steps) OPSPLIT_CHECK(add_step(task, plan, step));
    arrived_.reserve(inputs_.size());
    return {};
  }

  Result<> run(std::span<const TensorView> inputs, std::span<const MutableTensorView> outputs,
               RunContext& context) override {
    omp_set_num_threads(threads_);
    OPSPLIT_CHECK(check(inputs, outputs));
    arrived_.assign(inputs.begin(), inputs.end());
    for (std::size_t i = 0; i < inputs.size(); ++i)
      if (inputs[i].layout != inputs_[i].layout) OPSPLIT_CHECK(convert(i, context));
    std::byte* memory =
        context.workspace.size() >= memory_.size() ? context.workspace.data() : memory_.data();
    for (const Patch& patch : patches_) {
      CompiledStep& step = steps_[patch.step];
      if (patch.from.where == Location::Where::input) {
        step.inputs[patch.operand].data = arrived_[patch.from.index].data + patch.from.offset;
        continue;
      }
      const bool is_private = patch.from.where == Location::Where::memory;
      std::byte* data = (is_private ? memory : outputs[patch.from.index].data) + patch.from.offset;
      if (patch.is_output)
        step.outputs[patch.operand].data = data;
      else
        step.inputs[patch.operand].data = data;
    }
    for (CompiledStep& step : steps_) {
      if (&step == &steps_.back() && context.last_step_begins) context.last_step_begins();
      if (auto done = step.kernel->run(step.inputs, step.outputs); !done)
        return step.name.empty() ? done : within(step.name, done.error());
      if (step.is_custom) context.bytes_copied += step.kernel->bytes_copied();
    }
    for (const Patch& patch : custom_outputs_)
      if (const auto shape = steps_[patch.step].kernel->output_shape(patch.operand)) {
        context.output_shapes.resize(outputs.size());
        context.output_shapes[patch.from.index] = shape;
      }
    context.bytes_copied += copied_per_run_;
    context.bytes_converted += converted_per_run_;
    return {};
  }

 private:
  static Result<std::vector<EdgeType>> edge_types(const graph::Graph& part,
                                                  std::span<const EdgeTensor> edges) {
    std::vector<EdgeType> types;
    for (const EdgeTensor& edge : edges)
      types.push_back({edge.value, part.type(part.find(edge.value)), edge.layout});
    return types;
  }

  Result<> add_step(const TaskGraph& task, const MemoryPlan& plan, Step& step) {
    const std::size_t index = steps_.size();
    const bool is_custom = step.kind == Step::Kind::custom;
    CompiledStep compiled{.kernel = std::move(step.kernel),
                          .name = step.node   ? "node " + step.node->name
                                  : is_custom ? ""
                                              : "a step of no node",
                          .is_custom = is_custom};
    for (const TensorId id : step.inputs) {
      const std::size_t operand = compiled.inputs.size();
      compiled.inputs.push_back({});
      if (id == no_tensor) continue;
      const Location& location = plan.locations[static_cast<std::size_t>(id)];
      const TaskTensor& tensor = task.tensor(id);
      compiled.inputs.back() = {tensor.type, tensor.layout, location.fixed};
      if (location.where != Location::Where::fixed)
        patches_.push_back({index, operand, false, location});
    }
    for (const TensorId id : step.outputs) {
      const std::size_t operand = compiled.outputs.size();
      compiled.outputs.push_back({});
      if (id == no_tensor) continue;
      const Location& location = plan.locations[static_cast<std::size_t>(id)];
      const TaskTensor& tensor = task.tensor(id);
      compiled.outputs.back() = {tensor.type, tensor.layout, nullptr};
      patches_.push_back({index, operand, true, location});
      if (is_custom && location.where == Location::Where::output)
        custom_outputs_.push_back(patches_.back());
    }
    if (step.kind == Step::Kind::copy) OPSPLIT_CHECK(count_copy(task, plan, step));
    steps_.push_back(std::move(compiled));
    return {};
  }

  // What a copy from or to an edge moves in each run: plain, or because the kernels want another
  // layout. Conversions between private tensors are part of the computation.
  Result<> count_copy(const TaskGraph& task, const MemoryPlan& plan, const Step& step) {
    const auto is_at_edge = [&](TensorId id) {
      return is_edge(plan.locations[static_cast<std::size_t>(id)]);
    };
    if (!is_at_edge(step.inputs[0]) && !is_at_edge(step.outputs[0])) return {};
    const TaskTensor& to = task.tensor(step.outputs[0]);
    OPSPLIT_TRY(const std::uint64_t bytes, byte_size(to.type, to.layout));
    const bool is_conversion = to.layout != task.tensor(step.inputs[0]).layout;
    (is_conversion && !is_for_custom_kernel(task, step) ? converted_per_run_ : copied_per_run_) +=
        bytes;
    return {};
  }

  // One that would take the edge as it is if it could.
  static bool is_for_custom_kernel(const TaskGraph& task, const Step& copy) {
    return std::ranges::any_of(task.steps, [&](const Step& step) {
      return step.kind == Step::Kind::custom &&
             (std::ranges::count(step.inputs, copy.outputs[0]) != 0 ||
              std::ranges::count(step.outputs, copy.inputs[0]) != 0);
    });
  }

  static bool is_edge(const Location& location) {
    return location.where == Location::Where::input || location.where == Location::Where::output;
  }

  Result<> check(std::span<const TensorView> inputs,
                 std::span<const MutableTensorView> outputs) const {
    if (inputs.size() != inputs_.size() || outputs.size() != outputs_.size())
      return fail(ErrorCode::invalid_input, "{} inputs and {} outputs instead of {} and {}",
                  inputs.size(), outputs.size(), inputs_.size(), outputs_.size());
    for (std::size_t i = 0; i < inputs.size(); ++i)
      if (inputs[i].type != inputs_[i].type)
        return fail(ErrorCode::invalid_input, "input {} is {} instead of {}", inputs_[i].name,
                    to_string(inputs[i].type), to_string(inputs_[i].type));
    for (std::size_t i = 0; i < outputs.size(); ++i)
      if (outputs[i].type != outputs_[i].type || outputs[i].layout != outputs_[i].layout)
        return fail(ErrorCode::invalid_input, "output {} is {} {} instead of {} {}",
                    outputs_[i].name, to_string(outputs[i].type), to_string(outputs[i].layout),
                    to_string(outputs_[i].type), to_string(outputs_[i].layout));
    return {};
  }

  // Memory and kernel are made when a layout comes that has not come before.
  Result<> convert(std::size_t input, RunContext& context) {
    const EdgeType& agreed = inputs_[input];
    TensorView& arrived = arrived_[input];
    Conversion& conversion = conversions_[{input, arrived.layout}];
    OPSPLIT_TRY(const std::uint64_t bytes, byte_size(agreed.type, agreed.layout));
    if (!conversion.kernel) {
      auto kernel = make_copy({.type = agreed.type, .layout = arrived.layout},
                              {.type = agreed.type, .layout = agreed.layout}, resources_);
      if (!kernel) return within("input " + agreed.name, kernel.error());
      conversion = {std::move(*kernel), AlignedMemory(bytes)};
    }
    const MutableTensorView target{agreed.type, agreed.layout, conversion.memory.data()};
    OPSPLIT_CHECK(conversion.kernel->run({&arrived, 1}, {&target, 1}));
    arrived = {target.type, target.layout, target.data};
    context.bytes_copied += bytes;
    return {};
  }

  const int threads_;
  KernelResources resources_;
  std::vector<EdgeType> inputs_, outputs_;
  std::vector<std::shared_ptr<const void>> constants_;
  AlignedMemory memory_;
  std::vector<CompiledStep> steps_;
  std::vector<Patch> patches_;
  std::vector<Patch> custom_outputs_;  // those of outputs at the edge that kernels of others write
  std::vector<TensorView> arrived_;    // the inputs of the run under way, in their agreed layouts
  std::map<std::pair<std::size_t, Layout>, Conversion> conversions_;
  std::uint64_t copied_per_run_ = 0;
  std::uint64_t converted_per_run_ = 0;
};

// From a task whose steps are known to what runs.
Result<std::unique_ptr<Program>> finish(const graph::Graph& part, TaskGraph task,
                                        std::span<const EdgeTensor> inputs,
                                        std::span<const EdgeTensor> outputs,
                                        const CompileOptions& options) {
  if (options.threads < 1 || options.packed_weights == nullptr)
    return fail(ErrorCode::invalid_input, "a program needs a thread and a store for its weights");
  omp_set_num_threads(options.threads);  // primitives are made for as many as they run on
  KernelResources resources{options.packed_weights, std::make_shared<Scratchpad>()};
  OPSPLIT_CHECK(
      choose_layouts(task, options.image_layout.value_or(preferred_blocked_layout()), resources));
  auto program = std::make_unique<CompiledProgram>(options.threads, resources);
  OPSPLIT_CHECK(program->build(part, std::move(task), inputs, outputs));
  return program;
}

}  // namespace

Result<std::unique_ptr<Program>> Program::compile(const graph::Graph& part,
                                                  std::span<const std::string> nodes,
                                                  std::vector<EdgeTensor> inputs,
                                                  std::vector<EdgeTensor> outputs,
                                                  const CompileOptions& options) {
  OPSPLIT_TRY(TaskGraph task, extract_task(part, nodes, inputs, outputs));
  for (const Step& step : task.steps)  // the passes look at it
    if (step.outputs[0] == no_tensor)
      return fail(ErrorCode::unsupported,
                  "node {} leaves its first output away: backend native can't", step.node->name);
  if (options.custom != nullptr) OPSPLIT_CHECK(take_custom_kernels(task, *options.custom));
  join_channel_shuffles(task);
  fuse(task);
  return finish(part, std::move(task), inputs, outputs, options);
}

Result<std::unique_ptr<Program>> Program::wrap(const graph::Graph& part,
                                               std::vector<EdgeTensor> inputs,
                                               std::vector<EdgeTensor> outputs,
                                               std::unique_ptr<Kernel> kernel,
                                               const CompileOptions& options) {
  OPSPLIT_TRY(TaskGraph task, task_of_kernel(part, inputs, outputs, std::move(kernel)));
  return finish(part, std::move(task), inputs, outputs, options);
}

}  // namespace opsplit::operators
