#include "operators/cuda/cuda_program.hpp"

#include <algorithm>
#include <utility>

#include "base/plan.hpp"
#include "operators/cuda/cuda_fusion.hpp"
#include "operators/cuda/cuda_kernels.hpp"
#include "operators/memory_plan.hpp"
#include "operators/task_graph.hpp"

namespace opsplit::operators::cuda {
namespace {

struct CompiledStep {
  std::unique_ptr<CudaKernel> kernel;
  std::string name;  // for errors
  std::vector<DeviceView> inputs = {};
  std::vector<MutableDeviceView> outputs = {};
};

struct EdgeType {
  std::string name;
  TensorType type;
};

Result<std::vector<EdgeType>> edge_types(const graph::Graph& part,
                                         std::span<const EdgeTensor> edges) {
  std::vector<EdgeType> types;
  for (const EdgeTensor& edge : edges) {
    if (edge.layout != Layout::row_major)
      return fail(ErrorCode::unsupported, "tensor {} in layout {}: on a GPU all are row-major",
                  edge.value, to_string(edge.layout));
    types.push_back({edge.value, part.type(part.find(edge.value))});
  }
  return types;
}

template <class View>
Result<> check(std::span<View> views, std::span<const EdgeType> edges, std::string_view what) {
  if (views.size() != edges.size())
    return fail(ErrorCode::invalid_input, "{} {}s instead of {}", views.size(), what, edges.size());
  for (std::size_t i = 0; i < views.size(); ++i)
    if (views[i].type != edges[i].type)
      return fail(ErrorCode::invalid_input, "{} {} is {} instead of {}", what, edges[i].name,
                  to_string(views[i].type), to_string(edges[i].type));
  return {};
}

// A view is another name for what it views. One that is an output of the task moves that into the
// output's place, if it is free to move; else it is a copy.
void place_view(TaskGraph& task, Step& step) {
  const TensorId base = step.inputs[0];
  TaskTensor& view = task.tensor(step.outputs[0]);
  if (view.output < 0) {
    view.inside = base;
    return;
  }
  TaskTensor& whole = task.tensor(task.whole(base).tensor);
  if (whole.input < 0 && whole.output < 0 && whole.fixed == nullptr) {
    whole.output = std::exchange(view.output, -1);
    view.inside = base;
    return;
  }
  step.kind = Step::Kind::copy;
}

void mark_custom(TaskGraph& task, const CustomCudaKernels& custom) {
  for (Step& step : task.steps)
    if (step.kind == Step::Kind::node && custom.contains(graph::named_op_type(*step.node)))
      step.kind = Step::Kind::custom;
}

Result<std::unique_ptr<CudaKernel>> kernel_of(const TaskGraph& task, const Step& step, Gpu& gpu,
                                              const CustomCudaKernels& custom) {
  if (step.kind == Step::Kind::copy) return make_copy(task.tensor(step.outputs[0]).type, gpu);
  if (step.kind == Step::Kind::custom) {
    auto kernel = custom.find(graph::named_op_type(*step.node))->second(spec_of(task, step));
    if (!kernel) return within("node " + step.node->name, kernel.error());
    return kernel;
  }
  return make_cuda_kernel(spec_of(task, step), gpu);
}

class CompiledProgram final : public CudaProgram {
 public:
  Result<> build(const graph::Graph& part, const TaskGraph& task,
                 std::span<const EdgeTensor> inputs, std::span<const EdgeTensor> outputs, Gpu& gpu,
                 DeviceConstants& constants, const CustomCudaKernels& custom) {
    OPSPLIT_TRY(inputs_, edge_types(part, inputs));
    OPSPLIT_TRY(outputs_, edge_types(part, outputs));
    OPSPLIT_TRY(const MemoryPlan plan, place_tensors(task));
    std::uint64_t of_a_step = 0;
    for (const Step& step : task.steps) {
      OPSPLIT_TRY(auto kernel, kernel_of(task, step, gpu, custom));
      CompiledStep compiled{.kernel = std::move(kernel),
                            .name = step.node ? "node " + step.node->name : "a step of no node"};
      of_a_step = std::max(of_a_step, compiled.kernel->workspace_bytes());
      OPSPLIT_CHECK(add_inputs(compiled, task, plan, step, constants));
      add_outputs(compiled, task, plan, step);
      steps_.push_back(std::move(compiled));
    }
    if (__builtin_add_overflow(plan.bytes, gpu_alignment - 1, &step_workspace_))
      return fail(ErrorCode::unsupported, "the task computes in {} bytes", plan.bytes);
    step_workspace_ -= step_workspace_ % gpu_alignment;
    if (__builtin_add_overflow(step_workspace_, of_a_step, &workspace_bytes_))
      return fail(ErrorCode::unsupported, "a step wants {} bytes to compute in", of_a_step);
    return {};
  }

  [[nodiscard]] std::uint64_t workspace_bytes() const override { return workspace_bytes_; }
  [[nodiscard]] std::size_t steps() const override { return steps_.size(); }
  [[nodiscard]] std::uint64_t bytes_copied() const override {
    std::uint64_t bytes = 0;
    for (const CompiledStep& step : steps_) bytes += step.kernel->bytes_copied();
    return bytes;
  }

  Result<> run(std::span<const DeviceView> inputs, std::span<const MutableDeviceView> outputs,
               std::byte* workspace, Stream stream) override {
    OPSPLIT_CHECK(check(inputs, inputs_, "input"));
    OPSPLIT_CHECK(check(outputs, outputs_, "output"));
    for (const Patch& patch : patches_) {
      CompiledStep& step = steps_[patch.step];
      const Location& from = patch.from;
      if (from.where == Location::Where::input) {
        step.inputs[patch.operand].data =
            static_cast<const std::byte*>(inputs[from.index].data) + from.offset;
        continue;
      }
      std::byte* const at = (from.where == Location::Where::memory
                                 ? workspace
                                 : static_cast<std::byte*>(outputs[from.index].data)) +
                            from.offset;
      if (patch.is_output)
        step.outputs[patch.operand].data = at;
      else
        step.inputs[patch.operand].data = at;
    }
    for (CompiledStep& step : steps_)
      if (auto done =
              step.kernel->launch(step.inputs, step.outputs, workspace + step_workspace_, stream);
          !done)
        return within(step.name, done.error());
    return {};
  }

 private:
  Result<> add_inputs(CompiledStep& compiled, const TaskGraph& task, const MemoryPlan& plan,
                      const Step& step, DeviceConstants& constants) {
    for (const TensorId id : step.inputs) {
      compiled.inputs.emplace_back();
      if (id == no_tensor) continue;
      const Location& location = plan.locations[static_cast<std::size_t>(id)];
      DeviceView& view = compiled.inputs.back();
      view.type = task.tensor(id).type;
      if (location.where == Location::Where::fixed) {
        // Of a view the constant is the one that it views, all of it.
        OPSPLIT_TRY(view.data, constants.get(*task.tensor(task.whole(id).tensor).constant));
      } else {
        patches_.push_back({steps_.size(), compiled.inputs.size() - 1, false, location});
      }
    }
    return {};
  }

  void add_outputs(CompiledStep& compiled, const TaskGraph& task, const MemoryPlan& plan,
                   const Step& step) {
    for (const TensorId id : step.outputs) {
      compiled.outputs.emplace_back();
      if (id == no_tensor) continue;
      const Location& location = plan.locations[static_cast<std::size_t>(id)];
      compiled.outputs.back().type = task.tensor(id).type;
      patches_.push_back({steps_.size(), compiled.outputs.size() - 1, true, location});
    }
  }

  std::vector<EdgeType> inputs_, outputs_;
  std::vector<CompiledStep> steps_;
  std::vector<Patch> patches_;
  std::uint64_t step_workspace_ = 0;  // where it begins
  std::uint64_t workspace_bytes_ = 0;
};

// One kernel for all of a task.
class WrappedProgram final : public CudaProgram {
 public:
  WrappedProgram(std::vector<EdgeType> inputs, std::vector<EdgeType> outputs,
                 std::unique_ptr<CudaKernel> kernel)
      : inputs_(std::move(inputs)), outputs_(std::move(outputs)), kernel_(std::move(kernel)) {}

  [[nodiscard]] std::uint64_t workspace_bytes() const override {
    return kernel_->workspace_bytes();
  }
  [[nodiscard]] std::size_t steps() const override { return 1; }
  [[nodiscard]] std::uint64_t bytes_copied() const override { return kernel_->bytes_copied(); }

  Result<> run(std::span<const DeviceView> inputs, std::span<const MutableDeviceView> outputs,
               std::byte* workspace, Stream stream) override {
    OPSPLIT_CHECK(check(inputs, inputs_, "input"));
    OPSPLIT_CHECK(check(outputs, outputs_, "output"));
    return kernel_->launch(inputs, outputs, workspace, stream);
  }

 private:
  std::vector<EdgeType> inputs_, outputs_;
  std::unique_ptr<CudaKernel> kernel_;
};

}  // namespace

Result<const std::byte*> DeviceConstants::get(const graph::Constant& constant) {
  Uploaded& uploaded = uploaded_[{constant.bytes.data(), constant.bytes.size()}];
  if (uploaded.memory == nullptr && !constant.bytes.empty()) {
    OPSPLIT_TRY(auto memory, gpu_.allocate(constant.bytes.size()));
    OPSPLIT_CHECK(gpu_.upload(memory.get(), constant.bytes));
    uploaded = {constant.owner, std::move(memory)};
  }
  return uploaded.memory.get();
}

void adopt_foreign_nodes(graph::Graph& part) {
  for (graph::Node& node : part.nodes)
    if (const std::string type(graph::named_op_type(node)); find_cuda_kernel(type) != nullptr)
      node.op_type = type;
}

Result<std::unique_ptr<CudaProgram>> CudaProgram::compile(const graph::Graph& part,
                                                          std::span<const std::string> nodes,
                                                          std::vector<EdgeTensor> inputs,
                                                          std::vector<EdgeTensor> outputs, Gpu& gpu,
                                                          DeviceConstants& constants,
                                                          const CustomCudaKernels& custom) {
  OPSPLIT_TRY(TaskGraph task, extract_task(part, nodes, inputs, outputs));
  for (const Step& step : task.steps)
    if (step.outputs[0] == no_tensor)
      return fail(ErrorCode::unsupported, "node {} leaves its first output away: a GPU's can't",
                  step.node->name);
  mark_custom(task, custom);
  fuse(task);
  for (Step& step : task.steps)
    if (step.kind == Step::Kind::view) place_view(task, step);
  std::erase_if(task.steps, [](const Step& step) { return step.kind == Step::Kind::view; });
  auto program = std::make_unique<CompiledProgram>();
  OPSPLIT_CHECK(program->build(part, task, inputs, outputs, gpu, constants, custom));
  return program;
}

Result<std::unique_ptr<CudaProgram>> CudaProgram::wrap(const graph::Graph& part,
                                                       std::vector<EdgeTensor> inputs,
                                                       std::vector<EdgeTensor> outputs,
                                                       std::unique_ptr<CudaKernel> kernel) {
  OPSPLIT_TRY(auto reads, edge_types(part, inputs));
  OPSPLIT_TRY(auto writes, edge_types(part, outputs));
  return std::make_unique<WrappedProgram>(std::move(reads), std::move(writes), std::move(kernel));
}

}  // namespace opsplit::operators::cuda
