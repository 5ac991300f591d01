// Between the SDK's kernels and ours.
#include <array>
#include <exception>
#include <utility>

#include "operators/kernels/kernel_spec.hpp"
#include "operators/operator_main.hpp"
#include "operators/sdk/adapter.hpp"

namespace opsplit::sdk {
namespace {

struct Type {
  DType dtype;
  opsplit::DType ours;
  std::string_view name;
};
constexpr std::array types{
    Type{DType::float16, opsplit::float16, "float16"},
    Type{DType::bfloat16, opsplit::bfloat16, "bfloat16"},
    Type{DType::float32, opsplit::float32, "float32"},
    Type{DType::float64, opsplit::float64, "float64"},
    Type{DType::int8, opsplit::int8, "int8"},
    Type{DType::int16, opsplit::int16, "int16"},
    Type{DType::int32, opsplit::int32, "int32"},
    Type{DType::int64, opsplit::int64, "int64"},
    Type{DType::uint8, opsplit::uint8, "uint8"},
    Type{DType::uint16, opsplit::uint16, "uint16"},
    Type{DType::uint32, opsplit::uint32, "uint32"},
    Type{DType::uint64, opsplit::uint64, "uint64"},
    Type{DType::bool8, opsplit::bool8, "bool"},
};

const Type& type_of(DType dtype) { return types[static_cast<std::size_t>(dtype)]; }

Result<DType> dtype_of(opsplit::DType ours) {
  for (const Type& type : types)
    if (type.ours == ours) return type.dtype;
  return fail(ErrorCode::invalid_input, "elements of {} are not known to the SDK", to_string(ours));
}

template <class T>
const T* find_attribute(const Node& node, std::string_view name) {
  const auto found = node.attributes.find(name);
  return found == node.attributes.end() ? nullptr : std::get_if<T>(&found->second);
}

Result<Operand> operand_of(const operators::Operand& ours) {
  Operand operand{.present = ours.present};
  if (!ours.present) return operand;
  OPSPLIT_TRY(operand.dtype, dtype_of(ours.type.dtype));
  operand.shape.assign(ours.type.shape.begin(), ours.type.shape.end());
  if (ours.constant != nullptr)
    operand.constant = {operand.dtype, operand.shape, ours.constant->bytes};
  return operand;
}

class SdkKernel final : public operators::Kernel {
 public:
  // Constants of the node are views of the shapes here: it stays where it is.
  explicit SdkKernel(std::unique_ptr<Node> node) : node_(std::move(node)) {
    for (const Operand& input : node_->inputs) inputs_.push_back({input.dtype, input.shape, {}});
    for (const Operand& output : node_->outputs)
      outputs_.push_back({output.dtype, output.shape, {}});
  }

  Result<> make(const MakeKernel& make_kernel) try {
    kernel_ = make_kernel(*node_);
    if (!kernel_) return fail(ErrorCode::invalid_input, "no kernel was made for it");
    return {};
  } catch (...) {
    return fail(ErrorCode::invalid_input, "its kernel was not made: {}", described());
  }

  Result<> run(std::span<const operators::TensorView> inputs,
               std::span<const operators::MutableTensorView> outputs) override try {
    for (std::size_t i = 0; i < inputs_.size(); ++i)
      inputs_[i].bytes = {inputs[i].data, bytes(inputs_[i], inputs[i].data)};
    for (std::size_t i = 0; i < outputs_.size(); ++i)
      outputs_[i].bytes = {outputs[i].data, bytes(outputs_[i], outputs[i].data)};
    kernel_->run(inputs_, outputs_);
    return {};
  } catch (...) {
    return fail(ErrorCode::operator_failed, "{}", described());
  }

 private:
  template <class AnyTensor>
  static std::size_t bytes(const AnyTensor& tensor, const std::byte* data) {
    if (data == nullptr) return 0;
    std::size_t bytes = bytes_of(tensor.dtype);  // no overflow: the plan has checked the type
    for (const std::int64_t dim : tensor.shape) bytes *= static_cast<std::size_t>(dim);
    return bytes;
  }

  std::unique_ptr<Node> node_;
  std::unique_ptr<sdk::Kernel> kernel_;  // Kernel is the base class here
  std::vector<Tensor> inputs_;
  std::vector<MutableTensor> outputs_;
};

}  // namespace

Result<Node> node_of(const operators::KernelSpec& spec) {
  Node node{.name = spec.node->name, .op_type = spec.node->op_type, .opset = spec.opset};
  for (const auto& [name, ours] : spec.node->attributes)
    std::visit(
        [&](const auto& value) {  // tensors in attributes are rare, and ONNX knows none in kernels
          if constexpr (!std::is_same_v<std::decay_t<decltype(value)>, graph::Constant>)
            node.attributes.emplace(name, value);
        },
        ours);
  for (const operators::Operand& ours : spec.inputs) {
    OPSPLIT_TRY(node.inputs.emplace_back(), operand_of(ours));
  }
  for (const operators::Operand& ours : spec.outputs) {
    OPSPLIT_TRY(node.outputs.emplace_back(), operand_of(ours));
  }
  return node;
}

std::string described() try { throw; } catch (const std::exception& error) {
  return error.what();
} catch (...) {
  return "an exception that is no std::exception";
}

std::string_view name_of(DType dtype) { return type_of(dtype).name; }
std::size_t bytes_of(DType dtype) { return type_of(dtype).ours.bytes(); }

std::int64_t Node::integer(std::string_view attribute, std::int64_t otherwise) const {
  const auto* found = find_attribute<std::int64_t>(*this, attribute);
  return found == nullptr ? otherwise : *found;
}
float Node::real(std::string_view attribute, float otherwise) const {
  const auto* found = find_attribute<float>(*this, attribute);
  return found == nullptr ? otherwise : *found;
}
std::string Node::text(std::string_view attribute, std::string_view otherwise) const {
  const auto* found = find_attribute<std::string>(*this, attribute);
  return found == nullptr ? std::string(otherwise) : *found;
}
std::vector<std::int64_t> Node::integers(std::string_view attribute) const {
  const auto* found = find_attribute<std::vector<std::int64_t>>(*this, attribute);
  return found == nullptr ? std::vector<std::int64_t>() : *found;
}

int operator_main(int argc, char** argv, const Kernels& kernels) {
  operators::CustomKernels custom;
  for (const auto& [op_type, make] : kernels)
    custom.emplace(
        op_type,
        [&make](const operators::KernelSpec& spec) -> Result<std::unique_ptr<operators::Kernel>> {
          OPSPLIT_TRY(Node node, node_of(spec));
          auto kernel = std::make_unique<SdkKernel>(std::make_unique<Node>(std::move(node)));
          OPSPLIT_CHECK(kernel->make(make));
          return kernel;
        });
  return operators::operator_main(argc, argv, custom);
}

}  // namespace opsplit::sdk
