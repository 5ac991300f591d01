#include "graph/onnx_attribute.hpp"

#include <onnx/onnx_pb.h>

#include <algorithm>
#include <array>
#include <type_traits>

#include "graph/names.hpp"
#include "graph/onnx_tensor.hpp"

namespace opsplit::graph {
namespace {

using onnx::AttributeProto;

struct Known {
  std::string_view name;
  AttributeProto::AttributeType type;
};

// What the operations here read. An attribute of one name has one type in all of them.
constexpr std::array known_attributes{
    Known{"allowzero", AttributeProto::INT},
    Known{"alpha", AttributeProto::FLOAT},
    Known{"auto_pad", AttributeProto::STRING},
    Known{"axes", AttributeProto::INTS},
    Known{"axis", AttributeProto::INT},
    Known{"beta", AttributeProto::FLOAT},
    Known{"bias", AttributeProto::FLOAT},
    Known{"ceil_mode", AttributeProto::INT},
    Known{"coordinate_transformation_mode", AttributeProto::STRING},
    Known{"count_include_pad", AttributeProto::INT},
    Known{"cubic_coeff_a", AttributeProto::FLOAT},
    Known{"dilations", AttributeProto::INTS},
    Known{"end", AttributeProto::INT},
    Known{"ends", AttributeProto::INTS},
    Known{"epsilon", AttributeProto::FLOAT},
    Known{"exclude_outside", AttributeProto::INT},
    Known{"extrapolation_value", AttributeProto::FLOAT},
    Known{"gamma", AttributeProto::FLOAT},
    Known{"group", AttributeProto::INT},
    Known{"keep_aspect_ratio_policy", AttributeProto::STRING},
    Known{"keepdims", AttributeProto::INT},
    Known{"kernel_shape", AttributeProto::INTS},
    Known{"max", AttributeProto::FLOAT},
    Known{"min", AttributeProto::FLOAT},
    Known{"mode", AttributeProto::STRING},
    Known{"momentum", AttributeProto::FLOAT},
    Known{"nearest_mode", AttributeProto::STRING},
    Known{"noop_with_empty_axes", AttributeProto::INT},
    Known{"num_outputs", AttributeProto::INT},
    Known{"output_padding", AttributeProto::INTS},
    Known{"output_shape", AttributeProto::INTS},
    Known{"pads", AttributeProto::INTS},
    Known{"perm", AttributeProto::INTS},
    Known{"ratio", AttributeProto::FLOAT},
    Known{"scales", AttributeProto::FLOATS},
    Known{"size", AttributeProto::INT},
    Known{"spatial", AttributeProto::INT},
    Known{"split", AttributeProto::INTS},
    Known{"start", AttributeProto::INT},
    Known{"starts", AttributeProto::INTS},
    Known{"storage_order", AttributeProto::INT},
    Known{"strides", AttributeProto::INTS},
    Known{"to", AttributeProto::INT},
    Known{"training_mode", AttributeProto::INT},
    Known{"transA", AttributeProto::INT},
    Known{"transB", AttributeProto::INT},
    Known{"value", AttributeProto::TENSOR},
};

}  // namespace

Result<> check_attribute_type(const AttributeProto& attribute) {
  const auto known = std::find_if(known_attributes.begin(), known_attributes.end(),
                                  [&](const Known& k) { return k.name == attribute.name(); });
  if (known == known_attributes.end() || known->type == attribute.type()) return {};
  return fail(ErrorCode::invalid_input, "attribute '{}' is of type {}, must be {}",
              attribute.name(), AttributeProto::AttributeType_Name(attribute.type()),
              AttributeProto::AttributeType_Name(known->type));
}

Result<Attribute> attribute_from_onnx(const AttributeProto& attribute, ExternalData& external) {
  if (attribute.name().empty() || !is_printable(attribute.name()))
    return fail(ErrorCode::invalid_input, "an attribute has no printable name");
  switch (attribute.type()) {
    case AttributeProto::INT:
      return attribute.i();
    case AttributeProto::FLOAT:
      return attribute.f();
    case AttributeProto::STRING:
      return attribute.s();
    case AttributeProto::INTS:
      return std::vector<std::int64_t>(attribute.ints().begin(), attribute.ints().end());
    case AttributeProto::FLOATS:
      return std::vector<float>(attribute.floats().begin(), attribute.floats().end());
    case AttributeProto::STRINGS:
      return std::vector<std::string>(attribute.strings().begin(), attribute.strings().end());
    case AttributeProto::TENSOR: {
      auto constant = constant_from_onnx(attribute.t(), external);
      if (!constant)
        return within(fmt::format("attribute '{}'", attribute.name()), constant.error());
      return *std::move(constant);
    }
    default:
      return fail(ErrorCode::unsupported, "attribute '{}': type {} is not supported",
                  attribute.name(), static_cast<int>(attribute.type()));
  }
}

void attribute_to_onnx(std::string_view name, const Attribute& attribute, AttributeProto& out) {
  out.set_name(std::string(name));
  std::visit(
      [&](const auto& value) {
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<T, std::int64_t>) {
          out.set_type(AttributeProto::INT);
          out.set_i(value);
        } else if constexpr (std::is_same_v<T, float>) {
          out.set_type(AttributeProto::FLOAT);
          out.set_f(value);
        } else if constexpr (std::is_same_v<T, std::string>) {
          out.set_type(AttributeProto::STRING);
          out.set_s(value);
        } else if constexpr (std::is_same_v<T, std::vector<std::int64_t>>) {
          out.set_type(AttributeProto::INTS);
          for (const auto element : value) out.add_ints(element);
        } else if constexpr (std::is_same_v<T, std::vector<float>>) {
          out.set_type(AttributeProto::FLOATS);
          for (const auto element : value) out.add_floats(element);
        } else if constexpr (std::is_same_v<T, std::vector<std::string>>) {
          out.set_type(AttributeProto::STRINGS);
          for (const auto& element : value) out.add_strings(element);
        } else {
          out.set_type(AttributeProto::TENSOR);
          constant_to_onnx(value, *out.mutable_t());
        }
      },
      attribute);
}

}  // namespace opsplit::graph
