// plan: what would be started, and where.
#include <fmt/ranges.h>

#include <algorithm>

#include "daemon/cli/commands.hpp"
#include "daemon/cli/graphviz.hpp"
#include "daemon/cli/output_file.hpp"
#include "daemon/gpus.hpp"
#include "daemon/preparation.hpp"
#include "daemon/table.hpp"
#include "graph/planner.hpp"

namespace opsplit::daemon::cli {
namespace {

// Up to this many tensors are listed one by one.
constexpr std::size_t max_listed_tensors = 40;

const PlannedOperator& operator_of(const Plan& plan, std::int32_t task) {
  return plan.operators[static_cast<std::size_t>(plan.tasks[static_cast<std::size_t>(task)].op)];
}

std::string memory_of(const PlannedTensor& tensor, const std::vector<UsedGpu>& gpus) {
  if (tensor.gpu == PlannedTensor::none) return "arena";
  return fmt::format("{}GPU {}", tensor.in_arena ? "arena, " : "",
                     gpus[static_cast<std::size_t>(tensor.gpu)].device);
}

// Which edges cost a copy, and how much.
void print_copies(const Plan& plan, const std::vector<UsedGpu>& gpus) {
  const std::vector<DeviceCopy> copies = device_copies(plan);
  if (copies.empty()) return;
  std::vector<std::vector<std::string>> rows = {{"copied", "by", "from", "to", "bytes"}};
  std::uint64_t sum = 0;
  for (const DeviceCopy& copy : copies) {
    const std::string gpu =
        fmt::format("GPU {}", gpus[static_cast<std::size_t>(plan.gpu_of(copy.task))].device);
    rows.push_back({plan.tensors[static_cast<std::size_t>(copy.tensor)].name,
                    operator_of(plan, copy.task).name, copy.to_device ? "arena" : gpu,
                    copy.to_device ? gpu : "arena", std::to_string(copy.bytes)});
    sum += copy.bytes;
  }
  fmt::print("{}\n{} copies between arena and GPU in each request: {} bytes\n", render_table(rows),
             copies.size(), sum);
}

void print_plan(const Planned& planned) {
  const Plan& plan = planned.plan;
  std::vector<std::vector<std::string>> rows = {
      {"operator", "backend", "tasks", "nodes", "cost %", "cores", "threads"}};
  const bool has_gpus = !plan.gpu_slot_bytes.empty();
  const std::vector<UsedGpu> gpus = used_gpus(planned.deployment, plan);
  if (has_gpus) rows[0].insert(rows[0].end(), {"GPU", "stream"});
  double total = 0;
  for (const PlannedOperator& op : plan.operators) total += op.cost;
  for (std::size_t i = 0; i < plan.operators.size(); ++i) {
    const PlannedOperator& op = plan.operators[i];
    std::size_t nodes = 0;
    for (const std::int32_t task : op.tasks)
      nodes += plan.tasks[static_cast<std::size_t>(task)].nodes.size();
    rows.push_back({op.name,
                    std::string(to_string(settings_of(planned.deployment, op.name).backend)),
                    std::to_string(op.tasks.size()), std::to_string(nodes),
                    fmt::format("{:.1f}", total > 0 ? 100 * op.cost / total : 0),
                    to_string(planned.cores[i].cpus), std::to_string(planned.cores[i].threads)});
    if (!has_gpus) continue;
    const bool on_gpu = op.gpu != PlannedTensor::none;
    rows.back().insert(
        rows.back().end(),
        {on_gpu ? gpus[static_cast<std::size_t>(op.gpu)].device : "-",
         on_gpu ? std::string(to_string(stream_priority(planned.deployment, plan, op))) : "-"});
  }
  fmt::print("{}", render_table(rows));
  for (std::size_t i = 0; i < plan.operators.size(); ++i)
    if (!planned.foreign_types[i].empty() && plan.operators[i].gpu == PlannedTensor::none)
      fmt::print("{}: opsplit has no kernels for {}\n", plan.operators[i].name,
                 fmt::join(planned.foreign_types[i], ", "));

  std::uint64_t crossing = 0;
  for (const PlannedTensor& tensor : plan.tensors)
    if (tensor.view_of == PlannedTensor::none) crossing += tensor.bytes;
  fmt::print("\n");
  if (plan.tensors.size() <= max_listed_tensors) {
    const auto is_output = [&](const PlannedTensor& tensor) {
      return std::any_of(plan.outputs.begin(), plan.outputs.end(), [&](std::int32_t output) {
        return &plan.tensors[static_cast<std::size_t>(output)] == &tensor;
      });
    };
    rows = {{"tensor", "type", "layout", "offset", "bytes", "from", "to"}};
    if (has_gpus) rows[0].emplace_back("memory");
    for (const PlannedTensor& tensor : plan.tensors) {
      const auto op_of = [&](std::int32_t task) { return operator_of(plan, task).name; };
      std::string readers;
      for (const std::int32_t reader : tensor.readers)
        readers += (readers.empty() ? "" : ", ") + op_of(reader);
      rows.push_back(
          {tensor.name, to_string(tensor.type) + (tensor.varies ? " at most" : ""),
           std::string(to_string(tensor.layout)),
           std::to_string(tensor.in_arena ? tensor.offset : tensor.gpu_offset),
           std::to_string(tensor.in_arena ? tensor.bytes : byte_size(tensor.type).value()),
           tensor.producer == PlannedTensor::none ? "client" : op_of(tensor.producer),
           !readers.empty()    ? readers
           : is_output(tensor) ? "client"
                               : "(its views)"});
      if (has_gpus) rows.back().push_back(memory_of(tensor, gpus));
    }
    fmt::print("{}\n", render_table(rows));
  }
  fmt::print(
      "{} operators, {} tasks, {} tensors that cross ({} bytes in places of {} bytes per slot)\n"
      "{} slots, a workspace of {} bytes: an arena of {} bytes\n",
      plan.operators.size(), plan.tasks.size(), plan.tensors.size(), crossing, plan.slot_bytes,
      planned.deployment.depth, plan.workspace_bytes, planned.arena_bytes);
  for (std::size_t gpu = 0; gpu < plan.gpu_slot_bytes.size(); ++gpu)
    fmt::print("GPU {}: {} slots of {} bytes\n", gpus[gpu].device, gpus[gpu].shape.depth,
               gpus[gpu].shape.slot_bytes);
  print_copies(plan, gpus);
}

}  // namespace

void add_plan(CLI::App& app, Invocation& invocation) {
  auto* command = app.add_subcommand("plan", "Show operators, tensors and cores; start nothing");
  auto target = std::make_shared<Target>();
  auto as_dot = std::make_shared<bool>(false);
  auto svg = std::make_shared<std::filesystem::path>();
  add_target(*command, *target);
  auto* dot = command->add_flag("--dot", *as_dot, "Print the graph for Graphviz");
  command->add_option("--svg", *svg, "Draw the graph into this file, with Graphviz")->excludes(dot);
  command->footer(
      "Examples:\n  opsplit plan model.onnx --split by-type\n"
      "  opsplit plan model.onnx --split by-type --svg model.svg");
  command->callback([&, target, as_dot, svg] {
    invocation.run = [target, as_dot, svg]() -> Result<> {
      OPSPLIT_TRY(Deployment deployment, Deployment::open(*target));
      OPSPLIT_TRY(const Planned planned, plan_deployment(std::move(deployment)));
      if (!svg->empty()) {
        OPSPLIT_TRY(const std::string picture, render_svg(graph::to_dot(planned.plan)));
        return write_output(*svg, picture);
      }
      if (*as_dot)
        fmt::print("{}", graph::to_dot(planned.plan));
      else
        print_plan(planned);
      return {};
    };
  });
}

}  // namespace opsplit::daemon::cli
