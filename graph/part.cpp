#include <fcntl.h>
#include <onnx/onnx_pb.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <set>
#include <unordered_map>

#include "graph/onnx_attribute.hpp"
#include "graph/onnx_file.hpp"
#include "graph/onnx_tensor.hpp"
#include "graph/onnx_types.hpp"
#include "graph/planner.hpp"

namespace opsplit::graph {
namespace {

constexpr std::string_view weights_file = "weights";
constexpr std::uint64_t alignment = 64;

// The file format version in which each operator set came; readers refuse older ones.
std::int64_t ir_version(std::int64_t opset) {
  return opset >= 21 ? 10 : opset >= 19 ? 9 : opset >= 15 ? 8 : 7;
}

// Appends constants, each at an aligned offset, each once.
class WeightsFile {
 public:
  explicit WeightsFile(const std::filesystem::path& file)
      : stream_(file, std::ios::binary | std::ios::trunc) {}

  std::uint64_t offset_of(ValueId id, const Constant& constant) {
    const auto known = offsets_.find(id);
    if (known != offsets_.end()) return known->second;
    static constexpr char zeros[alignment] = {};
    const std::uint64_t padding = (alignment - end_ % alignment) % alignment;
    stream_.write(zeros, static_cast<std::streamsize>(padding));
    const std::uint64_t offset = end_ + padding;
    stream_.write(reinterpret_cast<const char*>(constant.bytes.data()),
                  static_cast<std::streamsize>(constant.bytes.size()));
    end_ = offset + constant.bytes.size();
    offsets_.emplace(id, offset);
    return offset;
  }

  bool close() {
    stream_.close();
    return stream_.good();
  }

 private:
  std::ofstream stream_;
  std::uint64_t end_ = 0;
  std::unordered_map<ValueId, std::uint64_t> offsets_;
};

void describe(const std::string& name, const TensorType& type, onnx::ValueInfoProto& info) {
  info.set_name(name);
  auto* tensor = info.mutable_type()->mutable_tensor_type();
  tensor->set_elem_type(dtype_to_onnx(type.dtype));
  auto* shape = tensor->mutable_shape();  // present even without dimensions: a scalar
  for (const std::int64_t dim : type.shape.dims()) shape->add_dim()->set_dim_value(dim);
}

class PartWriter {
 public:
  PartWriter(const Graph& graph, const Plan& plan, WeightsFile& weights)
      : graph_(graph), plan_(plan), weights_(weights) {
    for (std::size_t i = 0; i < graph.nodes.size(); ++i)
      nodes_.emplace(graph.nodes[i].name, static_cast<std::int32_t>(i));
  }

  Result<onnx::ModelProto> write(const PlannedOperator& op) {
    onnx::ModelProto model;
    model.set_ir_version(ir_version(graph_.opset));
    model.set_producer_name("opsplit");
    model.add_opset_import()->set_version(graph_.opset);
    onnx::GraphProto& part = *model.mutable_graph();
    part.set_name(op.name);

    std::set<ValueId> constants;
    std::set<std::string_view> produced;
    for (const std::int32_t task : op.tasks)
      for (const std::string& name : at(plan_.tasks, task).nodes) {
        const auto found = nodes_.find(name);
        if (found == nodes_.end())
          return fail(ErrorCode::invalid_input, "the plan is of another model: no node '{}'", name);
        const Node& node = at(graph_.nodes, found->second);
        add(node, *part.add_node());
        for (const ValueId id : node.inputs)
          if (graph_.is_constant(id)) constants.insert(id);
        for (const ValueId id : node.outputs)
          if (id != no_value) produced.insert(graph_.value(id).name);
      }
    for (const ValueId id : constants) add(id, *part.add_initializer());
    for (const std::int32_t id : tensors(op, &PlannedTask::inputs))
      if (const PlannedTensor& tensor = at(plan_.tensors, id); !produced.contains(tensor.name))
        describe(tensor.name, tensor.type, *part.add_input());
    for (const std::int32_t id : tensors(op, &PlannedTask::outputs))
      describe(at(plan_.tensors, id).name, at(plan_.tensors, id).type, *part.add_output());
    return model;
  }

 private:
  template <class T>
  static const T& at(const std::vector<T>& items, std::int32_t id) {
    return items[static_cast<std::size_t>(id)];
  }

  std::set<std::int32_t> tensors(const PlannedOperator& op,
                                 std::vector<std::int32_t> PlannedTask::*which) const {
    std::set<std::int32_t> ids;
    for (const std::int32_t task : op.tasks)
      ids.insert((at(plan_.tasks, task).*which).begin(), (at(plan_.tasks, task).*which).end());
    return ids;
  }

  void add(const Node& node, onnx::NodeProto& out) const {
    out.set_name(node.name);
    out.set_op_type(node.op_type);
    for (const ValueId id : node.inputs)
      out.add_input(id == no_value ? std::string() : graph_.value(id).name);
    for (const ValueId id : node.outputs)
      out.add_output(id == no_value ? std::string() : graph_.value(id).name);
    for (const auto& [name, attribute] : node.attributes)
      attribute_to_onnx(name, attribute, *out.add_attribute());
  }

  void add(ValueId id, onnx::TensorProto& out) {
    const Constant& constant = *graph_.value(id).constant;
    out.set_name(graph_.value(id).name);
    // Shapes and axes stay in the part: ONNX's own shape inference does not open other files.
    if (constant.type.dtype == int64 || constant.type.dtype == int32)
      return constant_to_onnx(constant, out);
    type_to_onnx(constant.type, out);
    out.set_data_location(onnx::TensorProto::EXTERNAL);
    const auto entry = [&](const char* key, const std::string& value) {
      auto* added = out.add_external_data();
      added->set_key(key);
      added->set_value(value);
    };
    entry("location", std::string(weights_file));
    entry("offset", std::to_string(weights_.offset_of(id, constant)));
    entry("length", std::to_string(constant.bytes.size()));
  }

  const Graph& graph_;
  const Plan& plan_;
  WeightsFile& weights_;
  std::unordered_map<std::string_view, std::int32_t> nodes_;  // by name
};

}  // namespace

Result<> write_parts(const Graph& graph, const Plan& plan, const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return fail_errno(error.value(), "cannot make folder '{}'", folder.string());
  WeightsFile weights(folder / weights_file);
  PartWriter writer(graph, plan, weights);
  for (const PlannedOperator& op : plan.operators) {
    OPSPLIT_TRY(const onnx::ModelProto model, writer.write(op));
    OPSPLIT_CHECK(write_onnx(model, folder / op.part));
  }
  if (!weights.close()) return fail_errno(errno, "writing '{}'", (folder / weights_file).string());
  return {};
}

}  // namespace opsplit::graph
