#include <gtest/gtest.h>

#include "tests/operators/kernel_case.hpp"

namespace opsplit::operators::testing {
namespace {

using Ints = std::vector<std::int64_t>;

const std::vector<std::string> operations = {"ReduceMean", "ReduceSum", "ReduceMax"};

// Every subset of the axes, those with kept axes between reduced ones too.
TEST(Reduction, EverySetOfAxes) {
  for (const std::string& operation : operations)
    for (const Shape& shape :
         {Shape{7}, Shape{3, 5}, Shape{2, 3, 4, 5}, Shape{1, 17, 7, 7}, Shape{2, 1, 3}, Shape{1}})
      for (std::size_t subset = 1; subset < std::size_t{1} << shape.rank(); ++subset)
        for (const std::int64_t keepdims : {0, 1}) {
          Ints axes;
          for (std::size_t axis = 0; axis < shape.rank(); ++axis)
            if ((subset >> axis & 1) != 0)
              axes.push_back(static_cast<std::int64_t>(axis) -
                             (axis % 2 == 0 ? 0 : static_cast<std::int64_t>(shape.rank())));
          KernelCase test{.op_type = operation, .inputs = {Arrives{shape}}, .opset = 12};
          test.attributes = {{"axes", axes}, {"keepdims", keepdims}};
          expect_equals_reference(test);
          test.inputs.push_back(Known{constant_of(axes)});
          test.attributes.erase("axes");
          test.opset = 18;
          expect_equals_reference(test);
        }
}

TEST(Reduction, WithoutAxesAllOfThem) {
  for (const std::string& operation : operations)
    expect_equals_reference({.op_type = operation, .inputs = {Arrives{{2, 3, 4}}}});
}

TEST(Reduction, ManyRowsOnSeveralThreads) {
  for (const std::string& operation : operations)
    for (const Ints& axes : {Ints{2}, Ints{1}, Ints{1, 2}}) {
      KernelCase test{.op_type = operation, .inputs = {Arrives{{40, 50, 60}}}, .opset = 12};
      test.attributes = {{"axes", axes}};
      expect_equals_reference(test);
    }
}

}  // namespace
}  // namespace opsplit::operators::testing
