// Functions of one element and of two, by name. Plain, so that a GPU's code may include it.
#pragma once

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

}  // namespace opsplit::operators
