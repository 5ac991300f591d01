#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "operators/kernels/pointwise.hpp"

namespace opsplit::operators {
namespace {

using graph::Constant;
using graph::Node;

// Clip's bound: an attribute until opset 10, an optional input since.
std::optional<float> clip_bound(const Node& node, std::int64_t opset, std::string_view attribute,
                                std::size_t input, float otherwise,
                                std::span<const Constant* const> constants) {
  if (opset < 11) return node.real(attribute, otherwise);
  if (input >= node.inputs.size() || node.inputs[input] == graph::no_value) return otherwise;
  const Constant* bound = input < constants.size() ? constants[input] : nullptr;
  if (bound == nullptr || bound->type.dtype != float32 || bound->bytes.size() != sizeof(float))
    return std::nullopt;
  return bound->as<float>()[0];
}

std::optional<Activation> clip_of(const Node& node, std::int64_t opset,
                                  std::span<const Constant* const> constants) {
  constexpr float largest = std::numeric_limits<float>::max();
  const auto low = clip_bound(node, opset, "min", 1, -largest, constants);
  const auto high = clip_bound(node, opset, "max", 2, largest, constants);
  if (!low || !high) return std::nullopt;
  // Bounds the wrong way round are allowed: everything is the upper one then.
  return Activation{ActivationFunction::clip, std::min(*low, *high), *high};
}

// Add, Sub, Mul, Div of x and one number.
std::optional<Activation> linear_of(const Node& node, std::span<const Constant* const> constants) {
  const auto function = binary_function_of(node.op_type);
  if (!function || constants.size() != 2) return std::nullopt;
  const std::size_t at = constants[1] != nullptr ? 1 : 0;
  const Constant* constant = constants[at];
  if (constant == nullptr || constants[1 - at] != nullptr || constant->type.dtype != float32 ||
      constant->bytes.size() != sizeof(float))
    return std::nullopt;
  const float number = constant->as<float>()[0];
  constexpr auto linear = ActivationFunction::linear;
  switch (*function) {
    case BinaryFunction::add:
      return Activation{linear, 1.0F, number};
    case BinaryFunction::subtract:
      return at == 1 ? Activation{linear, 1.0F, -number} : Activation{linear, -1.0F, number};
    case BinaryFunction::multiply:
      return Activation{linear, number, 0.0F};
    case BinaryFunction::divide:
      if (at == 1 && number != 0) return Activation{linear, 1.0F / number, 0.0F};
      return std::nullopt;
    case BinaryFunction::maximum:
    case BinaryFunction::minimum:
      return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

std::optional<Activation> activation_of(const Node& node, std::int64_t opset,
                                        std::span<const Constant* const> constants) {
  using enum ActivationFunction;
  const std::string_view op = node.op_type;
  if (op == "Relu") return Activation{relu};
  if (op == "LeakyRelu") return Activation{leaky_relu, node.real("alpha", 0.01F)};
  if (op == "Clip") return clip_of(node, opset, constants);
  if (op == "Sigmoid") return Activation{sigmoid};
  if (op == "HardSigmoid")
    return Activation{hard_sigmoid, node.real("alpha", 0.2F), node.real("beta", 0.5F)};
  if (op == "HardSwish") return Activation{hard_swish, 1.0F / 6.0F, 0.5F};
  if (op == "Tanh") return Activation{tanh};
  if (op == "Elu") return Activation{elu, node.real("alpha", 1.0F)};
  if (op == "Exp") return Activation{exp};
  if (op == "Log") return Activation{log};
  if (op == "Erf") return Activation{erf};
  if (op == "Sqrt") return Activation{sqrt};
  if (op == "Abs") return Activation{abs};
  if (op == "Neg") return Activation{linear, -1.0F, 0.0F};
  return linear_of(node, constants);
}

std::optional<BinaryFunction> binary_function_of(std::string_view op_type) {
  using enum BinaryFunction;
  static constexpr std::array<std::pair<std::string_view, BinaryFunction>, 7> functions{{
      {"Add", add},
      {"Sum", add},
      {"Sub", subtract},
      {"Mul", multiply},
      {"Div", divide},
      {"Max", maximum},
      {"Min", minimum},
  }};
  for (const auto& [name, function] : functions)
    if (name == op_type) return function;
  return std::nullopt;
}

}  // namespace opsplit::operators
