// Softmax over the last axis.
#pragma once

#include <algorithm>
#include <cmath>
#include <opsplit/operator.hpp>

class Softmax : public opsplit::sdk::Kernel {
 public:
  explicit Softmax(const opsplit::sdk::Node& node) {
    const auto& shape = node.inputs[0].shape;
    const auto rank = static_cast<std::int64_t>(shape.size());
    const std::int64_t axis = node.integer("axis", -1);
    if (rank == 0 || (axis != -1 && axis != rank - 1))
      throw std::invalid_argument("only over the last axis");
    row_ = static_cast<std::size_t>(shape.back());
  }

  void run(opsplit::sdk::Inputs inputs, opsplit::sdk::Outputs outputs) override {
    const auto x = inputs[0].as<float>();
    const auto y = outputs[0].as<float>();
    for (std::size_t at = 0; at < x.size(); at += row_) {
      const float most = *std::max_element(&x[at], &x[at] + row_);
      float sum = 0;
      for (std::size_t i = at; i < at + row_; ++i) sum += y[i] = std::exp(x[i] - most);
      for (std::size_t i = at; i < at + row_; ++i) y[i] /= sum;
    }
  }

 private:
  std::size_t row_;
};
