#include <gtest/gtest.h>

#include "tests/operators/kernel_case.hpp"

namespace opsplit::operators::testing {
namespace {

using Ints = std::vector<std::int64_t>;

constexpr std::array layouts{Layout::row_major, Layout::nhwc, Layout::nChw8c, Layout::nChw16c};

KernelCase pool(const std::string& op_type, const Shape& input, const Ints& kernel) {
  KernelCase test{.op_type = op_type, .inputs = {Arrives{input}}};
  test.attributes["kernel_shape"] = kernel;
  return test;
}

TEST(Pooling, Maximum) {
  for (const Layout layout : layouts)
    for (const Ints& strides : {Ints{1, 1}, Ints{2, 2}, Ints{3, 1}})
      for (const Ints& pads :
           {Ints{0, 0, 0, 0}, Ints{1, 1, 1, 1}, Ints{0, 0, 1, 1}, Ints{2, 0, 1, 1}})
        for (const std::int64_t ceil_mode : {0, 1}) {
          KernelCase test = pool("MaxPool", {2, 19, 12, 13}, {3, 3});
          test.layout = layout;
          test.attributes["strides"] = strides;
          test.attributes["pads"] = pads;
          test.attributes["ceil_mode"] = ceil_mode;
          expect_equals_reference(test);
        }
}

TEST(Pooling, DilatedMaximum) {
  for (const Layout layout : layouts) {
    KernelCase test = pool("MaxPool", {1, 16, 12, 13}, {3, 2});
    test.layout = layout;
    test.attributes["dilations"] = Ints{2, 3};
    test.attributes["strides"] = Ints{1, 2};
    expect_equals_reference(test);
  }
}

TEST(Pooling, Average) {
  for (const Layout layout : layouts)
    for (const Ints& pads : {Ints{0, 0, 0, 0}, Ints{1, 1, 1, 1}, Ints{0, 0, 1, 1}})
      for (const std::int64_t count : {0, 1})
        for (const std::int64_t stride : {1, 2}) {
          KernelCase test = pool("AveragePool", {1, 17, 11, 10}, {3, 2});
          test.layout = layout;
          test.attributes["pads"] = pads;
          test.attributes["count_include_pad"] = count;
          test.attributes["strides"] = Ints{stride, stride};
          expect_equals_reference(test);
        }
}

TEST(Pooling, AverageWithCeilModeCountsNoOverhang) {
  for (const std::int64_t count : {0, 1}) {
    KernelCase test = pool("AveragePool", {1, 3, 7, 8}, {3, 3});
    test.attributes["ceil_mode"] = std::int64_t{1};
    test.attributes["count_include_pad"] = count;
    test.attributes["strides"] = Ints{2, 2};
    test.attributes["pads"] = Ints{1, 0, 0, 1};
    test.opset = 19;
    expect_equals_reference(test);
  }
}

TEST(Pooling, AutoPad) {
  for (const char* op_type : {"MaxPool", "AveragePool"})
    for (const char* pad : {"SAME_UPPER", "SAME_LOWER", "VALID"}) {
      KernelCase test = pool(op_type, {1, 4, 10, 7}, {4, 3});
      test.attributes["auto_pad"] = std::string(pad);
      test.attributes["strides"] = Ints{2, 2};
      expect_equals_reference(test);
    }
}

TEST(Pooling, Global) {
  for (const Layout layout : layouts)
    for (const char* op_type : {"GlobalAveragePool", "GlobalMaxPool"})
      for (const Shape& shape : {Shape{2, 19, 7, 5}, Shape{1, 32, 1, 1}}) {
        KernelCase test{.op_type = op_type, .inputs = {Arrives{shape}}};
        test.layout = layout;
        expect_equals_reference(test);
      }
}

TEST(Pooling, OneAndThreeSpatialAxes) {
  expect_equals_reference(pool("MaxPool", {2, 5, 9}, {2}));
  expect_equals_reference(pool("AveragePool", {1, 3, 5, 6, 7}, {2, 3, 2}));
}

}  // namespace
}  // namespace opsplit::operators::testing
