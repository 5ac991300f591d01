// What a kernel is made from: a node with concrete types and layouts, the pointwise work fused after
// it, and what kernels of one program share.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "graph/graph.hpp"
#include "operators/aligned_memory.hpp"
#include "operators/kernel.hpp"
#include "operators/kernels/pointwise.hpp"
#include "operators/program.hpp"

namespace opsplit::operators {

// An input or output of a kernel. The views given to run() are in the order of these; that of an
// absent optional input has no data.
struct Operand {
  TensorType type = {};
  Layout layout = Layout::row_major;
  const graph::Constant* constant = nullptr;  // content known when the kernel is made, row-major
  bool present = true;
  bool in_place = false;  // an input of Concat that its producer has put into the output already
  std::string name = {};  // of the value in the model; for kernels of others
};

// Done to each element of the output before it is stored.
struct PostOp {
  enum class Kind { activation, binary, sum };
  Kind kind = Kind::activation;
  Activation activation = {};                   // kind activation
  BinaryFunction binary = BinaryFunction::add;  // kind binary: output = f(output, operand)
  std::size_t operand = 0;                      // kinds binary, sum: index in KernelSpec::inputs
};
// Kind sum: the operand lies in the very memory of the output, and is added to it. The one case in
// which an input of a kernel overlaps its output.

inline PostOp post_op(const Activation& activation) {
  return {PostOp::Kind::activation, activation, BinaryFunction::add, 0};
}
inline PostOp post_op(BinaryFunction function, std::size_t operand) {
  return {PostOp::Kind::binary, {}, function, operand};
}

struct KernelSpec {
  const graph::Node* node = nullptr;
  std::int64_t opset = 0;
  std::vector<Operand> inputs = {};  // the node's, then the post-ops' operands
  std::vector<Operand> outputs = {};
  std::vector<PostOp> post_ops = {};
};

// Memory that kernels of one program use one after the other, each for the time of its run.
class Scratchpad {
 public:
  // Nothing may be running.
  void reserve(std::size_t bytes) {
    if (bytes > memory_.size()) memory_ = AlignedMemory(bytes);
  }
  [[nodiscard]] std::byte* data() { return memory_.data(); }

 private:
  AlignedMemory memory_;
};

struct KernelResources {
  PackedWeights* weights = nullptr;
  std::shared_ptr<Scratchpad> scratchpad;
};

}  // namespace opsplit::operators
