// The vocabulary of pointwise work: functions of one element, and of two.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "graph/graph.hpp"

namespace opsplit::operators {

enum class ActivationFunction {
  relu,        // max(x, 0)
  leaky_relu,  // x < 0 ? alpha x : x
  clip,        // min(max(x, alpha), beta)
  sigmoid,
  hard_sigmoid,  // min(max(alpha x + beta, 0), 1)
  hard_swish,    // x hard_sigmoid(x), with alpha 1/6 and beta 1/2
  tanh,
  elu,  // x < 0 ? alpha (exp(x) - 1) : x
  exp,
  log,
  erf,  // oneDNN has none: computed by the reference
  sqrt,
  abs,
  linear,  // alpha x + beta
};

struct Activation {
  ActivationFunction function = ActivationFunction::relu;
  float alpha = 0;
  float beta = 0;
};

enum class BinaryFunction { add, subtract, multiply, divide, maximum, minimum };

// The activation that `node` computes, its parameters included (arithmetic with one number is
// linear); nothing if it is no activation, or one whose parameters are not known before it runs. `constants` are those of the node's inputs,
// null where an input is absent or no constant.
std::optional<Activation> activation_of(const graph::Node& node, std::int64_t opset,
                                        std::span<const graph::Constant* const> constants);

// Add and Sum are `add`, and so on; nothing for other operations.
std::optional<BinaryFunction> binary_function_of(std::string_view op_type);

// f(a, b) == f(b, a)?
constexpr bool is_commutative(BinaryFunction function) {
  return function != BinaryFunction::subtract && function != BinaryFunction::divide;
}

}  // namespace opsplit::operators
