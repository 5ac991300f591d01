// One node, its kernel and its reference: the recipe of every kernel test.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "operators/kernels/kernels.hpp"
#include "tests/operators/tensors.hpp"

namespace opsplit::operators::testing {

// An input of random content that arrives when the kernel runs.
struct Arrives {
  Shape shape;
};
// An input that is known when the kernel is made.
struct Known {
  graph::Constant constant;
};
inline Known known_random(const Shape& shape, std::uint32_t seed = 99) {
  return {constant_of(random_tensor(shape, seed))};
}
struct Absent {};
using CaseInput = std::variant<Arrives, Known, Absent>;

struct KernelCase {
  std::string op_type;
  std::vector<CaseInput> inputs = {};
  Attributes attributes = {};
  std::int64_t opset = 13;
  std::vector<PostOp> post_ops = {};  // operands: shapes of further inputs
  std::vector<Shape> operands = {};
  Layout layout = Layout::row_major;  // of the inputs of rank 4 that arrive, and outputs
  std::size_t outputs = 1;
  std::function<Result<std::unique_ptr<Kernel>>(const KernelSpec&, const KernelResources&)> make =
      make_kernel;
};

std::string describe(const KernelCase& test);

// Makes the kernel, runs it, and expects the reference's result and then the post-ops', each applied
// by the reference too.
void expect_equals_reference(const KernelCase& test, double tolerance = 1e-5);

}  // namespace opsplit::operators::testing
