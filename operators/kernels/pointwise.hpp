// The vocabulary of pointwise work: functions of one element, and of two.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "graph/graph.hpp"
#include "operators/kernels/functions.hpp"

namespace opsplit::operators {

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
