#include "graph/planner.hpp"

#include <algorithm>
#include <map>
#include <utility>

#include "graph/bundle.hpp"
#include "graph/layouts.hpp"
#include "graph/places.hpp"
#include "graph/split_steps.hpp"
#include "graph/topological.hpp"

namespace opsplit::graph {
namespace {

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

void insert_sorted(std::vector<std::int32_t>& ids, std::int32_t id) {
  const auto at = std::lower_bound(ids.begin(), ids.end(), id);
  if (at == ids.end() || *at != id) ids.insert(at, id);
}

// Bytes of a place: enough for every layout in which the tensor may come.
Result<std::uint64_t> place_bytes(const TensorType& type, bool any_layout) {
  OPSPLIT_TRY(std::uint64_t largest, byte_size(type));
  if (!any_layout || type.shape.rank() != 4 || type.dtype != float32) return largest;
  for (const Layout layout : {Layout::nhwc, Layout::nChw8c, Layout::nChw16c}) {
    OPSPLIT_TRY(const std::uint64_t bytes, byte_size(type, layout));
    largest = std::max(largest, bytes);
  }
  return largest;
}

class Planner {
 public:
  Planner(const Graph& graph, std::vector<Layout> layouts)
      : graph_(graph),
        producers_(graph.producers()),
        roots_(view_roots(graph)),
        layouts_(std::move(layouts)),
        task_of_(graph.nodes.size(), PlannedTensor::none),
        tensor_of_(graph.values.size(), PlannedTensor::none) {}

  Result<Plan> run(const std::vector<OperatorNodes>& operators, const PlanOptions& options) {
    OPSPLIT_CHECK(make_tasks(operators));
    OPSPLIT_CHECK(choose_gpus(options.gpus));
    for (const ValueId input : graph_.inputs) {
      OPSPLIT_TRY(const std::int32_t tensor, tensor_for(input));
      plan_.inputs.push_back(tensor);
    }
    for (std::size_t task = 0; task < plan_.tasks.size(); ++task)
      OPSPLIT_CHECK(connect(static_cast<std::int32_t>(task)));
    OPSPLIT_CHECK(make_outputs());
    choose_memories();
    plan_.workspace_bytes = workspace_bytes();
    return std::move(plan_);
  }

 private:
  // Tasks in topological order; the operators keep the split's order.
  Result<> make_tasks(const std::vector<OperatorNodes>& operators) {
    std::vector<std::pair<NodeIds, std::int32_t>> tasks;  // with the operator
    for (const OperatorNodes& op : operators) {
      for (const NodeIds& nodes : op.tasks)
        tasks.emplace_back(nodes, static_cast<std::int32_t>(plan_.operators.size()));
      plan_.operators.push_back({op.name, op.name + ".onnx", {}, 0});
    }
    std::sort(tasks.begin(), tasks.end());  // by first node: the order where there is a choice
    for (std::size_t task = 0; task < tasks.size(); ++task)
      for (const std::int32_t node : tasks[task].first)
        task_of_[index(node)] = static_cast<std::int32_t>(task);

    Successors successors(tasks.size());
    for (std::size_t node = 0; node < graph_.nodes.size(); ++node) {
      if (task_of_[node] < 0) continue;
      for (const ValueId input : graph_.nodes[node].inputs)
        if (const std::int32_t from = producing_task(input); from >= 0 && from != task_of_[node])
          successors[index(from)].push_back(task_of_[node]);
    }
    const Order order = topological_order(successors);
    if (!order.cycle.empty())
      return fail(ErrorCode::invalid_input, "the split's tasks form a cycle at node '{}'",
                  graph_.nodes[index(tasks[index(order.cycle[0])].first[0])].name);
    for (const std::int32_t task : order.vertices)
      add_task(tasks[index(task)].first, tasks[index(task)].second);
    return {};
  }

  Result<> choose_gpus(const std::map<std::string, std::int32_t, std::less<>>& gpus) {
    std::int32_t count = 0;
    for (PlannedOperator& op : plan_.operators) {
      const auto found = gpus.find(op.name);
      if (found == gpus.end()) continue;
      if (found->second < 0 || found->second >= max_gpus)
        return fail(ErrorCode::invalid_input, "operator '{}': GPU {}: 0 to {} are supported",
                    op.name, found->second, max_gpus - 1);
      op.gpu = found->second;
      count = std::max(count, op.gpu + 1);
    }
    plan_.gpu_slot_bytes.resize(index(count));
    return {};
  }

  void choose_memories() {
    const std::vector<Residence> needed = residences(plan_);
    for (std::size_t id = 0; id < plan_.tensors.size(); ++id) {
      PlannedTensor& tensor = plan_.tensors[id];
      tensor.gpu = needed[id].gpu;
      tensor.in_arena = needed[id].in_arena;
      if (!tensor.in_arena) tensor.bytes = 0;
    }
  }

  void add_task(const NodeIds& nodes, std::int32_t op) {
    const auto id = static_cast<std::int32_t>(plan_.tasks.size());
    PlannedTask task;
    task.name = graph_.nodes[index(nodes[0])].name;
    task.op = op;
    for (const std::int32_t node : nodes) {
      task_of_[index(node)] = id;
      task.cost += cost(graph_, graph_.nodes[index(node)]);
    }
    plan_.operators[index(op)].tasks.push_back(id);
    plan_.operators[index(op)].cost += task.cost;
    plan_.tasks.push_back(std::move(task));
    nodes_of_.push_back(nodes);
  }

  // The task that writes the value, or what it is a view of; none: the client, or a constant.
  std::int32_t producing_task(ValueId value) const {
    if (value == no_value) return PlannedTensor::none;
    const std::int32_t node = producers_[index(roots_[index(value)])];
    return node < 0 ? PlannedTensor::none : task_of_[index(node)];
  }

  // What a task reads, and which views lie between its own nodes.
  Result<> connect(std::int32_t id) {
    PlannedTask& task = plan_.tasks[index(id)];
    NodeIds nodes = nodes_of_[index(id)];
    for (const std::int32_t node : nodes_of_[index(id)])
      for (const ValueId input : graph_.nodes[index(node)].inputs) {
        if (input == no_value || graph_.is_constant(input)) continue;
        if (producing_task(input) == id)
          add_views(input, nodes);
        else
          OPSPLIT_CHECK(read(id, input));
      }
    std::sort(nodes.begin(), nodes.end());
    for (const std::int32_t node : nodes) task.nodes.push_back(graph_.nodes[index(node)].name);
    return {};
  }

  // The chain of views from a value of the task to one that it made itself.
  void add_views(ValueId value, NodeIds& nodes) {
    while (value != roots_[index(value)]) {
      const std::int32_t view = producers_[index(value)];
      if (std::find(nodes.begin(), nodes.end(), view) != nodes.end()) return;
      nodes.push_back(view);
      value = graph_.nodes[index(view)].inputs[0];
    }
  }

  Result<> read(std::int32_t task, ValueId value) {
    OPSPLIT_TRY(const std::int32_t id, tensor_for(value));
    PlannedTensor& tensor = plan_.tensors[index(id)];
    if (!tensor.readers.empty() && tensor.readers.back() == task) return {};
    tensor.readers.push_back(task);
    plan_.tasks[index(task)].inputs.push_back(id);
    if (tensor.producer == PlannedTensor::none) {
      plan_.tasks[index(task)].reads_client = true;
    } else {
      insert_sorted(plan_.tasks[index(task)].producers, tensor.producer);
      insert_sorted(plan_.tasks[index(tensor.producer)].consumers, task);
    }
    return {};
  }

  // The tensor that stands for the value; made, with what it is a view of, when first asked for.
  Result<std::int32_t> tensor_for(ValueId value) {
    if (tensor_of_[index(value)] != PlannedTensor::none) return tensor_of_[index(value)];
    PlannedTensor tensor;
    tensor.name = graph_.value(value).name;
    tensor.type = graph_.type(value);
    tensor.producer = producing_task(value);
    const ValueId root = roots_[index(value)];
    if (root != value) {
      OPSPLIT_TRY(tensor.view_of, tensor_for(root));
      tensor.bytes = plan_.tensors[index(tensor.view_of)].bytes;
    } else {
      tensor.layout = layouts_[index(value)];
      auto bytes = place_bytes(tensor.type, is_between_tasks(value));
      if (!bytes) return within(fmt::format("tensor '{}'", tensor.name), bytes.error());
      tensor.bytes = *bytes;
      const std::int32_t from = producers_[index(value)];
      tensor.varies = from >= 0 && varies(graph_.nodes[index(from)], value);
    }
    const auto id = static_cast<std::int32_t>(plan_.tensors.size());
    tensor_of_[index(value)] = id;
    if (root == value && tensor.producer != PlannedTensor::none)
      plan_.tasks[index(tensor.producer)].outputs.push_back(id);
    plan_.tensors.push_back(std::move(tensor));
    return id;
  }

  // Tensors of the client and those with views are row-major whatever happens.
  bool is_between_tasks(ValueId value) {
    if (only_row_major_.empty()) {
      only_row_major_.resize(graph_.values.size());
      for (const ValueId input : graph_.inputs) only_row_major_[index(input)] = true;
      for (const ValueId output : graph_.outputs) only_row_major_[index(output)] = true;
      for (std::size_t id = 0; id < roots_.size(); ++id)
        if (index(roots_[id]) != id) only_row_major_[index(roots_[id])] = true;
    }
    return !only_row_major_[index(value)];
  }

  Result<> make_outputs() {
    for (const ValueId output : graph_.outputs) {
      if (graph_.is_constant(output))
        return fail(ErrorCode::invalid_input,
                    "output '{}' does not depend on any input: remove it from the model",
                    graph_.value(output).name);
      OPSPLIT_TRY(const std::int32_t id, tensor_for(output));
      plan_.outputs.push_back(id);
      if (const std::int32_t task = plan_.tensors[index(id)].producer; task != PlannedTensor::none)
        plan_.tasks[index(task)].feeds_client = true;
    }
    return {};
  }

  // 0 unless two tasks or more can use it, each when the one before is done.
  std::uint64_t workspace_bytes() const {
    std::uint64_t largest = 0;
    std::vector<std::int32_t> users;
    std::vector<std::int32_t> last_user(plan_.tasks.size(),
                                        PlannedTensor::none);  // up to each task
    for (std::int32_t task = 0; task < static_cast<std::int32_t>(plan_.tasks.size()); ++task) {
      std::int32_t& last = last_user[index(task)];
      for (const std::int32_t producer : plan_.tasks[index(task)].producers)
        last = std::max(last, last_user[index(producer)]);
      if (!plan_.uses_workspace(task)) continue;
      if (!users.empty() && last != users.back()) return 0;
      largest = std::max(largest, bytes_inside(task));
      users.push_back(task);
      last = task;
    }
    return users.size() > 1 ? largest : 0;
  }

  // The most that is alive at once of what the task computes and nobody else sees: rather more than
  // a program needs, which has fewer such tensors once it has fused its nodes.
  std::uint64_t bytes_inside(std::int32_t task) const {
    std::map<ValueId, std::size_t> last_use;
    const NodeIds& nodes = nodes_of_[index(task)];
    for (std::size_t i = 0; i < nodes.size(); ++i)
      for (const ValueId input : graph_.nodes[index(nodes[i])].inputs)
        if (producing_task(input) == task) last_use[roots_[index(input)]] = i;
    std::uint64_t alive = 0, most = 0;
    std::vector<std::uint64_t> ends(nodes.size());  // bytes, by last use
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      for (const ValueId output : graph_.nodes[index(nodes[i])].outputs) {
        if (output == no_value || tensor_of_[index(output)] != PlannedTensor::none) continue;
        const auto bytes = place_bytes(graph_.type(output), true);
        if (!bytes || *bytes > max_arena_bytes) return max_arena_bytes;  // fits nowhere
        const std::uint64_t aligned =
            (*bytes + place_alignment - 1) / place_alignment * place_alignment;
        const auto used = last_use.find(output);
        ends[used == last_use.end() ? i : used->second] += aligned;
        alive += aligned;
      }
      most = std::max(most, alive);
      alive -= ends[i];
    }
    return most;
  }

  const Graph& graph_;
  const std::vector<std::int32_t> producers_;  // node of each value
  const std::vector<ValueId> roots_;
  const std::vector<Layout> layouts_;
  std::vector<std::int32_t> task_of_;    // of each node
  std::vector<std::int32_t> tensor_of_;  // of each value
  std::vector<NodeIds> nodes_of_;        // of each task, without views
  std::vector<bool> only_row_major_;     // of each value
  Plan plan_;
};

Result<> check_limits(const Plan& plan, const PlanOptions& options) {
  std::uint64_t arena = 0;
  if (!__builtin_mul_overflow(plan.slot_bytes, options.depth, &arena) &&
      arena <= options.max_arena_bytes)
    return {};
  const std::uint64_t depth = options.max_arena_bytes / plan.slot_bytes;
  return fail(ErrorCode::limit_exceeded,
              "split {}: {} slots of {} bytes do not fit into an arena of at most {} bytes: {}",
              plan.split, options.depth, plan.slot_bytes, options.max_arena_bytes,
              depth > 0 ? fmt::format("set depth to {} or less", depth)
                        : "use a split with fewer tasks (stages:N, fused), or smaller inputs");
}

bool has_foreign(const Graph& graph, const OperatorNodes& op) {
  return std::ranges::any_of(op.tasks, [&](const NodeIds& nodes) {
    return std::ranges::any_of(
        nodes, [&](std::int32_t node) { return is_foreign(graph.nodes[index(node)]); });
  });
}

}  // namespace

Result<Plan> make_plan(const Graph& graph, const SplitSpec& spec, const PlanOptions& options) {
  OPSPLIT_TRY(const auto operators, split(graph, spec));
  const std::string name = to_string(spec);
  if (operators.size() > options.max_operators)
    return fail(
        ErrorCode::limit_exceeded,
        "split {} makes {} operators, at most {} fit (iceoryx registers 300 processes): use "
        "--split by-type or stages:N",
        name, operators.size(), options.max_operators);
  std::vector<bool> only_row_major(graph.nodes.size());
  for (const OperatorNodes& op : operators)
    if (options.row_major_operators.contains(op.name) || options.gpus.contains(op.name) ||
        has_foreign(graph, op))
      for (const NodeIds& nodes : op.tasks)
        for (const std::int32_t node : nodes) only_row_major[index(node)] = true;
  OPSPLIT_TRY(Plan plan, Planner(graph, choose_layouts(graph, options.blocked, only_row_major))
                             .run(operators, options));
  plan.model = graph.name;
  plan.split = name;
  OPSPLIT_CHECK(assign_places(plan));
  OPSPLIT_CHECK(check_limits(plan, options));
  const std::uint64_t room = options.max_arena_bytes - options.depth * plan.slot_bytes;
  if (plan.workspace_bytes > room) plan.workspace_bytes = 0;
  OPSPLIT_CHECK(validate(plan));
  return plan;
}

}  // namespace opsplit::graph
