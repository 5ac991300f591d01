#include <gmock/gmock.h>
#include <onnx/onnx_pb.h>

#include <fstream>

#include "graph/model.hpp"
#include "tests/graph/model_builder.hpp"

namespace opsplit::graph {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

ModelBuilder one_relu() {
  ModelBuilder model;
  model.input("x", {1, 3}).output("y").node("Relu", {"x"}, {"y"}, {}, "act");
  return model;
}

std::string bytes_of(const ModelBuilder& model) {
  const TempFolder folder;
  model.save(folder.path() / "m");
  std::ifstream stream(folder.path() / "m", std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

Result<Graph> import_bytes(const std::string& bytes) {
  const TempFolder folder;
  std::ofstream(folder.path() / "model.onnx", std::ios::binary) << bytes;
  return import_model(folder.path() / "model.onnx");
}

TEST(ImportModel, ReadsInputsConstantsNodesAndOutputs) {
  const Graph graph = value_of(small_cnn().import());
  EXPECT_EQ(graph.name, "model.onnx");
  EXPECT_EQ(graph.opset, 13);
  EXPECT_EQ(op_types(graph).size(), 9U);
  ASSERT_EQ(graph.inputs.size(), 1U);
  EXPECT_EQ(graph.value(graph.inputs[0]).name, "image");
  EXPECT_EQ(graph.value(graph.outputs[0]).name, "probabilities");
  const ValueId bias = graph.find("b1");
  ASSERT_TRUE(graph.is_constant(bias));
  EXPECT_EQ(graph.value(bias).constant->as<float>()[7], 0.5F);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(graph.value(bias).constant->bytes.data()) % 64, 0U);
  EXPECT_EQ(graph.nodes[7].integer("transB", 0), 1);
}

TEST(ImportModel, TakesAnInitializerThatIsAlsoAnInputAsAConstant) {
  ModelBuilder model;
  model.input("x", {1, 3}).input("w", {1, 3}).output("y").floats("w", {1, 3}, 2);
  model.node("Add", {"x", "w"}, {"y"});
  const Graph graph = value_of(model.import());
  EXPECT_EQ(graph.inputs.size(), 1U);
  EXPECT_TRUE(graph.is_constant(graph.find("w")));
}

TEST(ImportModel, MakesUpNamesThatAreMissingOrTakenTwice) {
  ModelBuilder model;
  model.input("x", {1}).output("d");
  model.node("Relu", {"x"}, {"a"}, {}, "same").node("Relu", {"a"}, {"b"}, {}, "same");
  model.node("Relu", {"b"}, {"c"}).node("Relu", {"c"}, {"d"}, {}, "Relu_2");
  const Graph graph = value_of(model.import());
  std::vector<std::string> names;
  for (const Node& node : graph.nodes) names.push_back(node.name);
  EXPECT_THAT(names, ElementsAre("same", "same_2", "Relu_2_2", "Relu_2"));
}

TEST(ImportModel, SortsNodes) {
  ModelBuilder model;
  model.input("x", {1}).output("c");
  model.node("Tanh", {"b"}, {"c"}).node("Relu", {"x"}, {"a"}).node("Abs", {"a"}, {"b"});
  EXPECT_THAT(op_types(value_of(model.import())), ElementsAre("Relu", "Abs", "Tanh"));
}

TEST(ImportModel, DropsUnreadExtraOutputs) {
  ModelBuilder model(11);
  model.input("x", {1, 3}).output("y").node("Dropout", {"x"}, {"y", "mask"});
  EXPECT_EQ(value_of(model.import()).nodes[0].outputs.size(), 1U);
  model.output("mask");  // as training has it: another backend may
  EXPECT_THAT(op_types(value_of(model.import())), ElementsAre("ai.onnx.Dropout"));
}

// Kernels, and ONNX Runtime, want them all there.
TEST(ImportModel, KeepsUnreadOutputsThatMayNotBeAbsent) {
  ModelBuilder model(11);
  model.input("x", {1, 3}).output("y").ints("k", {2});
  model.node("TopK", {"x", "k"}, {"y", "where"})
      .node("DynamicQuantizeLinear", {"x"}, {"q", "s", "z"});
  model.output("q");
  const Graph graph = value_of(model.import());
  for (const Node& node : graph.nodes)
    EXPECT_EQ(node.outputs.size(), node.op_type == "TopK" ? 2U : 3U) << node.op_type;
}

TEST(ImportModel, NamesTheFileInEveryError) {
  const auto missing = import_model("/nowhere/model.onnx");
  EXPECT_EQ(error_of(missing), "/nowhere/model.onnx: no such file");
  EXPECT_EQ(missing.error().code, ErrorCode::not_found);
}

TEST(ImportModel, TellsAFileThatIsNotOnnx) {
  EXPECT_THAT(error_of(import_bytes("")), EndsWith("model.onnx: empty: not an ONNX model"));
  EXPECT_THAT(error_of(import_bytes("Hello, world. I am not a model.\n")),
              EndsWith("not an ONNX model"));
  EXPECT_THAT(error_of(import_bytes(std::string(1000, '\0'))), EndsWith("not an ONNX model"));
  EXPECT_THAT(error_of(import_bytes("\x89PNG\r\n\x1a\n")), EndsWith("not an ONNX model"));
  EXPECT_THAT(error_of(import_model("/tmp")), HasSubstr("not a regular file"));
}

TEST(ImportModel, TellsAFileThatIsCutOffWherever) {
  const std::string bytes = bytes_of(small_cnn());
  for (std::size_t size = 1; size < bytes.size(); size += size < 200 ? 1 : 97)
    EXPECT_THAT(error_of(import_bytes(bytes.substr(0, size))), HasSubstr("cut off")) << size;
}

TEST(ImportModel, RefusesWhatProtobufCanNotRead) {
  const TempFolder folder;
  std::ofstream(folder.path() / "model.onnx").put('\x08');
  std::filesystem::resize_file(folder.path() / "model.onnx", std::uintmax_t{1} << 31);  // sparse
  EXPECT_THAT(
      error_of(import_model(folder.path() / "model.onnx")),
      HasSubstr("2147483648 bytes: protobuf reads at most 2 GiB; keep the weights in a file"));
}

TEST(ImportModel, SurvivesDamage) {
  const std::string bytes = bytes_of(small_cnn());
  for (std::size_t at = 0; at < bytes.size(); at += at < 300 ? 1 : 53)
    for (const int flip : {0x01, 0x80, 0xff}) {
      std::string damaged = bytes;
      damaged[at] = static_cast<char>(damaged[at] ^ flip);
      const auto graph = import_bytes(damaged);  // an error or a graph, but no crash
      if (!graph) {
        EXPECT_THAT(graph.error().message, Not(HasSubstr("\n")));
      }
    }
}

TEST(ImportModel, RefusesOlderOperatorSets) {
  EXPECT_THAT(error_of(ModelBuilder(6).import()),
              HasSubstr("operator set 6: 7 and later ones are supported"));
  ModelBuilder foreign;
  foreign.proto().mutable_opset_import(0)->set_domain("com.example");
  EXPECT_THAT(error_of(foreign.import()), HasSubstr("no version of ONNX's own operator set"));
}

TEST(ImportModel, KnowsADomainByItsOperatorSet) {
  ModelBuilder model = one_relu();
  model.last_node().set_domain("com.microsoft");
  EXPECT_THAT(error_of(model.import()), HasSubstr("no operator set of domain 'com.microsoft'"));
  model.other_domain("com.microsoft", 1);
  EXPECT_EQ(value_of(model.import()).nodes[0].op_type, "com.microsoft.Relu");
  model.last_node().set_domain("ai.onnx");  // another name for ONNX's own
  EXPECT_EQ(value_of(model.import()).nodes[0].op_type, "Relu");
}

TEST(ImportModel, RefusesOddNamesOfOperations) {
  for (const char* name : {"", "ai.onnx.Relu", "Re\nlu"}) {
    ModelBuilder model = one_relu();
    model.last_node().set_op_type(name);
    EXPECT_THAT(error_of(model.import()), HasSubstr("odd name")) << name;
  }
}

TEST(ImportModel, NamesTheNodesOfACycle) {
  ModelBuilder model;
  model.input("x", {1}).output("y").node("Relu", {"x"}, {"y"}, {}, "fine");
  model.node("Add", {"x", "c"}, {"a"}, {}, "first").node("Relu", {"a"}, {"b"}, {}, "second");
  model.node("Abs", {"b"}, {"c"}, {}, "third").node("Abs", {"c"}, {"d"}, {}, "after");
  const std::string error = error_of(model.import());
  EXPECT_THAT(error, HasSubstr("cycle: "));
  EXPECT_THAT(error, HasSubstr("first -> second"));
  EXPECT_THAT(error, Not(HasSubstr("fine")));
  EXPECT_THAT(error, Not(HasSubstr("after")));
}

TEST(ImportModel, RefusesUndefinedInputsAndOutputs) {
  ModelBuilder model = one_relu();
  model.node("Add", {"y", "w"}, {"z"}, {}, "sum");
  EXPECT_THAT(error_of(model.import()), EndsWith("node 'sum' (Add): input 'w' is defined nowhere"));
  ModelBuilder other = one_relu();
  other.output("nothing");
  EXPECT_THAT(error_of(other.import()), HasSubstr("output 'nothing' is produced by no node"));
  ModelBuilder none;
  none.input("x", {1});
  EXPECT_THAT(error_of(none.import()), HasSubstr("has no outputs"));
}

TEST(ImportModel, RefusesWhatIsDefinedTwice) {
  ModelBuilder nodes = one_relu();
  nodes.node("Abs", {"x"}, {"y"}, {}, "again");
  EXPECT_THAT(
      error_of(nodes.import()),
      HasSubstr("value 'y' is defined twice: by node 'act' (Relu) and by node 'again' (Abs)"));
  ModelBuilder input = one_relu();
  input.node("Abs", {"y"}, {"x"}, {}, "back");
  EXPECT_THAT(error_of(input.import()),
              HasSubstr("'x' is defined twice: by the graph's inputs and by"));
  ModelBuilder constants = one_relu();
  constants.floats("w", {1}, 1).floats("w", {1}, 2);
  EXPECT_THAT(error_of(constants.import()), HasSubstr("'w' is defined twice"));
  ModelBuilder inputs = one_relu();
  inputs.input("x", {1, 3});
  EXPECT_THAT(error_of(inputs.import()), HasSubstr("'x' is defined twice"));
  ModelBuilder outputs = one_relu();
  outputs.output("y");
  EXPECT_THAT(error_of(outputs.import()), HasSubstr("output 'y' is listed twice"));
}

TEST(ImportModel, RefusesWhatItCanNotRun) {
  ModelBuilder sparse = one_relu();
  sparse.proto().mutable_graph()->add_sparse_initializer();
  EXPECT_THAT(error_of(sparse.import()), HasSubstr("sparse initializers are not supported"));

  ModelBuilder sequence = one_relu();
  sequence.proto().mutable_graph()->mutable_input(0)->mutable_type()->mutable_sequence_type();
  EXPECT_THAT(error_of(sequence.import()), HasSubstr("input 'x': is not a tensor"));

  ModelBuilder strings = one_relu();
  strings.proto()
      .mutable_graph()
      ->mutable_input(0)
      ->mutable_type()
      ->mutable_tensor_type()
      ->set_elem_type(8);
  EXPECT_THAT(error_of(strings.import()), HasSubstr("input 'x': element type 8"));

  ModelBuilder rank;
  rank.input("x", std::vector<DeclaredDim>(9, 1)).output("y").node("Relu", {"x"}, {"y"});
  EXPECT_THAT(error_of(rank.import()), HasSubstr("input 'x': rank 9: at most 8 is supported"));
}

TEST(ImportModel, ChecksTypesOfKnownAttributes) {
  ModelBuilder model;
  model.input("x", {1, 3}).output("y");
  model.node("Softmax", {"x"}, {"y"}, {{"axis", 1.5F}}, "soft");
  EXPECT_THAT(error_of(model.import()),
              HasSubstr("node 'soft' (Softmax): attribute 'axis' is of type FLOAT, must be INT"));
}

TEST(ImportModel, ChecksTheNumberOfInputs) {
  ModelBuilder model = one_relu();
  model.node("Add", {"x"}, {"z"}, {}, "lonely");
  EXPECT_THAT(error_of(model.import()),
              HasSubstr("node 'lonely' (Add): has 1 inputs, must have 2"));
  ModelBuilder optional = one_relu();
  optional.node("Clip", {"x", "", "x"}, {"z"}).node("Add", {"", "x"}, {"w"}, {}, "gap");
  EXPECT_THAT(error_of(optional.import()), HasSubstr("node 'gap' (Add): input 0 is missing"));
}

TEST(ImportModel, LetsNoControlCharactersIntoNamesOrMessages) {
  ModelBuilder value = one_relu();
  value.last_node().set_output(0, "evil\nname");
  EXPECT_THAT(error_of(value.import()), HasSubstr("node 'act' (Relu) has no printable name"));
  ModelBuilder node = one_relu();
  node.last_node().set_name("evil\x1b[31m");
  EXPECT_EQ(value_of(node.import()).nodes[0].name, "Relu_0");
  ModelBuilder type = one_relu();
  type.last_node().set_op_type("evil\n");
  EXPECT_THAT(error_of(type.import()), Not(HasSubstr("\n")));
}

}  // namespace
}  // namespace opsplit::graph
