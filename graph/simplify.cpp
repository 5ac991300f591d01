#include "graph/simplify.hpp"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "graph/edit.hpp"
#include "graph/model.hpp"

namespace opsplit::graph {
namespace {

// Other names for what a simpler operation does.
void rename_operations(Graph& graph) {
  static constexpr std::array<std::string_view, 5> variadic{"Sum", "Max", "Min", "Concat",
                                                            "Identity"};
  for (Node& node : graph.nodes) {
    const bool is_variadic =
        std::find(variadic.begin(), variadic.end(), node.op_type) != variadic.end();
    if ((is_variadic && node.inputs.size() == 1) || node.op_type == "Dropout" ||
        (node.op_type == "Cast" && graph.type(node.inputs[0]) == graph.type(node.outputs[0]))) {
      node.op_type = "Identity";
      node.inputs.resize(1);
      node.attributes.clear();
    } else if (node.op_type == "Sum" && node.inputs.size() == 2) {
      node.op_type = "Add";
    }
  }
}

// A view of a view becomes a Reshape of what the first one is a view of.
Result<> merge_views(Graph& graph) {
  UniqueNames names = value_names(graph);
  const auto producers = graph.producers();
  for (Node& node : graph.nodes) {
    if (!is_view(node)) continue;
    const auto source = producers[static_cast<std::size_t>(node.inputs[0])];
    if (source < 0 || !is_view(graph.nodes[static_cast<std::size_t>(source)])) continue;
    const Shape shape = graph.type(node.outputs[0]).shape;
    // In a Reshape, a 0 means another thing.
    if (std::find(shape.begin(), shape.end(), 0) != shape.end()) continue;
    OPSPLIT_TRY(const ValueId numbers, add_constant(graph, names, node.name + ".shape", shape));
    node.op_type = "Reshape";
    node.inputs = {graph.nodes[static_cast<std::size_t>(source)].inputs[0], numbers};
    node.attributes.clear();
  }
  return {};
}

// Views that change nothing: their readers read what they read. An output of the graph keeps its
// name: what computes the view's input then computes the output under that name.
void remove_idle_views(Graph& graph) {
  const auto producers = graph.producers();
  const auto is_output = [&](ValueId id) {
    return std::find(graph.outputs.begin(), graph.outputs.end(), id) != graph.outputs.end();
  };
  std::vector<ValueId> becomes(graph.values.size());
  std::iota(becomes.begin(), becomes.end(), 0);
  const auto final_id = [&](ValueId id) {
    while (id != no_value && becomes[static_cast<std::size_t>(id)] != id)
      id = becomes[static_cast<std::size_t>(id)] =
          becomes[static_cast<std::size_t>(becomes[static_cast<std::size_t>(id)])];
    return id;
  };

  std::vector<Node> left;
  for (Node& node : graph.nodes) {
    const bool idle = is_view(node) && graph.type(node.inputs[0]) == graph.type(node.outputs[0]);
    if (idle) {
      const ValueId input = final_id(node.inputs[0]);
      const ValueId output = node.outputs[0];
      if (!is_output(output)) {
        becomes[static_cast<std::size_t>(output)] = input;
        continue;
      }
      if (producers[static_cast<std::size_t>(input)] >= 0 && !is_output(input)) {
        becomes[static_cast<std::size_t>(input)] = output;
        continue;
      }
    }
    left.push_back(std::move(node));
  }
  graph.nodes = std::move(left);
  for (Node& node : graph.nodes) {
    for (ValueId& input : node.inputs) input = final_id(input);
    for (ValueId& output : node.outputs) output = final_id(output);
  }
}

// Copies into a place of its own what no task would write there: an output that is a constant; and,
// where the model only passes on its inputs, one of them, so that there is a task at all. The copy is
// an Expand to the very shape. Nobody reads it, for it comes last, and who reads a constant is to have one.
class Copies {
 public:
  explicit Copies(Graph& graph) : graph_(graph), values_(value_names(graph)) {
    for (const Node& node : graph.nodes) nodes_.take(node.name);
  }

  Result<> run() {
    for (const ValueId output : graph_.outputs) {
      if (!graph_.is_constant(output)) continue;
      const ValueId constant =
          add_constant(graph_, values_, graph_.value(output).name + ".constant",
                       *std::exchange(graph_.value(output).constant, std::nullopt));
      OPSPLIT_CHECK(copy(constant, output));
    }
    if (!graph_.outputs.empty() && std::all_of(graph_.nodes.begin(), graph_.nodes.end(), is_view)) {
      const ValueId output = graph_.outputs[0];
      const auto view = std::find_if(graph_.nodes.begin(), graph_.nodes.end(),
                                     [&](const Node& node) { return node.outputs[0] == output; });
      if (view == graph_.nodes.end()) return {};  // it is an input itself
      Value value = graph_.value(output);
      value.name = values_.make(value.name + ".view");
      const ValueId viewed = view->outputs[0] = graph_.add_value(std::move(value));
      OPSPLIT_CHECK(copy(viewed, output));
    }
    return {};
  }

 private:
  Result<> copy(ValueId from, ValueId to) {
    const std::string name = graph_.value(to).name;  // a copy: values are added
    for (Node& node : graph_.nodes) std::replace(node.inputs.begin(), node.inputs.end(), to, from);
    OPSPLIT_TRY(const ValueId shape,
                add_constant(graph_, values_, name + ".shape", graph_.type(to).shape));
    graph_.nodes.push_back({nodes_.make("copy_" + name), "Expand", {from, shape}, {to}, {}});
    return {};
  }

  Graph& graph_;
  UniqueNames values_, nodes_;
};

}  // namespace

Result<> simplify(Graph& graph) {
  rename_operations(graph);
  OPSPLIT_CHECK(merge_views(graph));
  remove_idle_views(graph);
  OPSPLIT_CHECK(join_activations(graph));
  OPSPLIT_CHECK(fold_affine(graph));
  OPSPLIT_CHECK(Copies(graph).run());
  remove_dead(graph);
  return {};
}

Result<Graph> load_model(const std::filesystem::path& file, const GivenShapes& shapes,
                         const OnnxRules& rules) {
  OPSPLIT_TRY(Graph graph, import_model(file));
  if (auto inferred = infer_shapes(graph, shapes, rules); !inferred)
    return within(file.string(), inferred.error());
  if (auto simplified = simplify(graph); !simplified)
    return within(file.string(), simplified.error());
  return graph;
}

}  // namespace opsplit::graph
