#include "tests/graph/model_builder.hpp"

#include <onnx/onnx_pb.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <functional>
#include <numeric>

#include "graph/onnx_attribute.hpp"
#include "graph/onnx_types.hpp"

namespace opsplit::graph {

TempFolder::TempFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "opsplit-test-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp");
  path_ = pattern;
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

ModelBuilder::ModelBuilder(std::int64_t opset) : proto_(std::make_unique<onnx::ModelProto>()) {
  proto_->set_ir_version(8);
  proto_->add_opset_import()->set_version(opset);
  proto_->mutable_graph()->set_name("test");
}

ModelBuilder::ModelBuilder(ModelBuilder&&) noexcept = default;
ModelBuilder& ModelBuilder::operator=(ModelBuilder&&) noexcept = default;
ModelBuilder::~ModelBuilder() = default;

namespace {

void describe(const std::string& name, const std::vector<DeclaredDim>& dims, DType dtype,
              onnx::ValueInfoProto& info) {
  info.set_name(name);
  auto* type = info.mutable_type()->mutable_tensor_type();
  type->set_elem_type(dtype_to_onnx(dtype));
  auto* shape = type->mutable_shape();
  for (const DeclaredDim& dim : dims) {
    auto* added = shape->add_dim();
    if (const auto* size = std::get_if<std::int64_t>(&dim))
      added->set_dim_value(*size);
    else
      added->set_dim_param(std::get<std::string>(dim));
  }
}

}  // namespace

ModelBuilder& ModelBuilder::input(const std::string& name, const std::vector<DeclaredDim>& dims,
                                  DType dtype) {
  describe(name, dims, dtype, *proto_->mutable_graph()->add_input());
  return *this;
}

ModelBuilder& ModelBuilder::declared(const std::string& name, const std::vector<DeclaredDim>& dims,
                                     DType dtype) {
  describe(name, dims, dtype, *proto_->mutable_graph()->add_value_info());
  return *this;
}

ModelBuilder& ModelBuilder::other_domain(const std::string& domain, std::int64_t version) {
  auto* opset = proto_->add_opset_import();
  opset->set_domain(domain);
  opset->set_version(version);
  return *this;
}

ModelBuilder& ModelBuilder::output(const std::string& name) {
  auto* output = proto_->mutable_graph()->add_output();
  output->set_name(name);
  output->mutable_type()->mutable_tensor_type()->set_elem_type(dtype_to_onnx(float32));
  return *this;
}

ModelBuilder& ModelBuilder::floats(const std::string& name, const Ints& dims,
                                   const Floats& values) {
  auto* tensor = proto_->mutable_graph()->add_initializer();
  tensor->set_name(name);
  tensor->set_data_type(dtype_to_onnx(float32));
  for (const auto dim : dims) tensor->add_dims(dim);
  tensor->set_raw_data(values.data(), values.size() * sizeof(float));
  return *this;
}

ModelBuilder& ModelBuilder::floats(const std::string& name, const Ints& dims, float value) {
  const auto elements =
      std::accumulate(dims.begin(), dims.end(), std::int64_t{1}, std::multiplies<>());
  return floats(name, dims, Floats(static_cast<std::size_t>(elements), value));
}

ModelBuilder& ModelBuilder::ints(const std::string& name, const Ints& values) {
  auto* tensor = proto_->mutable_graph()->add_initializer();
  tensor->set_name(name);
  tensor->set_data_type(dtype_to_onnx(int64));
  tensor->add_dims(static_cast<std::int64_t>(values.size()));
  for (const auto value : values) tensor->add_int64_data(value);
  return *this;
}

ModelBuilder& ModelBuilder::node(const std::string& op, const std::vector<std::string>& inputs,
                                 const std::vector<std::string>& outputs,
                                 const Attributes& attributes, const std::string& name) {
  auto* node = proto_->mutable_graph()->add_node();
  node->set_op_type(op);
  node->set_name(name);
  for (const auto& input : inputs) node->add_input(input);
  for (const auto& output : outputs) node->add_output(output);
  for (const auto& [key, value] : attributes) attribute_to_onnx(key, value, *node->add_attribute());
  return *this;
}

onnx::NodeProto& ModelBuilder::last_node() {
  auto* graph = proto_->mutable_graph();
  return *graph->mutable_node(graph->node_size() - 1);
}

void ModelBuilder::save(const std::filesystem::path& file) const {
  std::ofstream stream(file, std::ios::binary);
  if (!proto_->SerializeToOstream(&stream)) throw std::runtime_error("cannot write the model");
}

Result<Graph> ModelBuilder::import() const {
  const TempFolder folder;
  save(folder.path() / "model.onnx");
  return import_model(folder.path() / "model.onnx");
}

Result<Graph> ModelBuilder::infer(const GivenShapes& shapes) const {
  OPSPLIT_TRY(Graph graph, import());
  OPSPLIT_CHECK(infer_shapes(graph, shapes));
  return graph;
}

Result<Graph> ModelBuilder::load(const GivenShapes& shapes) const {
  const TempFolder folder;
  save(folder.path() / "model.onnx");
  return load_model(folder.path() / "model.onnx", shapes, infer_by_onnx);
}

Constant float_constant(const Shape& shape, const Floats& values) {
  auto made = value_of(Constant::allocate({float32, shape}));
  std::memcpy(made.second, values.data(), values.size() * sizeof(float));
  return made.first;
}

ModelBuilder small_cnn() {
  ModelBuilder model;
  model.input("image", {1, 1, 8, 8}).output("probabilities");
  model.floats("w1", {8, 1, 3, 3}, 0.25F)
      .floats("b1", {8}, 0.5F)
      .floats("w2", {16, 8, 3, 3}, 0.125F);
  for (const char* name : {"scale", "bias", "mean", "var"}) model.floats(name, {16}, 0.5F);
  model.floats("w3", {10, 256}, 0.01F).floats("b3", {10}, 0.1F);
  model.node("Conv", {"image", "w1", "b1"}, {"c1"}, {{"pads", Ints{1, 1, 1, 1}}}, "conv1");
  model.node("Relu", {"c1"}, {"r1"}, {}, "relu1");
  model.node("MaxPool", {"r1"}, {"p1"}, {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}},
             "pool1");
  model.node("Conv", {"p1", "w2"}, {"c2"}, {{"auto_pad", "SAME_UPPER"}}, "conv2");
  model.node("BatchNormalization", {"c2", "scale", "bias", "mean", "var"}, {"n2"}, {}, "bn2");
  model.node("Relu", {"n2"}, {"r2"}, {}, "relu2");
  model.node("Flatten", {"r2"}, {"f"}, {}, "flatten");
  model.node("Gemm", {"f", "w3", "b3"}, {"g"}, {{"transB", std::int64_t{1}}}, "gemm");
  model.node("Softmax", {"g"}, {"probabilities"}, {}, "softmax");
  return model;
}

std::vector<std::string> op_types(const Graph& graph) {
  std::vector<std::string> types;
  for (const Node& node : graph.nodes) types.push_back(node.op_type);
  return types;
}

}  // namespace opsplit::graph
