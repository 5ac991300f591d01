// Builds small graphs for tests, and computes them node by node with the reference.
#pragma once

#include <string>
#include <vector>

#include "graph/graph.hpp"
#include "operators/program.hpp"
#include "tests/operators/tensors.hpp"

namespace opsplit::operators::testing {

class SmallGraph {
 public:
  explicit SmallGraph(std::int64_t opset = 13) { graph_.opset = opset; }

  // Each returns the name, so that calls nest.
  std::string input(const std::string& name, const Shape& shape);
  std::string constant(const std::string& name, const graph::Constant& value);
  std::string random(const std::string& name, const Shape& shape);  // a constant
  // A node named like its first output. An empty input name is an absent input.
  std::string node(const std::string& op_type, const std::vector<std::string>& inputs,
                   const std::string& output, Attributes attributes = {});
  void output(const std::string& name);

  // With shapes inferred. Fails the test if they can't be.
  [[nodiscard]] const graph::Graph& graph();
  [[nodiscard]] std::vector<std::string> node_names();

  // The outputs for seeded random inputs, by the reference.
  [[nodiscard]] std::vector<Tensor> inputs();
  [[nodiscard]] std::vector<Tensor> reference(const std::vector<Tensor>& inputs);

 private:
  graph::ValueId value(const std::string& name);

  graph::Graph graph_;
  bool inferred_ = false;
};

// What compile() and run() need, and what they gave.
struct FusedRun {
  Layout inputs = Layout::row_major;   // agreed, of inputs of rank 4
  Layout outputs = Layout::row_major;  // agreed, of outputs of rank 4
  std::optional<Layout> arrived = {};  // the layout in which inputs of rank 4 come, if another
  std::optional<Layout> image_layout = {};
  int threads = 1;
  const CustomKernels* custom = nullptr;
  RunContext context = {};
};

// Compiles the graph as one task, runs it twice and expects the reference's results.
void expect_fused_equals_reference(SmallGraph& graph, FusedRun& run, double tolerance = 1e-5);

}  // namespace opsplit::operators::testing
