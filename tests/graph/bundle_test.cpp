#include "graph/bundle.hpp"

#include <gmock/gmock.h>
#include <onnx/onnx_pb.h>

#include <fstream>

#include "graph/planner.hpp"
#include "graph/stored_graph.hpp"
#include "tests/graph/model_builder.hpp"

namespace opsplit::graph {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::UnorderedElementsAre;

// A subgraph of one node without inputs: op(operands) -> gives.
onnx::GraphProto& add_branch(onnx::NodeProto& node, const std::string& attribute,
                             const std::string& op, const std::vector<std::string>& operands,
                             const std::string& gives) {
  auto& added = *node.add_attribute();
  added.set_name(attribute);
  added.set_type(onnx::AttributeProto::GRAPH);
  auto& graph = *added.mutable_g();
  graph.set_name(attribute);
  auto& inside = *graph.add_node();
  inside.set_op_type(op);
  for (const auto& operand : operands) inside.add_input(operand);
  inside.add_output(gives);
  auto& output = *graph.add_output();
  output.set_name(gives);
  output.mutable_type()->mutable_tensor_type()->set_elem_type(onnx::TensorProto::FLOAT);
  return graph;
}

// y = c ? relu(x) + x : |x|, where the sums of x stand for what lies around it.
ModelBuilder one_if() {
  ModelBuilder model;
  model.input("c", {}, bool8).input("x", {2, 3}).output("y");
  model.node("Relu", {"x"}, {"r"}).node("If", {"c"}, {"b"}, {}, "choice");
  add_branch(model.last_node(), "then_branch", "Add", {"r", "x"}, "one");
  add_branch(model.last_node(), "else_branch", "Abs", {"x"}, "other");
  return std::move(model.node("Tanh", {"b"}, {"y"}));
}

std::vector<std::string> names(const Graph& graph, const std::vector<ValueId>& ids) {
  std::vector<std::string> names;
  for (const ValueId id : ids) names.push_back(graph.value(id).name);
  return names;
}

const Node& only_bundle(const Graph& graph) {
  const Node* found = nullptr;
  for (const Node& node : graph.nodes) {
    if (!is_bundle(node)) continue;
    if (found != nullptr) throw std::runtime_error("two bundles");
    found = &node;
  }
  if (found == nullptr) throw std::runtime_error("no bundle");
  return *found;
}

onnx::GraphProto unbundled(const Graph& graph, const Node& node) {
  onnx::GraphProto proto;
  value_of(add_unbundled(graph, node, proto).map([] { return 0; }));
  return proto;
}

std::vector<std::string> types_inside(const Graph& graph, const Node& node) {
  std::vector<std::string> types;
  const onnx::GraphProto proto = unbundled(graph, node);
  for (const auto& inside : proto.node()) types.push_back(inside.op_type());
  return types;
}

TEST(Bundle, OfANodeWithSubgraphsReadsWhatTheseRead) {
  const Graph graph = value_of(one_if().load());
  const Node& node = only_bundle(graph);
  EXPECT_EQ(named_op_type(node), "If");
  EXPECT_EQ(node.name, "choice");
  EXPECT_TRUE(is_foreign(node));
  EXPECT_THAT(names(graph, node.inputs), ElementsAre("c", "r", "x"));
  EXPECT_EQ(type_of(graph, "b"), (TensorType{float32, {2, 3}}));
  EXPECT_THAT(op_types(graph), ElementsAre("Relu", "opsplit.If", "Tanh"));
}

TEST(Bundle, WithoutRulesHasTheDeclaredTypes) {
  EXPECT_THAT(error_of(one_if().infer()),
              HasSubstr("how large output 'y' of the model gets is not known"));
  const Graph graph = value_of(one_if().declared("b", {2, 3}).infer());
  EXPECT_THAT(op_types(graph), ElementsAre("Relu", "opsplit.If", "Tanh"));
}

TEST(Bundle, RefusesNamesThatMeanSomethingElseAround) {
  for (const char* name : {"x", "r", "b", "y"}) {
    ModelBuilder model = one_if();
    auto& node = *model.proto().mutable_graph()->mutable_node(1);
    auto& inside = *node.mutable_attribute(0)->mutable_g();
    inside.mutable_node(0)->set_output(0, name);
    EXPECT_THAT(error_of(model.import()),
                HasSubstr(fmt::format("node 'choice' (If): a subgraph defines '{}'", name)));
  }
  ModelBuilder nested = one_if();
  auto& outer = *nested.proto().mutable_graph()->mutable_node(1)->mutable_attribute(0)->mutable_g();
  auto& inner = *outer.add_node();
  inner.set_op_type("If");
  inner.add_input("c");
  inner.add_output("deep");
  add_branch(inner, "then_branch", "Abs", {"one"}, "one");
  EXPECT_THAT(error_of(nested.import()), HasSubstr("a subgraph defines 'one'"));
}

TEST(Bundle, RefusesWhatIsDefinedNowhere) {
  ModelBuilder model = one_if();
  auto& node = *model.proto().mutable_graph()->mutable_node(1);
  node.mutable_attribute(1)->mutable_g()->mutable_node(0)->set_input(0, "nobody");
  EXPECT_THAT(error_of(model.import()), HasSubstr("input 'nobody' is defined nowhere"));
}

// A subgraph may hold a name of its sibling; and what a Loop's body gets are its own names.
TEST(Bundle, KnowsWhatASubgraphDefines) {
  ModelBuilder model = one_if();
  auto& node = *model.proto().mutable_graph()->mutable_node(1);
  auto& inside = *node.mutable_attribute(1)->mutable_g();
  inside.mutable_node(0)->set_output(0, "one");
  inside.mutable_output(0)->set_name("one");
  inside.add_initializer()->set_name("weight");
  inside.add_input()->set_name("given");
  inside.mutable_node(0)->add_input("weight");
  inside.mutable_node(0)->add_input("given");
  const Graph graph = value_of(model.import());
  EXPECT_THAT(names(graph, only_bundle(graph).inputs), ElementsAre("c", "r", "x"));
}

// Two floats in weights.bin.
void lie_beside(onnx::TensorProto& tensor) {
  tensor.set_data_type(onnx::TensorProto::FLOAT);
  tensor.add_dims(2);
  tensor.set_data_location(onnx::TensorProto::EXTERNAL);
  auto& location = *tensor.add_external_data();
  location.set_key("location");
  location.set_value("weights.bin");
}

TEST(Bundle, TakesInWeightsBesideTheModel) {
  ModelBuilder model = one_if();
  auto& node = *model.proto().mutable_graph()->mutable_node(1);
  auto& inside = *node.mutable_attribute(1)->mutable_g();
  auto& weight = *inside.add_initializer();
  weight.set_name("w");
  lie_beside(weight);
  const TempFolder folder;
  model.save(folder.path() / "model.onnx");
  EXPECT_THAT(error_of(import_model(folder.path() / "model.onnx")),
              HasSubstr("node 'choice' (If): tensor 'w': "));

  const Floats numbers{3, 5};
  std::ofstream(folder.path() / "weights.bin", std::ios::binary)
      .write(reinterpret_cast<const char*>(numbers.data()), 8);
  const Graph graph = value_of(import_model(folder.path() / "model.onnx"));
  const auto proto = unbundled(graph, only_bundle(graph));
  const auto& tensor = proto.node(0).attribute(1).g().initializer(0);
  EXPECT_FALSE(tensor.has_data_location());
  EXPECT_EQ(tensor.raw_data(), std::string(reinterpret_cast<const char*>(numbers.data()), 8));
}

// A few bytes of model would use up the machine's memory.
TEST(Bundle, TakesInNoMoreThanThereIsRoomFor) {
  onnx::NodeProto node;
  auto& tensors = *node.add_attribute();
  for (int i = 0; i < 3; ++i) lie_beside(*tensors.add_tensors());
  const TempFolder folder;
  std::ofstream(folder.path() / "weights.bin", std::ios::binary) << "12345678";
  ExternalData external(folder.path());
  std::uint64_t room = 20;
  const auto taken = take_in_weights(node, external, room);
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().code, ErrorCode::limit_exceeded);
  EXPECT_EQ(room, 4U);
}

// What the bundle reads has another name by then.
TEST(Bundle, IsExportedAsItsNodesWithTheNamesThatHoldNow) {
  ModelBuilder model;
  model.input("c", {}, bool8).input("x", {2, 3}).output("y");
  model.node("Abs", {"x"}, {"a"}).node("Identity", {"a"}, {"same"});
  model.node("If", {"c"}, {"b"}, {}, "choice");
  add_branch(model.last_node(), "then_branch", "Relu", {"same"}, "one");
  add_branch(model.last_node(), "else_branch", "Abs", {"same"}, "other");
  model.node("Identity", {"b"}, {"y"});
  const Graph graph = value_of(model.load());
  ASSERT_THAT(op_types(graph), ElementsAre("Abs", "opsplit.If"));
  const std::vector<std::string> nodes{"choice"}, inputs{"c", "a"}, outputs{"y"};
  onnx::ModelProto exported;
  ASSERT_TRUE(exported.ParseFromString(value_of(export_task(graph, nodes, inputs, outputs))));
  ASSERT_EQ(exported.graph().node_size(), 1);
  const onnx::NodeProto& node = exported.graph().node(0);
  EXPECT_EQ(node.op_type(), "If");
  EXPECT_EQ(node.domain(), "");
  EXPECT_EQ(node.output(0), "y");
  EXPECT_EQ(node.attribute(0).g().node(0).input(0), "a");
}

// Where x is not 0, and from there: the sum of what is there.
ModelBuilder data_dependent() {
  ModelBuilder model;
  model.input("x", {2, 5}).output("y");
  model.node("Relu", {"x"}, {"r"}).node("NonZero", {"r"}, {"where"}, {}, "find");
  model.node("Transpose", {"where"}, {"rows"}).node("GatherND", {"r", "rows"}, {"found"});
  model.node("ReduceSum", {"found"}, {"sum"}, {{"keepdims", std::int64_t{0}}});
  return std::move(model.node("Sqrt", {"sum"}, {"y"}));
}

TEST(BundleOpen, JoinsWhatReadsAValueOfUnknownSize) {
  const Graph graph = value_of(data_dependent().load());
  EXPECT_THAT(op_types(graph), ElementsAre("Relu", "opsplit.NonZero+3", "Sqrt"));
  const Node& node = only_bundle(graph);
  EXPECT_THAT(types_inside(graph, node),
              ElementsAre("NonZero", "Transpose", "GatherND", "ReduceSum"));
  EXPECT_THAT(names(graph, node.inputs), ElementsAre("r"));
  EXPECT_THAT(names(graph, node.outputs), ElementsAre("sum"));
  EXPECT_EQ(type_of(graph, "sum"), (TensorType{float32, {}}));
  EXPECT_EQ(graph.find("where"), no_value);
}

TEST(BundleOpen, EndsWhereTheModelDeclaresASize) {
  ModelBuilder model = data_dependent();
  model.declared("where", {2, 10}, int64);
  EXPECT_THAT(op_types(value_of(model.load())),
              ElementsAre("Relu", "NonZero", "Transpose", "GatherND", "ReduceSum", "Sqrt"));
}

// relu(max) reads a known size, but lies between two nodes of the bundle.
TEST(BundleOpen, TakesInWhatLiesBetweenItsNodes) {
  ModelBuilder model;
  model.input("x", {6}).output("y").output("z");
  model.node("NonZero", {"x"}, {"where"}).node("Cast", {"where"}, {"f"}, {{"to", std::int64_t{1}}});
  model.node("ReduceMax", {"f"}, {"max"}, {{"keepdims", std::int64_t{0}}}, "largest");
  model.node("Abs", {"x"}, {"z"}).node("Relu", {"max"}, {"positive"});
  model.node("Add", {"f", "positive"}, {"all"});
  model.node("ReduceSum", {"all"}, {"y"}, {{"keepdims", std::int64_t{0}}});
  const Graph graph = value_of(model.load());
  EXPECT_THAT(op_types(graph), ElementsAre("opsplit.NonZero+5", "Abs"));
  EXPECT_THAT(types_inside(graph, graph.nodes[0]),
              ElementsAre("NonZero", "Cast", "ReduceMax", "Relu", "Add", "ReduceSum"));
}

// Neither may be first: each reads what the other gives.
TEST(BundleOpen, JoinsTwoThatWouldWaitForEachOther) {
  ModelBuilder model;
  model.input("x", {6}).output("y");
  const Attributes scalar{{"keepdims", std::int64_t{0}}};
  for (const std::string k : {"1", "2"}) {
    model.node("NonZero", {"x"}, {"where" + k});
    model.node("Cast", {"where" + k}, {"f" + k}, {{"to", std::int64_t{1}}});
    model.node("ReduceMax", {"f" + k}, {"max" + k}, scalar);
  }
  model.node("Add", {"f1", "max2"}, {"a1"}).node("Add", {"f2", "max1"}, {"a2"});
  model.node("ReduceSum", {"a1"}, {"s1"}, scalar).node("ReduceSum", {"a2"}, {"s2"}, scalar);
  model.node("Mul", {"s1", "s2"}, {"y"});
  const Graph graph = value_of(model.load());
  EXPECT_THAT(op_types(graph), ElementsAre("opsplit.NonZero+9", "Mul"));
}

TEST(BundleOpen, KeepsApartWhatNeedNotBeTogether) {
  ModelBuilder model;
  model.input("x", {6}).output("y");
  const Attributes scalar{{"keepdims", std::int64_t{0}}};
  std::string last = "x";
  for (const std::string k : {"1", "2"}) {
    model.node("NonZero", {last}, {"where" + k});
    model.node("Cast", {"where" + k}, {"f" + k}, {{"to", std::int64_t{1}}});
    model.node("ReduceMax", {"f" + k}, {"max" + k}, scalar)
        .node("Add", {"x", "max" + k}, {"a" + k});
    last = "a" + k;
  }
  model.node("Relu", {last}, {"y"});
  EXPECT_THAT(op_types(value_of(model.load())),
              ElementsAre("opsplit.NonZero+2", "Add", "opsplit.NonZero+2", "Add", "Relu"));
}

// Also of what is read from a file of ours.
TEST(BundleOpen, AnOutputOfTheModelVariesWithinItsBound) {
  ModelBuilder model;
  model.input("x", {2, 5}).output("y").output("s").node("NonZero", {"x"}, {"n"}, {}, "find");
  model.node("Abs", {"n"}, {"y"}).node("Shape", {"n"}, {"s"});
  const Graph graph = value_of(model.load({{"y", {2, 10}}}));
  EXPECT_THAT(op_types(graph), ElementsAre("opsplit.NonZero+2"));
  const TempFolder folder;
  const Graph again = value_of(import_stored(export_stored(graph), folder.path()));
  for (const Graph& g : {graph, again}) {
    const Node& bundle = only_bundle(g);
    EXPECT_TRUE(varies(bundle, g.find("y")));
    EXPECT_FALSE(varies(bundle, g.find("s")));
    EXPECT_EQ(type_of(g, "y"), (TensorType{int64, {2, 10}}));
    const Plan plan = value_of(make_plan(g, Fused{}, {}));
    ASSERT_EQ(plan.outputs.size(), 2u);
    EXPECT_TRUE(plan.tensors[static_cast<std::size_t>(plan.outputs[0])].varies);
    EXPECT_FALSE(plan.tensors[static_cast<std::size_t>(plan.outputs[1])].varies);
  }
}

// ONNX Runtime would believe them.
TEST(BundleOpen, ATasksModelDoesNotSayTheLargestSizes) {
  ModelBuilder model;
  model.input("x", {2, 5}).output("y").node("NonZero", {"x"}, {"y"}, {}, "find");
  const Graph graph = value_of(model.load({{"y", {2, 10}}}));
  onnx::ModelProto task;
  task.ParseFromString(
      value_of(export_task(graph, std::vector<std::string>{"find"}, std::vector<std::string>{"x"},
                           std::vector<std::string>{"y"})));
  const auto& shape = task.graph().output(0).type().tensor_type().shape();
  ASSERT_EQ(shape.dim_size(), 2);
  EXPECT_FALSE(shape.dim(0).has_dim_value() || shape.dim(1).has_dim_value());
}

TEST(BundleOpen, AReasonOfOpsplitsIsSaid) {
  ModelBuilder model;
  model.input("x", {2, 5}).input("sizes", {2}, int64).output("y");
  model.node("Reshape", {"x", "sizes"}, {"y"}, {}, "form");
  EXPECT_THAT(error_of(model.load()), HasSubstr("node 'form' (Reshape): "));
}

TEST(BundleOpen, HoldsSequences) {
  ModelBuilder model;
  model.input("x", {4, 2}).output("y").ints("sizes", {1, 3});
  model.node("SplitToSequence", {"x", "sizes"}, {"s"}, {}, "cut");
  model.node("ConcatFromSequence", {"s"}, {"t"}, {{"axis", std::int64_t{0}}});
  model.node("Relu", {"t"}, {"y"});
  EXPECT_THAT(error_of(model.load()), HasSubstr("node 'cut' (SplitToSequence): "));
  const Graph graph = value_of(model.declared("t", {4, 2}).load());
  EXPECT_THAT(op_types(graph), ElementsAre("opsplit.SplitToSequence+1", "Relu"));
  EXPECT_THAT(names(graph, only_bundle(graph).inputs), ElementsAre("x", "sizes"));
}

TEST(BundleOpen, HoldsConstantsThatAreNoNumbers) {
  ModelBuilder model;
  model.other_domain("com.example", 1).input("x", {4}).output("y");
  auto& words = *model.proto().mutable_graph()->add_initializer();
  words.set_name("words");
  words.set_data_type(onnx::TensorProto::STRING);
  words.add_dims(1);
  words.add_string_data("hello");
  model.node("Greet", {"x", "words"}, {"y"}).last_node().set_domain("com.example");
  const Graph graph = value_of(model.declared("y", {4}).load());
  EXPECT_THAT(op_types(graph), ElementsAre("opsplit.Greet+1"));
  const auto proto = unbundled(graph, graph.nodes[0]);
  ASSERT_EQ(proto.node(0).op_type(), "Constant");
  EXPECT_EQ(proto.node(0).attribute(0).t().string_data(0), "hello");
}

TEST(BundleOpen, HoldsNodesThatMakeStrings) {
  ModelBuilder model;
  model.other_domain("com.example", 1).input("x", {4}).output("y");
  model.node("Constant", {}, {"word"});
  auto& value = *model.last_node().add_attribute();
  value.set_name("value_string");
  value.set_type(onnx::AttributeProto::STRING);
  value.set_s("hello");
  model.node("Greet", {"x", "word"}, {"y"}).last_node().set_domain("com.example");
  const Graph graph = value_of(model.declared("y", {4}).load());
  EXPECT_THAT(op_types(graph), ElementsAre("opsplit.Greet+1"));
}

// Of an operator set that nobody knows, shapes are computed, and all else is ONNX Runtime's.
TEST(BundleOpen, AnUnknownOperatorSetIsCutWhereTheModelDeclaresSizes) {
  ModelBuilder model(99);
  model.input("x", {2, 6}).output("y").ints("half", {3}).ints("axes", {0}).ints("minus", {-1});
  model.node("Shape", {"x"}, {"shape"}).ints("first", {0});
  model.node("Gather", {"shape", "first"}, {"n"});
  model.node("Concat", {"n", "half", "minus"}, {"sizes"}, {{"axis", std::int64_t{0}}});
  model.node("Relu", {"x"}, {"a"}).node("Reshape", {"a", "sizes"}, {"b"}).node("Abs", {"b"}, {"y"});
  model.declared("b", {2, 3, 2}).declared("y", {2, 3, 2});
  const Graph graph = value_of(model.load());
  EXPECT_THAT(op_types(graph), ElementsAre("opsplit.Relu+1", "ai.onnx.Abs"));
  const Node& node = only_bundle(graph);
  EXPECT_THAT(names(graph, node.inputs), UnorderedElementsAre("x", "sizes"));
  const auto& sizes = graph.value(graph.find("sizes")).constant;
  ASSERT_TRUE(sizes);
  EXPECT_THAT(sizes->as<std::int64_t>(), ElementsAre(2, 3, -1));
}

TEST(Bundle, IsTheSameInAPartAndInAStoredGraph) {
  Graph graph = value_of(data_dependent().load());
  const TempFolder folder;
  const Plan plan = value_of(make_plan(graph, ByType{}, {}));
  ASSERT_TRUE(write_parts(graph, plan, folder.path()));
  Graph part = value_of(import_part(folder.path() / "nonzero_3.onnx", folder.path()));
  ASSERT_TRUE(infer_shapes(part, {}));
  EXPECT_THAT(types_inside(part, only_bundle(part)),
              ElementsAre("NonZero", "Transpose", "GatherND", "ReduceSum"));
  EXPECT_EQ(type_of(part, "sum"), (TensorType{float32, {}}));

  const Graph stored = value_of(import_stored(export_stored(graph), folder.path()));
  EXPECT_EQ(op_types(stored), op_types(graph));
  EXPECT_EQ(only_bundle(stored).attributes.size(), only_bundle(graph).attributes.size());
  EXPECT_EQ(cost(stored, only_bundle(stored)), cost(graph, only_bundle(graph)));
}

TEST(Bundle, CostsWhatItsNodesCost) {
  ModelBuilder model;
  model.input("x", {1, 8, 8, 8}).floats("w", {8, 8, 3, 3}, 1).output("y");
  model.node("NonZero", {"x"}, {"n"}).node("Cast", {"n"}, {"f"}, {{"to", std::int64_t{1}}});
  model.node("ReduceMax", {"f"}, {"m"}, {{"keepdims", std::int64_t{0}}});
  model.node("Add", {"x", "m"}, {"a"}).node("Conv", {"a", "w"}, {"c"}, {}, "c");
  model.node("ReduceMax", {"c"}, {"d"}, {{"keepdims", std::int64_t{0}}})
      .node("Add", {"f", "d"}, {"e"});
  model.node("ReduceSum", {"e"}, {"y"}, {{"keepdims", std::int64_t{0}}});
  const Graph graph = value_of(model.load());
  ASSERT_EQ(graph.nodes.size(), 1U);
  EXPECT_GT(cost(graph, graph.nodes[0]), 8. * 6 * 6 * 8 * 9);  // the convolution's, by Winograd
}

TEST(Bundle, IsClaimedByHandByItsType) {
  const Graph graph = value_of(one_if().load());
  const ByHand split{{{"choice", {}, {"If"}}, {"rest", {}, {"Relu", "Tanh"}}}};
  const Plan plan = value_of(make_plan(graph, split, {}));
  EXPECT_THAT(plan.tasks[1].nodes, ElementsAre("choice"));
}

TEST(Bundle, IsNothingThatAModelMayHold) {
  ModelBuilder model;
  model.other_domain("opsplit", 1).input("x", {1}).output("y").node("Relu", {"x"}, {"y"});
  model.last_node().set_domain("opsplit");
  EXPECT_THAT(error_of(model.import()), HasSubstr("domain 'opsplit' is opsplit's own"));
}

TEST(Bundle, OfOthersMakingIsRefused) {
  Graph graph = value_of(one_if().load());
  for (Node& node : graph.nodes)
    if (is_bundle(node)) node.inputs.pop_back();
  onnx::GraphProto proto;
  EXPECT_THAT(error_of(add_unbundled(graph, only_bundle(graph), proto)),
              HasSubstr("node 'choice' is no bundle of opsplit's"));
}

// b = op(a, a)
void add_function(ModelBuilder& model, const std::string& name, const std::string& op,
                  const std::string& domain) {
  auto& function = *model.proto().add_functions();
  function.set_name(name);
  function.set_domain("local");
  function.add_input("a");
  function.add_output("b");
  auto& inside = *function.add_node();
  inside.set_op_type(op);
  inside.set_domain(domain);
  for (int i = 0; i < (domain.empty() ? 2 : 1); ++i) inside.add_input("a");
  inside.add_output("b");
  function.add_opset_import()->set_version(13);
  auto& own = *function.add_opset_import();
  own.set_domain("local");
  own.set_version(1);
}

TEST(Model, KeepsTheFunctionsThatItsNodesCall) {
  ModelBuilder model;
  model.other_domain("local", 1).input("x", {4}).output("y");
  add_function(model, "Twice", "Doubled", "local");
  add_function(model, "Doubled", "Add", "");
  add_function(model, "Squared", "Mul", "");
  model.node("Twice", {"x"}, {"y"}, {}, "twice").last_node().set_domain("local");
  const Graph graph = value_of(model.load());
  EXPECT_EQ(type_of(graph, "y"), (TensorType{float32, {4}}));
  const std::vector<std::string> nodes{"twice"}, inputs{"x"}, outputs{"y"};
  onnx::ModelProto exported;
  ASSERT_TRUE(exported.ParseFromString(value_of(export_task(graph, nodes, inputs, outputs))));
  ASSERT_EQ(exported.functions_size(), 2);
  EXPECT_EQ(exported.functions(0).name(), "Twice");
  EXPECT_EQ(exported.functions(1).name(), "Doubled");
}

// With anything quadratic in it this would not end within the test's time.
TEST(BundleOpen, TakesModelsOfManyNodes) {
  constexpr int length = 100'000;
  ModelBuilder model;
  model.input("x", {6}).output("y").declared("y", {6});
  model.node("NonZero", {"x"}, {"v0"});
  for (int i = 0; i < length; ++i)
    model.node("Abs", {fmt::format("v{}", i)}, {fmt::format("v{}", i + 1)});
  model.node("Squeeze", {fmt::format("v{}", length)}, {"y"});
  const Graph graph = value_of(model.infer());
  EXPECT_THAT(op_types(graph), ElementsAre(fmt::format("opsplit.NonZero+{}", length + 1)));
}

}  // namespace
}  // namespace opsplit::graph
