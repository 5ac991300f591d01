#include "operators/cuda/gpu_operator.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "graph/model.hpp"
#include "graph/ops/op.hpp"
#include "ipc/device_completion.hpp"

namespace opsplit::operators::cuda {
namespace {

// Far longer than any task: opsplitd kills who hangs long before. It only keeps a wait from having no end.
constexpr std::uint64_t longest_task_ns = 3'600'000'000'000;

Stream cuda_stream(ipc::DeviceStream stream) { return reinterpret_cast<Stream>(stream); }

// A tensor of a task: its place in the GPU's arena, and where the operator keeps a copy of it. Not
// everything has both.
struct Edge {
  TensorType type;
  std::uint64_t bytes = 0;
  bool on_gpu = false;            // it has a place in the GPU's arena
  bool in_arena = false;          // and one in the host's
  std::uint64_t gpu_offset = 0;   // of the place in its slot
  std::uint64_t copy_offset = 0;  // in the operator's own memory
};

struct Task {
  std::unique_ptr<CudaProgram> program;
  std::vector<Edge> inputs, outputs;
  bool is_picky = false;  // Operator::is_picky()
};

class GpuOperator final : public Operator {
 public:
  GpuOperator(const GpuSite& site, std::vector<Task> tasks, std::shared_ptr<std::byte> copies,
              std::shared_ptr<std::byte> workspace, ipc::DeviceCompletion completion)
      : site_(site),
        tasks_(std::move(tasks)),
        copies_(std::move(copies)),
        workspace_(std::move(workspace)),
        completion_(std::move(completion)) {}

  ~GpuOperator() override {
    if (!pinned_.empty()) (void)site_.driver.unregister_host(pinned_);
  }

  [[nodiscard]] bool is_picky(std::size_t task) const override { return tasks_[task].is_picky; }

  Result<> use_arena(std::span<std::byte> arena) override {
    OPSPLIT_CHECK(site_.driver.register_host(arena));
    pinned_ = arena;
    return {};
  }

  Result<> run(std::size_t index, std::span<const TensorView> inputs,
               std::span<const MutableTensorView> outputs, RunContext& context) override {
    Task& task = tasks_[index];
    for (const TensorView& input : inputs)
      if (input.layout != Layout::row_major)
        return fail(ErrorCode::invalid_input, "an input is {}, on a GPU all is {}",
                    to_string(input.layout), to_string(Layout::row_major));
    const auto launched = launch(task, inputs, outputs, context);
    // Whether it was all put on the stream or not: what was writes to places that are others' afterwards.
    auto done = completion_.launched();
    if (done) done = completion_.wait(context.spin_ns, site_.futex.now_ns() + longest_task_ns);
    if (done) done = site_.arena.check();
    if (!done) context.lost = true;
    return done ? launched : done;
  }

 private:
  Result<> launch(Task& task, std::span<const TensorView> inputs,
                  std::span<const MutableTensorView> outputs, RunContext& context) {
    reads_.clear();
    writes_.clear();
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const Edge& edge = task.inputs[i];
      std::byte* const at = address(edge, context);
      reads_.push_back({edge.type, at});
      if (is_in_place(edge, context)) continue;
      OPSPLIT_CHECK(site_.driver.copy_to_device(reinterpret_cast<ipc::DeviceAddress>(at),
                                                {inputs[i].data, edge.bytes}, site_.stream));
      context.bytes_copied += edge.bytes;
    }
    for (const Edge& edge : task.outputs) writes_.push_back({edge.type, address(edge, context)});
    if (context.last_step_begins) context.last_step_begins();
    OPSPLIT_CHECK(task.program->run(reads_, writes_, workspace_.get(), cuda_stream(site_.stream)));
    context.bytes_copied += task.program->bytes_copied();
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const Edge& edge = task.outputs[i];
      if (context.slot && !edge.in_arena) continue;
      OPSPLIT_CHECK(site_.driver.copy_to_host({outputs[i].data, edge.bytes},
                                              reinterpret_cast<ipc::DeviceAddress>(writes_[i].data),
                                              site_.stream));
      context.bytes_copied += edge.bytes;
    }
    return {};
  }

  // Outside of a slot all that a task reads and writes lies in the host's memory.
  static bool is_in_place(const Edge& edge, const RunContext& context) {
    return edge.on_gpu && context.slot.has_value();
  }

  std::byte* address(const Edge& edge, const RunContext& context) const {
    if (is_in_place(edge, context))
      return reinterpret_cast<std::byte*>(site_.arena.slot(*context.slot) + edge.gpu_offset);
    return copies_.get() + edge.copy_offset;
  }

  const GpuSite site_;
  std::vector<Task> tasks_;
  // One task runs at a time, so that all use the same bytes.
  const std::shared_ptr<std::byte> copies_;  // of what does not lie in the GPU's arena
  const std::shared_ptr<std::byte> workspace_;
  ipc::DeviceCompletion completion_;
  std::span<std::byte> pinned_;
  std::vector<DeviceView> reads_;  // kept from task to task
  std::vector<MutableDeviceView> writes_;
};

Edge edge_of(const Plan& plan, const PlannedOperator& op, std::int32_t id) {
  const PlannedTensor& tensor = plan.tensors[static_cast<std::size_t>(id)];
  return {.type = tensor.type,
          .bytes = byte_size(tensor.type).value(),  // a valid plan's types have a size
          .on_gpu = tensor.gpu == op.gpu,
          .in_arena = tensor.in_arena,
          .gpu_offset = tensor.gpu_offset};
}

// Copies of one task's tensors lie side by side; those of another task may lie in the same bytes.
Result<std::uint64_t> lay_out_copies(Task& task) {
  std::uint64_t end = 0;
  for (auto* edges : {&task.inputs, &task.outputs})
    for (Edge& edge : *edges) {
      edge.copy_offset = end;
      if (__builtin_add_overflow(end, edge.bytes, &end) ||
          __builtin_add_overflow(end, gpu_alignment - 1, &end))
        return fail(ErrorCode::limit_exceeded, "a task's tensors take more than 2^64 bytes");
      end = end / gpu_alignment * gpu_alignment;
    }
  return end;
}

std::vector<EdgeTensor> names_of(const Plan& plan, const std::vector<std::int32_t>& tensors) {
  std::vector<EdgeTensor> edges;
  for (const std::int32_t id : tensors)
    edges.push_back({plan.tensors[static_cast<std::size_t>(id)].name, Layout::row_major});
  return edges;
}

using MakeProgram = std::function<Result<std::unique_ptr<CudaProgram>>(const graph::Graph& part,
                                                                       const PlannedTask& task)>;

Result<std::unique_ptr<Operator>> make_operator(const OperatorSpec& spec, const GpuSite& site,
                                                const graph::Graph& part, const MakeProgram& make) {
  std::vector<Task> tasks;
  std::uint64_t copy_bytes = 0, workspace_bytes = 0;
  for (const std::int32_t index : spec.op.tasks) {
    const PlannedTask& planned = spec.plan.tasks[static_cast<std::size_t>(index)];
    Task task;
    OPSPLIT_TRY(task.program, make(part, planned));
    for (const std::int32_t id : planned.inputs)
      task.inputs.push_back(edge_of(spec.plan, spec.op, id));
    for (const std::int32_t id : planned.outputs)
      task.outputs.push_back(edge_of(spec.plan, spec.op, id));
    task.is_picky = has_unknown_nodes(part, planned);
    OPSPLIT_TRY(const std::uint64_t bytes, lay_out_copies(task));
    copy_bytes = std::max(copy_bytes, bytes);
    workspace_bytes = std::max(workspace_bytes, task.program->workspace_bytes());
    tasks.push_back(std::move(task));
  }
  OPSPLIT_TRY(auto copies, site.gpu.allocate(copy_bytes));
  OPSPLIT_TRY(auto workspace, site.gpu.allocate(workspace_bytes));
  OPSPLIT_TRY(auto completion, ipc::DeviceCompletion::create(site.driver, site.futex, site.stream));
  return std::make_unique<GpuOperator>(site, std::move(tasks), std::move(copies),
                                       std::move(workspace), std::move(completion));
}

Result<graph::Graph> import_part(const OperatorSpec& spec) {
  OPSPLIT_TRY(graph::Graph part, graph::import_part(spec.part, spec.weights_folder));
  OPSPLIT_CHECK(graph::infer_shapes(part, {}));
  return part;
}

}  // namespace

Result<std::unique_ptr<Operator>> make_gpu_operator(const OperatorSpec& spec, const GpuSite& site,
                                                    const CustomCudaKernels& custom) {
  OPSPLIT_TRY(graph::Graph part, import_part(spec));
  adopt_foreign_nodes(part);
  return make_operator(
      spec, site, part, [&](const graph::Graph& graph, const PlannedTask& planned) {
        return CudaProgram::compile(graph, planned.nodes, names_of(spec.plan, planned.inputs),
                                    names_of(spec.plan, planned.outputs), site.gpu, site.constants,
                                    custom);
      });
}

Result<std::unique_ptr<Operator>> make_gpu_backend_operator(const OperatorSpec& spec,
                                                            const GpuSite& site,
                                                            const MakeTaskCudaKernel& make) {
  OPSPLIT_TRY(const graph::Graph part, import_part(spec));
  return make_operator(
      spec, site, part,
      [&](const graph::Graph& graph,
          const PlannedTask& planned) -> Result<std::unique_ptr<CudaProgram>> {
        for (const std::int32_t id : planned.outputs)
          if (const PlannedTensor& output = spec.plan.tensors[static_cast<std::size_t>(id)];
              output.varies)
            return fail(ErrorCode::unsupported,
                        "task {}: the sizes of output '{}' follow from data, which no operator on "
                        "a GPU can have so far: leave 'gpu' out",
                        planned.name, output.name);
        std::unique_ptr<CudaKernel> kernel;
        OPSPLIT_CHECK(describe_task(spec, graph, planned, spec.threads,
                                    [&](const TaskSpec& described) -> Result<> {
                                      OPSPLIT_TRY(kernel, make(described));
                                      return {};
                                    }));
        return CudaProgram::wrap(graph, names_of(spec.plan, planned.inputs),
                                 names_of(spec.plan, planned.outputs), std::move(kernel));
      });
}

}  // namespace opsplit::operators::cuda
