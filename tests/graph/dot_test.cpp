// to_dot(), of graph/planner.hpp.
#include <gmock/gmock.h>

#include <set>

#include "graph/planner.hpp"
#include "tests/graph/model_builder.hpp"

namespace opsplit::graph {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

Plan plan_of(const ModelBuilder& model, const SplitSpec& spec) {
  return value_of(make_plan(value_of(model.load()), spec, {}));
}

// The line of the dot text that begins so.
std::string line(const std::string& dot, const std::string& begin) {
  const auto start = dot.find("\n  " + begin);
  if (start == std::string::npos) throw std::runtime_error("no line " + begin + " in " + dot);
  return dot.substr(start + 3, dot.find('\n', start + 1) - start - 3);
}

std::string fill(const std::string& line) {
  const auto start = line.find("fillcolor=\"") + 11;
  return line.substr(start, line.find('"', start) - start);
}

// A chain of Relus, as many as asked for.
Plan chain(int length) {
  ModelBuilder model;
  model.input("x", {4}).output("y" + std::to_string(length));
  for (int i = 1; i <= length; ++i)
    model.node("Relu", {i == 1 ? "x" : "y" + std::to_string(i - 1)}, {"y" + std::to_string(i)}, {},
               "r" + std::to_string(i));
  return plan_of(model, PerNode{});
}

TEST(ToDot, ShowsTasksTensorsAndTheClient) {
  const std::string dot = to_dot(plan_of(small_cnn(), ByType{}));
  EXPECT_TRUE(dot.starts_with("digraph \"model.onnx\" {\n"));
  EXPECT_TRUE(dot.ends_with("}\n"));
  EXPECT_THAT(line(dot, "t0 ["), ContainsRegex("label=\"conv1\\\\nconv, [0-9.]+ %\""));
  EXPECT_THAT(line(dot, "in ["), HasSubstr("label=\"client\""));
  EXPECT_THAT(line(dot, "out ["), HasSubstr("label=\"client\""));
  EXPECT_THAT(line(dot, "in -> t0 ["), HasSubstr("label=\"  image\\l  1x1x8x8, 256 B\\l\""));
  EXPECT_THAT(dot, HasSubstr("-> out [label=\"  probabilities\\l  1x10, 40 B\\l\""));
}

TEST(ToDot, AnOperatorHasOneColourWhichTheLegendShows) {
  const Plan plan = plan_of(small_cnn(), ByType{});
  const std::string dot = to_dot(plan);
  std::set<std::string> colours;
  for (const PlannedOperator& op : plan.operators) {
    const std::string colour = fill(line(dot, fmt::format("t{} [", op.tasks.front())));
    EXPECT_TRUE(colours.insert(colour).second) << op.name;
    for (const std::int32_t task : op.tasks)
      EXPECT_EQ(fill(line(dot, fmt::format("t{} [", task))), colour) << op.name;
    EXPECT_THAT(
        dot, HasSubstr(fmt::format("<td bgcolor=\"{}\" align=\"left\">{}</td>", colour, op.name)));
  }
}

TEST(ToDot, WhereEachOperatorHasOneTaskThereIsNoLegend) {
  const std::string dot = to_dot(plan_of(small_cnn(), Stages{2}));
  EXPECT_THAT(dot, Not(HasSubstr("bgcolor")));
  EXPECT_THAT(line(dot, "t0 ["), HasSubstr("nodes)\\nstage1, "));
  // All of its nodes, for whoever points at it.
  EXPECT_THAT(line(dot, "t0 ["), HasSubstr("tooltip=\"conv1\\nrelu1\\n"));
  EXPECT_THAT(line(to_dot(chain(2)), "t0 ["), HasSubstr("label=\"r1\\n50.0 %\""));
}

TEST(ToDot, NeighboursDifferInColourHoweverManyOperatorsThereAre) {
  const std::string dot = to_dot(chain(100));
  std::set<std::string> colours;
  for (int i = 0; i < 100; ++i) colours.insert(fill(line(dot, fmt::format("t{} [", i))));
  EXPECT_GT(colours.size(), 90U);
  for (int i = 1; i < 100; ++i)
    EXPECT_NE(fill(line(dot, fmt::format("t{} [", i))),
              fill(line(dot, fmt::format("t{} [", i - 1))));
}

TEST(ToDot, NamesFromTheModelStayText) {
  Plan plan = chain(2);
  plan.model = "a<b>&\"c\".onnx";
  plan.tasks[0].name = "q\"\\N";
  plan.tasks[0].nodes = {"q\"\\N"};
  // Too long; a character of two bytes lies where it is cut.
  plan.tasks[1].name = "start\u00e9" + std::string(35, 'e');
  const std::string dot = to_dot(plan);
  EXPECT_TRUE(dot.starts_with("digraph \"a<b>&\\\"c\\\".onnx\" {\n"));
  EXPECT_THAT(dot, HasSubstr("a&lt;b&gt;&amp;\"c\".onnx, per-node"));
  EXPECT_THAT(line(dot, "t0 ["), HasSubstr("label=\"q\\\"\\\\N\\n"));
  EXPECT_THAT(line(dot, "t0 ["), HasSubstr("tooltip=\"q\\\"\\\\N\\n\""));
  EXPECT_THAT(line(dot, "t1 ["), HasSubstr("label=\"..." + std::string(35, 'e') + "\\n"));
}

TEST(ToDot, BytesAreShownInAUnitThatFits) {
  Plan plan = chain(2);
  const auto shown = [&](std::uint64_t bytes) {
    plan.tensors[static_cast<std::size_t>(plan.inputs[0])].bytes = bytes;
    const std::string edge = line(to_dot(plan), "in -> t0 [");
    const auto start = edge.find("4, ") + 3;
    return edge.substr(start, edge.find("\\l", start) - start);
  };
  EXPECT_EQ(shown(16), "16 B");
  EXPECT_EQ(shown(999), "999 B");
  EXPECT_EQ(shown(1024), "1.0 KiB");
  EXPECT_EQ(shown(784 * 1024), "784 KiB");
  EXPECT_EQ(shown(3211264), "3.1 MiB");
  EXPECT_EQ(shown(std::uint64_t{2} << 30), "2.0 GiB");
}

}  // namespace
}  // namespace opsplit::graph
