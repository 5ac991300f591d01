#include <gmock/gmock.h>

#include <cstring>

#include "graph/planner.hpp"
#include "tests/graph/model_builder.hpp"

namespace opsplit::graph {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class PartTest : public testing::TestWithParam<std::string> {};

// Each part, read like any model, has the values and nodes that the plan says, under their names.
TEST_P(PartTest, PartsAreModelsOfTheirOwn) {
  const Graph graph = value_of(small_cnn().load());
  const Plan plan = value_of(make_plan(graph, value_of(parse_split(GetParam())), {}));
  const TempFolder folder;
  ASSERT_TRUE(write_parts(graph, plan, folder.path() / "parts"));
  for (const PlannedOperator& op : plan.operators) {
    Graph part = value_of(import_model(folder.path() / "parts" / op.part));
    ASSERT_TRUE(infer_shapes(part, {}));
    std::vector<std::string> nodes;
    for (const Node& node : part.nodes) nodes.push_back(node.name);
    std::vector<std::string> planned;
    for (const auto task : op.tasks) {
      const PlannedTask& t = plan.tasks[static_cast<std::size_t>(task)];
      planned.insert(planned.end(), t.nodes.begin(), t.nodes.end());
      for (const auto& ids : {t.inputs, t.outputs})
        for (const auto id : ids) {
          const PlannedTensor& tensor = plan.tensors[static_cast<std::size_t>(id)];
          EXPECT_EQ(type_of(part, tensor.name), tensor.type);
        }
    }
    EXPECT_EQ(nodes, planned);
    for (const Value& value : part.values) {
      const Value& original = graph.value(graph.find(value.name));
      EXPECT_EQ(value.type, original.type) << value.name;
      ASSERT_EQ(value.constant.has_value(), original.constant.has_value()) << value.name;
      if (!value.constant) continue;
      ASSERT_EQ(value.constant->bytes.size(), original.constant->bytes.size());
      EXPECT_EQ(std::memcmp(value.constant->bytes.data(), original.constant->bytes.data(),
                            value.constant->bytes.size()),
                0);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(value.constant->bytes.data()) % 64, 0U)
          << value.name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Splits, PartTest,
                         testing::Values("fused", "by-type", "per-node", "stages:3"));

TEST(WriteParts, WeightsThatTwoPartsReadAreWrittenOnce) {
  ModelBuilder model;
  model.input("x", {1, 64}).output("y").floats("w", {64, 64}, 1);
  model.node("MatMul", {"x", "w"}, {"a"}).node("MatMul", {"a", "w"}, {"y"});
  const Graph graph = value_of(model.load());
  const Plan plan = value_of(make_plan(graph, PerNode{}, {}));
  const TempFolder folder;
  ASSERT_TRUE(write_parts(graph, plan, folder.path()));
  EXPECT_EQ(std::filesystem::file_size(folder.path() / "weights"), 64U * 64 * 4);
}

TEST(WriteParts, AnOperatorThatReadsItsOwnOutputHasNoInputForIt) {
  ModelBuilder model;
  model.input("x", {4}).output("y").node("Relu", {"x"}, {"a"}).node("Relu", {"a"}, {"y"});
  const Graph graph = value_of(model.load());
  const Plan plan = value_of(make_plan(graph, ByType{}, {}));
  const TempFolder folder;
  ASSERT_TRUE(write_parts(graph, plan, folder.path()));
  const Graph part = value_of(import_model(folder.path() / "relu.onnx"));
  ASSERT_EQ(part.inputs.size(), 1U);
  EXPECT_EQ(part.value(part.inputs[0]).name, "x");
  EXPECT_EQ(part.outputs.size(), 2U);
}

TEST(WriteParts, SaysWhatItCanNotWrite) {
  const Graph graph = value_of(small_cnn().load());
  const Plan plan = value_of(make_plan(graph, Fused{}, {}));
  EXPECT_THAT(error_of(write_parts(graph, plan, "/proc/nowhere")),
              HasSubstr("cannot make folder '/proc/nowhere'"));
  Plan other = plan;
  other.tasks[0].nodes[0] = "foreign";
  const TempFolder folder;
  EXPECT_THAT(error_of(write_parts(graph, other, folder.path())),
              HasSubstr("the plan is of another model: no node 'foreign'"));
}

}  // namespace
}  // namespace opsplit::graph
