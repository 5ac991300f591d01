// Small ONNX models, made in the test that needs them.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

#include "graph/graph.hpp"
#include "graph/model.hpp"

namespace onnx {
class ModelProto;
class NodeProto;
}  // namespace onnx

namespace opsplit::graph {

// A folder of its own, gone with the object.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

using Ints = std::vector<std::int64_t>;
using Floats = std::vector<float>;
using Attributes = std::map<std::string, Attribute>;

class ModelBuilder {
 public:
  explicit ModelBuilder(std::int64_t opset = 13);
  ModelBuilder(ModelBuilder&&) noexcept;
  ModelBuilder& operator=(ModelBuilder&&) noexcept;
  ~ModelBuilder();

  ModelBuilder& input(const std::string& name, const std::vector<DeclaredDim>& dims,
                      DType dtype = float32);
  ModelBuilder& output(const std::string& name);
  ModelBuilder& floats(const std::string& name, const Ints& dims, const Floats& values);
  ModelBuilder& floats(const std::string& name, const Ints& dims, float value);  // all the same
  ModelBuilder& ints(const std::string& name, const Ints& values);
  // Without a name the node has none in the file.
  ModelBuilder& node(const std::string& op, const std::vector<std::string>& inputs,
                     const std::vector<std::string>& outputs, const Attributes& attributes = {},
                     const std::string& name = "");

  ModelBuilder& other_domain(const std::string& domain, std::int64_t version);
  // What the model says of a value that a node makes.
  ModelBuilder& declared(const std::string& name, const std::vector<DeclaredDim>& dims,
                         DType dtype = float32);

  onnx::ModelProto& proto() { return *proto_; }
  onnx::NodeProto& last_node();

  void save(const std::filesystem::path& file) const;
  [[nodiscard]] Result<Graph> import() const;
  [[nodiscard]] Result<Graph> infer(const GivenShapes& shapes = {}) const;  // import, infer_shapes
  [[nodiscard]] Result<Graph> load(const GivenShapes& shapes = {}) const;   // and simplify

 private:
  std::unique_ptr<onnx::ModelProto> proto_;
};

// A tensor whose elements are given.
Constant float_constant(const Shape& shape, const Floats& values);

// The digits network in small: conv, relu, pool, conv with batch norm, relu, flatten, gemm, softmax.
ModelBuilder small_cnn();

// The error's message; fails the test if there is none.
template <class T>
std::string error_of(const Result<T>& result) {
  if (!result) return result.error().message;
  ADD_FAILURE() << "an error was expected";
  return {};
}

// The value; throws, and so ends the test, if there is an error instead.
template <class T>
T value_of(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  return *std::move(result);
}

inline const TensorType& type_of(const Graph& graph, std::string_view name) {
  const ValueId id = graph.find(name);
  if (id == no_value) throw std::runtime_error("no value " + std::string(name));
  return graph.type(id);
}

std::vector<std::string> op_types(const Graph& graph);  // of the nodes, in order

}  // namespace opsplit::graph
