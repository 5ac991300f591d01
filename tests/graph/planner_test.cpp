#include "graph/planner.hpp"

#include <gmock/gmock.h>

#include "tests/graph/model_builder.hpp"

namespace opsplit::graph {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Plan plan_of(const ModelBuilder& model, const SplitSpec& spec, const PlanOptions& options = {}) {
  return value_of(make_plan(value_of(model.load()), spec, options));
}

const PlannedTensor& tensor(const Plan& plan, std::string_view name) {
  for (const PlannedTensor& t : plan.tensors)
    if (t.name == name) return t;
  throw std::runtime_error("no tensor " + std::string(name));
}

std::vector<std::string> names(const Plan& plan, const std::vector<std::int32_t>& ids) {
  std::vector<std::string> result;
  for (const auto id : ids) result.push_back(plan.tensors[static_cast<std::size_t>(id)].name);
  return result;
}

TEST(MakePlan, FusedCrossesOnlyTheClientsTensors) {
  const Plan plan = plan_of(small_cnn(), Fused{});
  EXPECT_EQ(plan.model, "model.onnx");
  EXPECT_EQ(plan.split, "fused");
  ASSERT_EQ(plan.tasks.size(), 1U);
  const PlannedTask& task = plan.tasks[0];
  EXPECT_EQ(task.name, "conv1");
  EXPECT_THAT(task.nodes, ElementsAre("conv1", "relu1", "pool1", "conv2", "relu2", "flatten",
                                      "gemm", "softmax"));
  EXPECT_THAT(names(plan, task.inputs), ElementsAre("image"));
  EXPECT_THAT(names(plan, task.outputs), ElementsAre("probabilities"));
  EXPECT_TRUE(task.reads_client);
  EXPECT_TRUE(task.feeds_client);
  EXPECT_EQ(plan.operators[0].part, "fused.onnx");
  EXPECT_EQ(plan.slot_bytes, 256U + 64);
}

TEST(MakePlan, AViewBetweenTasksIsASecondName) {
  const Plan plan = plan_of(small_cnn(), ByType{}, {.blocked = Layout::nChw8c});
  const PlannedTensor& root = tensor(plan, "r2");
  const PlannedTensor& view = tensor(plan, "f");
  EXPECT_EQ(plan.tensors[static_cast<std::size_t>(view.view_of)].name, "r2");
  EXPECT_EQ(view.offset, root.offset);
  EXPECT_EQ(view.bytes, root.bytes);
  EXPECT_EQ(view.producer, root.producer);
  EXPECT_EQ(view.type.shape, (Shape{1, 256}));
  EXPECT_EQ(root.layout, Layout::row_major);
  EXPECT_THAT(root.readers, IsEmpty());
  EXPECT_EQ(tensor(plan, "c1").layout, Layout::nChw8c);
  for (const PlannedTask& task : plan.tasks)
    EXPECT_EQ(task.nodes.size(), 1U) << "flatten is no operator";
}

TEST(MakePlan, PlacesHoldTheLargestLayout) {
  ModelBuilder model;
  model.input("x", {1, 3, 2, 2}).output("y").node("Relu", {"x"}, {"a"}).node("Tanh", {"a"}, {"y"});
  const Plan plan = plan_of(model, PerNode{});
  EXPECT_EQ(tensor(plan, "a").bytes, 16U * 4 * 4);
  // The client's are row-major whatever happens.
  EXPECT_EQ(tensor(plan, "x").bytes, 3U * 4 * 4);
  EXPECT_EQ(tensor(plan, "y").bytes, 3U * 4 * 4);
}

TEST(MakePlan, ATaskReadsATensorAndItsView) {
  ModelBuilder model;
  model.input("x", {2, 3}).output("y").ints("s", {3, 2}).node("Relu", {"x"}, {"a"}, {}, "a");
  model.node("Reshape", {"a", "s"}, {"v"}).node("MatMul", {"a", "v"}, {"y"}, {}, "m");
  const Plan plan = plan_of(model, PerNode{});
  EXPECT_THAT(names(plan, plan.tasks[1].inputs), ElementsAre("a", "v"));
  EXPECT_THAT(plan.tasks[1].producers, ElementsAre(0));
  EXPECT_THAT(names(plan, plan.tasks[0].outputs), ElementsAre("a"));
}

TEST(MakePlan, AViewIsInsideOneTaskAndANameForAnother) {
  ModelBuilder model;
  model.input("x", {2, 3}).output("y").output("z").node("Relu", {"x"}, {"a"}, {}, "a");
  model.node("Flatten", {"a"}, {"f"}, {{"axis", std::int64_t{0}}}, "flat");
  model.node("Tanh", {"f"}, {"y"}, {}, "b").node("Abs", {"f"}, {"z"}, {}, "c");
  const Plan plan = plan_of(model, ByHand{{{"one", {"a", "b"}, {}}, {"two", {"c"}, {}}}});
  EXPECT_THAT(plan.tasks[0].nodes, ElementsAre("a", "flat", "b"));
  EXPECT_THAT(names(plan, plan.tasks[0].outputs), ElementsAre("a", "y"));
  EXPECT_THAT(names(plan, plan.tasks[1].inputs), ElementsAre("f"));
}

TEST(MakePlan, OutputsMayBeViewsAndInputs) {
  ModelBuilder model;
  model.input("x", {2, 3}).output("v").output("y").output("i").output("x");
  model.node("Relu", {"x"}, {"y"}).node("Flatten", {"y"}, {"v"}, {{"axis", std::int64_t{0}}});
  model.node("Flatten", {"x"}, {"i"}, {{"axis", std::int64_t{0}}});
  const Plan plan = plan_of(model, ByType{});
  EXPECT_THAT(names(plan, plan.outputs), ElementsAre("v", "y", "i", "x"));
  EXPECT_EQ(tensor(plan, "v").view_of, plan.outputs[1]);
  EXPECT_EQ(tensor(plan, "i").view_of, plan.inputs[0]);
  EXPECT_EQ(tensor(plan, "i").producer, PlannedTensor::none);
  EXPECT_TRUE(plan.tasks[0].feeds_client);
}

TEST(MakePlan, AnOutputThatOnlyAViewGivesFeedsTheClient) {
  ModelBuilder model;
  model.input("x", {2, 3}).output("v").node("Relu", {"x"}, {"a"}).node("Flatten", {"a"}, {"v"});
  model.last_node();
  const Plan plan = plan_of(model, Fused{});
  EXPECT_TRUE(plan.tasks[0].feeds_client);
  EXPECT_EQ(op_types(value_of(model.load())).size(), 1U) << "Flatten of 2x3 is idle";
}

TEST(MakePlan, ATaskCopiesAConstantOutput) {
  ModelBuilder model;
  model.input("x", {1}).output("y").output("c").floats("c", {1}, 1).node("Relu", {"x"}, {"y"});
  EXPECT_THAT(error_of(make_plan(value_of(model.infer()), Fused{}, {})),
              HasSubstr("output 'c' does not depend on any input"));
  const Plan plan = plan_of(model, PerNode{});  // simplified
  ASSERT_EQ(plan.tasks.size(), 2U);
  EXPECT_THAT(names(plan, plan.tasks[1].outputs), ElementsAre("c"));
  EXPECT_THAT(plan.tasks[1].inputs, IsEmpty());
  EXPECT_TRUE(plan.tasks[1].feeds_client);
}

TEST(MakePlan, EmptyTensorsTakeAnArenaAllTheSame) {
  ModelBuilder model;
  model.input("x", {0}).output("y").node("Relu", {"x"}, {"y"});
  EXPECT_GT(plan_of(model, Fused{}).slot_bytes, 0U);
}

TEST(MakePlan, TasksFollowTheirProducersEvenWhenNodesDoNot) {
  // By hand, a task whose first node comes early may need one whose first node comes late.
  ModelBuilder model;
  model.input("x", {1}).output("y");
  model.node("Relu", {"x"}, {"a"}, {}, "a").node("Tanh", {"x"}, {"b"}, {}, "b");
  model.node("Add", {"a", "b"}, {"y"}, {}, "c");
  const Plan plan = plan_of(model, ByHand{{{"first", {"a", "c"}, {}}, {"second", {"b"}, {}}}});
  EXPECT_EQ(plan.tasks[0].name, "b");
  EXPECT_EQ(plan.tasks[1].name, "a");
  EXPECT_THAT(plan.operators[0].tasks, ElementsAre(1));
}

TEST(MakePlan, NamesTheLimitOnOperators) {
  const auto plan = make_plan(value_of(small_cnn().load()), PerNode{}, {.max_operators = 6});
  EXPECT_EQ(
      error_of(plan),
      "split per-node makes 7 operators, at most 6 fit (iceoryx registers 300 processes): use "
      "--split by-type or stages:N");
  EXPECT_EQ(plan.error().code, ErrorCode::limit_exceeded);
}

TEST(MakePlan, NamesTheLimitOnBytes) {
  const Graph graph = value_of(small_cnn().load());
  const std::uint64_t slot = value_of(make_plan(graph, ByType{}, {})).slot_bytes;
  EXPECT_TRUE(make_plan(graph, ByType{}, {.depth = 4, .max_arena_bytes = 4 * slot}));
  EXPECT_THAT(error_of(make_plan(graph, ByType{}, {.depth = 4, .max_arena_bytes = 4 * slot - 1})),
              HasSubstr(fmt::format("split by-type: 4 slots of {} bytes do not fit into an arena "
                                    "of at most {} bytes: set depth to 3 or less",
                                    slot, 4 * slot - 1)));
  EXPECT_THAT(error_of(make_plan(graph, ByType{}, {.depth = 1, .max_arena_bytes = slot - 1})),
              HasSubstr("use a split with fewer tasks"));
}

// Four Relus in each stage: two tensors of 4096 bytes are alive at once, the last is the stage's output.
ModelBuilder two_chains(const char* second_reads) {
  ModelBuilder model;
  model.input("a0", {1024}).output("b4");
  for (const std::string chain : {"a", "b"})
    for (int i = 0; i < 4; ++i)
      model.node("Relu", {chain == "b" && i == 0 ? second_reads : chain + std::to_string(i)},
                 {chain + std::to_string(i + 1)});
  return model;
}

TEST(MakePlan, TasksThatFollowOneAnotherShareAWorkspace) {
  const ModelBuilder chain = two_chains("a4");
  EXPECT_EQ(plan_of(chain, Stages{2}).workspace_bytes, 2 * 4096U);
  EXPECT_EQ(plan_of(chain, Fused{}).workspace_bytes, 0U) << "nobody to share it with";
  EXPECT_EQ(plan_of(chain, PerNode{}).workspace_bytes, 0U) << "nothing is inside a task";
  const std::uint64_t slot = plan_of(chain, Stages{2}).slot_bytes;
  const auto with_room = [&](std::uint64_t bytes) {
    return plan_of(chain, Stages{2}, {.depth = 1, .max_arena_bytes = slot + bytes});
  };
  EXPECT_EQ(with_room(2 * 4096).workspace_bytes, 2 * 4096U);
  EXPECT_EQ(with_room(2 * 4096 - 1).workspace_bytes, 0U);

  ModelBuilder branches = two_chains("a0");
  branches.output("a4");
  EXPECT_EQ(plan_of(branches, Stages{2}).workspace_bytes, 0U) << "they may run at the same time";
}

TEST(MakePlan, RefusesTensorsWhoseLayoutsOverflow) {
  ModelBuilder model;
  const std::int64_t side = std::int64_t{1}
                            << 29;  // as it is 2^60 bytes, padded to 16 channels 2^64
  model.input("x", {1, 1, side, side})
      .output("y")
      .node("Relu", {"x"}, {"a"})
      .node("Relu", {"a"}, {"y"});
  EXPECT_THAT(error_of(make_plan(value_of(model.load()), PerNode{}, {})),
              HasSubstr("tensor 'a': "));
  EXPECT_THAT(error_of(make_plan(value_of(model.load()), Fused{}, {})),
              HasSubstr("do not fit into an arena"));
}

}  // namespace
}  // namespace opsplit::graph
