#include <gmock/gmock.h>

#include <algorithm>
#include <fstream>

#include "base/content_hash.hpp"
#include "graph/planner.hpp"
#include "graph/stored_graph.hpp"
#include "tests/graph/model_builder.hpp"

namespace opsplit::graph {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Stores the weights of a graph as `weights` in a folder, behind 64 bytes of something else.
void store_weights(Graph& graph, const std::filesystem::path& folder) {
  WeightsBlock block(graph);
  std::vector<std::byte> bytes(64 + block.bytes());
  block.write(bytes.data() + 64);
  block.stored_in("weights", 64);
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "weights", std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

void expect_same_constant(const Value& value, const Value& original) {
  ASSERT_EQ(value.constant.has_value(), original.constant.has_value()) << value.name;
  if (!value.constant) return;
  EXPECT_TRUE(std::ranges::equal(value.constant->bytes, original.constant->bytes)) << value.name;
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(value.constant->bytes.data()) % 64, 0U) << value.name;
  EXPECT_EQ(value.constant->hash(), content_hash(original.constant->bytes)) << value.name;
}

class PartTest : public testing::TestWithParam<std::string> {};

// Each part, read like any model, has the values and nodes that the plan says, under their names.
TEST_P(PartTest, PartsAreModelsOfTheirOwn) {
  Graph graph = value_of(small_cnn().load());
  const Plan plan = value_of(make_plan(graph, value_of(parse_split(GetParam())), {}));
  const TempFolder folder;
  store_weights(graph, folder.path() / "elsewhere");
  ASSERT_TRUE(write_parts(graph, plan, folder.path() / "parts"));
  for (const PlannedOperator& op : plan.operators) {
    Graph part =
        value_of(import_part(folder.path() / "parts" / op.part, folder.path() / "elsewhere"));
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
      expect_same_constant(value, original);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Splits, PartTest,
                         testing::Values("fused", "by-type", "per-node", "stages:3"));

TEST(WriteParts, WithoutStoredWeightsPartsHoldTheirOwn) {
  const Graph graph = value_of(small_cnn().load());
  const Plan plan = value_of(make_plan(graph, Fused{}, {}));
  const TempFolder folder;
  ASSERT_TRUE(write_parts(graph, plan, folder.path()));
  const Graph part = value_of(import_model(folder.path() / plan.operators[0].part));
  EXPECT_TRUE(part.self_contained);
  for (const Value& value : part.values)
    expect_same_constant(value, graph.value(graph.find(value.name)));
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

TEST(ExportTask, IsAModelOfItsOwnWithItsWeights) {
  Graph graph = value_of(small_cnn().load());
  const TempFolder folder;
  store_weights(graph, folder.path() / "elsewhere");
  const Plan plan = value_of(make_plan(graph, value_of(parse_split("stages:3")), {}));
  for (const PlannedTask& task : plan.tasks) {
    const auto names = [&](const std::vector<std::int32_t>& tensors) {
      std::vector<std::string> result;
      for (const auto id : tensors)
        result.push_back(plan.tensors[static_cast<std::size_t>(id)].name);
      return result;
    };
    const std::string bytes =
        value_of(export_task(graph, task.nodes, names(task.inputs), names(task.outputs)));
    std::ofstream(folder.path() / "task.onnx", std::ios::binary) << bytes;
    Graph alone = value_of(import_model(folder.path() / "task.onnx"));
    EXPECT_TRUE(alone.self_contained);
    ASSERT_TRUE(infer_shapes(alone, {}));
    std::vector<std::string> nodes, inputs, outputs;
    for (const Node& node : alone.nodes) nodes.push_back(node.name);
    for (const ValueId id : alone.inputs) inputs.push_back(alone.value(id).name);
    for (const ValueId id : alone.outputs) outputs.push_back(alone.value(id).name);
    EXPECT_EQ(nodes, task.nodes);
    EXPECT_EQ(inputs, names(task.inputs));
    EXPECT_EQ(outputs, names(task.outputs));
    for (const Value& value : alone.values) {
      const Value& original = graph.value(graph.find(value.name));
      EXPECT_EQ(value.type, original.type) << value.name;
      expect_same_constant(value, original);
    }
  }
}

TEST(ExportTask, SaysWhatThePartDoesNotHave) {
  const Graph graph = value_of(small_cnn().load());
  const std::vector<std::string> nobody{"nobody"};
  EXPECT_THAT(error_of(export_task(graph, nobody, {}, {})), HasSubstr("only 0 of the 1 nodes"));
  EXPECT_THAT(error_of(export_task(graph, {}, nobody, {})), HasSubstr("has no tensor 'nobody'"));
}

TEST(StoredGraph, IsTheGraphThatWasStored) {
  Graph graph = value_of(small_cnn().load());
  const TempFolder folder;
  store_weights(graph, folder.path());
  const std::string bytes = export_stored(graph);
  const Graph again = value_of(import_stored(bytes, folder.path()));
  EXPECT_EQ(again.name, graph.name);
  ASSERT_EQ(again.nodes.size(), graph.nodes.size());
  ASSERT_EQ(again.values.size(), graph.values.size());
  for (const Value& value : again.values) {
    EXPECT_EQ(value.type, graph.value(graph.find(value.name)).type);
    expect_same_constant(value, graph.value(graph.find(value.name)));
  }
  for (const char* split : {"fused", "by-type", "per-node", "stages:3"}) {
    const SplitSpec spec = value_of(parse_split(split));
    EXPECT_EQ(digest(value_of(make_plan(again, spec, {}))),
              digest(value_of(make_plan(graph, spec, {}))));
  }
}

TEST(StoredGraph, DamageIsAnError) {
  Graph graph = value_of(small_cnn().load());
  const TempFolder folder;
  store_weights(graph, folder.path());
  const std::string bytes = export_stored(graph);
  EXPECT_FALSE(import_stored("", folder.path()));
  EXPECT_FALSE(import_stored(bytes.substr(0, bytes.size() / 2), folder.path()));
  EXPECT_FALSE(import_stored(bytes, folder.path() / "elsewhere"));
  std::filesystem::resize_file(folder.path() / "weights", 64);
  EXPECT_FALSE(import_stored(bytes, folder.path()));
}

TEST(WeightsBlock, IsNamedByItsContent) {
  const auto hash_with = [](float value) {
    ModelBuilder model;
    model.input("x", {1, 64}).output("y").floats("w", {64, 64}, value);
    model.node("MatMul", {"x", "w"}, {"y"});
    Graph graph = value_of(model.load());
    return WeightsBlock(graph).hash();
  };
  EXPECT_EQ(hash_with(1), hash_with(1));
  EXPECT_NE(hash_with(1), hash_with(2));
}

}  // namespace
}  // namespace opsplit::graph
