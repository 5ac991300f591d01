// Random graphs, split in every way; the plans are checked against the rules by brute force, from
// nothing but the plan and the graph.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "graph/planner.hpp"
#include "graph/split_steps.hpp"
#include "tests/graph/model_builder.hpp"

namespace opsplit::graph {
namespace {

using Random = std::mt19937;

std::size_t pick(Random& random, std::size_t count) { return random() % count; }

// Nodes with one to three inputs, any earlier values; a third of them views. Sizes differ, so that
// places are worth reusing. Values that nobody reads become outputs, and a few others too.
Graph random_graph(Random& random) {
  Graph graph;
  std::vector<ValueId> made;
  const auto add_value = [&](const Shape& shape) {
    Value value;
    value.name = "v" + std::to_string(graph.values.size());
    value.dtype = float32;
    value.type = TensorType{float32, shape};
    made.push_back(graph.add_value(std::move(value)));
    return made.back();
  };
  const auto random_shape = [&] {
    const auto size = static_cast<std::int64_t>(1 + pick(random, 40));
    return pick(random, 2) == 0 ? Shape{1, size, 2, 3} : Shape{size, 7};
  };
  for (std::size_t i = 0; i < 1 + pick(random, 2); ++i)
    graph.inputs.push_back(add_value(random_shape()));
  const std::size_t nodes = 2 + pick(random, 30);
  for (std::size_t i = 0; i < nodes; ++i) {
    Node node;
    node.name = "n" + std::to_string(i);
    const bool view = i > 0 && pick(random, 3) == 0;
    node.op_type = view
                       ? "Reshape"
                       : std::vector<std::string>{"Add", "Relu", "Conv", "Concat"}[pick(random, 4)];
    for (std::size_t j = 0; j < (view ? 1 : 1 + pick(random, 3)); ++j) {
      const std::size_t recent = std::min<std::size_t>(made.size(), 6);
      node.inputs.push_back(made[made.size() - 1 - pick(random, recent)]);
    }
    if (node.op_type == "Conv") node.inputs.resize(2, node.inputs[0]);
    Shape shape = random_shape();
    if (view) shape = Shape{*graph.type(node.inputs[0]).shape.elements()};
    node.outputs = {add_value(shape)};
    graph.nodes.push_back(std::move(node));
  }
  const auto readers = graph.readers();
  for (const ValueId id : made) {
    const bool is_input =
        std::find(graph.inputs.begin(), graph.inputs.end(), id) != graph.inputs.end();
    if ((readers[static_cast<std::size_t>(id)].empty() && !is_input) || pick(random, 15) == 0)
      graph.outputs.push_back(id);
  }
  return graph;
}

SplitSpec random_split(Random& random, const Graph& graph) {
  switch (pick(random, 5)) {
    case 0:
      return Fused{};
    case 1:
      return ByType{};
    case 2:
      return PerNode{};
    case 3:
      return Stages{1 + static_cast<int>(pick(random, run_nodes(graph).size()))};
    default:
      break;
  }
  ByHand hand;
  for (const char* name : {"a", "b", "c"}) hand.groups.push_back({name, {}, {}});
  const NodeIds nodes = run_nodes(graph);
  for (std::size_t i = 0; i < nodes.size(); ++i)
    hand.groups[i < 3 ? i : pick(random, 3)].nodes.push_back(
        graph.nodes[static_cast<std::size_t>(nodes[i])].name);
  if (nodes.size() < 3) hand.groups.resize(nodes.size());
  return hand;
}

class PlanChecker {
 public:
  PlanChecker(const Graph& graph, const Plan& plan) : graph_(graph), plan_(plan) {
    find_ancestors();
  }

  void check() {
    every_node_runs_once();
    tasks_read_what_their_nodes_need();
    client_tensors();
    memories();
    places();
    workspace();
  }

 private:
  using Task = std::size_t;

  const PlannedTensor& tensor(std::int32_t id) const {
    return plan_.tensors.at(static_cast<std::size_t>(id));
  }

  // ancestor_[a][b]: b can only start when a is done.
  void find_ancestors() {
    const std::size_t count = plan_.tasks.size();
    ancestor_.assign(count, std::vector<bool>(count));
    for (Task task = 0; task < count; ++task)
      for (const auto input : plan_.tasks[task].inputs)
        if (const auto producer = tensor(input).producer; producer >= 0)
          for (Task other = 0; other < count; ++other)
            if (other == static_cast<Task>(producer) ||
                ancestor_[other][static_cast<Task>(producer)])
              ancestor_[other][task] = true;
  }

  void every_node_runs_once() {
    std::multiset<std::string> planned;
    for (const PlannedTask& task : plan_.tasks)
      planned.insert(task.nodes.begin(), task.nodes.end());
    for (const Node& node : graph_.nodes) {
      if (is_view(node))
        EXPECT_LE(planned.count(node.name), 1U);
      else
        EXPECT_EQ(planned.count(node.name), 1U);
    }
  }

  // Runs the tasks in order: each node finds its inputs made in the task, or among what it reads.
  void tasks_read_what_their_nodes_need() {
    std::set<std::string> in_places;
    for (const auto input : plan_.inputs) in_places.insert(tensor(input).name);
    for (const PlannedTask& task : plan_.tasks) {
      std::set<std::string> known;
      for (const auto input : task.inputs) {
        EXPECT_TRUE(in_places.contains(tensor(plan_.root(input)).name)) << "not yet written";
        known.insert(tensor(input).name);
      }
      for (const std::string& name : task.nodes) {
        for (const Node& node : graph_.nodes) {
          if (node.name != name) continue;
          for (const ValueId input : node.inputs)
            EXPECT_TRUE(known.contains(graph_.value(input).name))
                << name << " lacks " << graph_.value(input).name;
          known.insert(graph_.value(node.outputs[0]).name);
        }
      }
      EXPECT_FALSE(task.outputs.empty());
      for (const auto output : task.outputs) {
        EXPECT_TRUE(known.contains(tensor(output).name));
        EXPECT_TRUE(in_places.insert(tensor(output).name).second);
      }
    }
  }

  void client_tensors() {
    ASSERT_EQ(plan_.inputs.size(), graph_.inputs.size());
    ASSERT_EQ(plan_.outputs.size(), graph_.outputs.size());
    for (std::size_t i = 0; i < graph_.outputs.size(); ++i)
      EXPECT_EQ(tensor(plan_.outputs[i]).name, graph_.value(graph_.outputs[i]).name);
    for (const PlannedTensor& t : plan_.tensors) {
      EXPECT_EQ(t.type, graph_.type(graph_.find(t.name)));
      EXPECT_EQ(t.offset % 64, 0U);
      EXPECT_LE(t.offset + t.bytes, plan_.slot_bytes);
      EXPECT_GE(t.bytes, t.in_arena ? *byte_size(t.type, t.layout) : 0);
    }
  }

  // All tasks that touch the bytes of a root, and what the client does with them.
  struct Use {
    std::set<Task> tasks;
    bool written_by_client = false;
    bool read_by_client = false;
  };
  Use use_of(std::size_t root) const {
    Use use;
    for (std::size_t id = 0; id < plan_.tensors.size(); ++id) {
      if (static_cast<std::size_t>(plan_.root(static_cast<std::int32_t>(id))) != root) continue;
      for (const auto reader : plan_.tensors[id].readers)
        use.tasks.insert(static_cast<Task>(reader));
      for (const auto output : plan_.outputs)
        use.read_by_client |= static_cast<std::size_t>(output) == id;
    }
    if (const auto producer = plan_.tensors[root].producer; producer >= 0)
      use.tasks.insert(static_cast<Task>(producer));
    else
      use.written_by_client = true;
    return use;
  }

  // A tensor lies in the arena if the client or a CPU uses it, or another GPU than its producer's; on a
  // GPU if tasks there write and read it.
  void memories() {
    for (std::size_t root = 0; root < plan_.tensors.size(); ++root) {
      const PlannedTensor& t = plan_.tensors[root];
      if (t.view_of >= 0) continue;
      const Use use = use_of(root);
      std::set<std::int32_t> gpus;
      for (const Task task : use.tasks) gpus.insert(plan_.gpu_of(static_cast<std::int32_t>(task)));
      const bool on_one_gpu = gpus.size() == 1 && *gpus.begin() >= 0 && use.tasks.size() > 1;
      EXPECT_EQ(t.in_arena, use.written_by_client || use.read_by_client || !on_one_gpu) << t.name;
      if (t.gpu >= 0) {
        EXPECT_EQ(plan_.gpu_of(t.producer), t.gpu);
        EXPECT_EQ(t.gpu_offset % 256, 0U);
        EXPECT_LE(t.gpu_offset + *byte_size(t.type),
                  plan_.gpu_slot_bytes.at(static_cast<std::size_t>(t.gpu)));
        EXPECT_EQ(t.layout, Layout::row_major);
      } else if (!use.written_by_client && plan_.gpu_of(t.producer) >= 0) {
        for (const Task task : use.tasks)
          EXPECT_TRUE(static_cast<std::int32_t>(task) == t.producer ||
                      plan_.gpu_of(static_cast<std::int32_t>(task)) != plan_.gpu_of(t.producer));
      }
    }
  }

  // Whenever bytes overlap, all use of one tensor comes strictly before all use of the other.
  void places() {
    const auto overlap = [](std::uint64_t a, std::uint64_t a_bytes, std::uint64_t b,
                            std::uint64_t b_bytes) { return a + a_bytes > b && b + b_bytes > a; };
    for (std::size_t a = 0; a < plan_.tensors.size(); ++a)
      for (std::size_t b = a + 1; b < plan_.tensors.size(); ++b) {
        const PlannedTensor& ta = plan_.tensors[a];
        const PlannedTensor& tb = plan_.tensors[b];
        if (ta.view_of >= 0 || tb.view_of >= 0) continue;
        const bool in_arena = overlap(ta.offset, ta.bytes, tb.offset, tb.bytes);
        const bool on_gpu =
            ta.gpu >= 0 && ta.gpu == tb.gpu &&
            overlap(ta.gpu_offset, *byte_size(ta.type), tb.gpu_offset, *byte_size(tb.type));
        if (!in_arena && !on_gpu) continue;
        const Use ua = use_of(a);
        const Use ub = use_of(b);
        EXPECT_TRUE(all_before(ua, ub) || all_before(ub, ua)) << ta.name << " and " << tb.name;
      }
  }

  void workspace() {
    if (plan_.workspace_bytes == 0) return;
    const auto uses = [&](Task task) {
      return plan_.tasks[task].nodes.size() > 1 &&
             plan_.gpu_of(static_cast<std::int32_t>(task)) < 0;
    };
    for (Task b = 0; b < plan_.tasks.size(); ++b)
      for (Task a = 0; a < b; ++a)
        if (uses(a) && uses(b)) {
          EXPECT_TRUE(ancestor_[a][b]) << plan_.tasks[a].name << " and " << plan_.tasks[b].name;
        }
  }

  // The client writes before every task, may do so again, and reads after every task.
  bool all_before(const Use& first, const Use& second) const {
    if (first.written_by_client || first.read_by_client || second.written_by_client) return false;
    for (const Task a : first.tasks)
      for (const Task b : second.tasks)
        if (!ancestor_[a][b]) return false;
    return true;
  }

  const Graph& graph_;
  const Plan& plan_;
  std::vector<std::vector<bool>> ancestor_;
};

TEST(Places, RandomGraphsKeepEveryRule) {
  std::uint64_t planned = 0;
  std::uint64_t without_reuse = 0;
  int workspaces = 0;
  int on_gpu_only = 0;
  for (unsigned seed = 0; seed < 1500; ++seed) {
    Random random(seed);
    const Graph graph = random_graph(random);
    if (run_nodes(graph).empty()) continue;
    const SplitSpec spec = random_split(random, graph);
    PlanOptions options;
    options.blocked =
        std::array{Layout::row_major, Layout::nChw8c, Layout::nChw16c}[pick(random, 3)];
    const auto operators = split(graph, spec);
    if (operators && pick(random, 2) == 0)  // half of the plans without GPUs
      for (const OperatorNodes& op : *operators)
        if (const std::size_t processor = pick(random, 4); processor < 2)
          options.gpus.emplace(op.name, static_cast<std::int32_t>(processor));
    const auto plan = make_plan(graph, spec, options);
    ASSERT_TRUE(plan) << seed << ": " << plan.error().message;
    PlanChecker(graph, *plan).check();
    if (testing::Test::HasFailure()) FAIL() << "seed " << seed << ", split " << to_string(spec);
    planned += plan->slot_bytes;
    if (plan->workspace_bytes > 0) ++workspaces;
    for (const PlannedTensor& t : plan->tensors)
      if (t.view_of < 0 && !t.in_arena) ++on_gpu_only;
    for (const PlannedTensor& t : plan->tensors)
      if (t.view_of < 0) without_reuse += (t.bytes + 63) / 64 * 64;
  }
  EXPECT_LT(planned, without_reuse * 9 / 10) << "places are hardly used again";
  EXPECT_GT(workspaces, 100);
  EXPECT_GT(on_gpu_only, 200);
}

TEST(Places, AChainNeedsTwoPlacesBesidesTheInputs) {
  ModelBuilder model;
  model.input("v0", {1024}).output("v20");
  for (int i = 0; i < 20; ++i)
    model.node("Relu", {"v" + std::to_string(i)}, {"v" + std::to_string(i + 1)});
  EXPECT_EQ(value_of(make_plan(value_of(model.load()), PerNode{}, {})).slot_bytes, 3 * 4096U);
}

}  // namespace
}  // namespace opsplit::graph
