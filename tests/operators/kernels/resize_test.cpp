#include <gtest/gtest.h>

#include <algorithm>

#include "tests/operators/kernel_case.hpp"

namespace opsplit::operators::testing {
namespace {

constexpr std::array layouts{Layout::row_major, Layout::nhwc, Layout::nChw8c, Layout::nChw16c};

Known floats(const std::vector<float>& values) {
  Tensor tensor({float32, Shape{static_cast<std::int64_t>(values.size())}}, Layout::row_major);
  std::copy(values.begin(), values.end(), tensor.values().begin());
  return {constant_of(tensor)};
}

KernelCase resize(const Shape& shape, const std::vector<float>& scales, const Attributes& modes) {
  return {.op_type = "Resize",
          .inputs = {Arrives{shape}, Absent{}, floats(scales)},
          .attributes = modes};
}

TEST(Resize, EveryModeInEveryLayout) {
  for (const Layout layout : layouts)
    for (const char* transformation : {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel",
                                       "align_corners", "asymmetric", "tf_half_pixel_for_nn"})
      for (const std::vector<float>& scales : {std::vector<float>{1, 1, 2, 2},
                                               {1, 1, 4, 3},
                                               {1, 1, 1.5F, 0.6F},
                                               {1, 1, 0.5F, 1},
                                               {1, 1, 0.2F, 0.1F}}) {
        KernelCase test = resize({2, 19, 6, 10}, scales,
                                 {{"coordinate_transformation_mode", std::string(transformation)}});
        test.layout = layout;
        for (const char* rounding : {"floor", "ceil", "round_prefer_floor", "round_prefer_ceil"}) {
          test.attributes["nearest_mode"] = std::string(rounding);
          expect_equals_reference(test);
        }
        test.attributes["mode"] = std::string("linear");
        expect_equals_reference(test);
      }
}

// Large enough for several threads, each of which begins in the middle of a row's copies.
TEST(Resize, LargeImages) {
  for (const Layout layout : layouts) {
    KernelCase test = resize({1, 24, 40, 41}, {1, 1, 8, 8},
                             {{"coordinate_transformation_mode", std::string("asymmetric")},
                              {"nearest_mode", std::string("floor")}});
    test.layout = layout;
    expect_equals_reference(test);
  }
}

TEST(Resize, OtherAxesAndRanks) {
  expect_equals_reference(resize({2, 3, 4, 5}, {2, 1.5F, 1, 1}, {}));
  expect_equals_reference(resize({4, 5}, {2, 2}, {{"mode", std::string("linear")}}));
  expect_equals_reference(resize({1, 2, 3, 4, 5}, {1, 1, 2, 2, 2}, {}));
}

TEST(Resize, CropsAndExtrapolates) {
  KernelCase test{
      .op_type = "Resize",
      .inputs = {Arrives{{1, 2, 4, 4}}, floats({0, 0, 0.4F, 0.6F, 1, 1, 1.2F, 0.8F}),
                 floats({1, 1, 0.8F, 0.8F})},
      .attributes = {{"mode", std::string("linear")},
                     {"coordinate_transformation_mode", std::string("tf_crop_and_resize")},
                     {"extrapolation_value", 10.0F}}};
  expect_equals_reference(test);
}

TEST(Resize, OlderOperatorSets) {
  for (const std::vector<float>& scales : {std::vector<float>{1, 1, 2, 2}, {1, 1, 0.6F, 0.6F}}) {
    KernelCase ten{
        .op_type = "Resize", .inputs = {Arrives{{1, 3, 2, 4}}, floats(scales)}, .opset = 10};
    expect_equals_reference(ten);
    KernelCase seven{.op_type = "Upsample",
                     .inputs = {Arrives{{1, 3, 2, 4}}},
                     .attributes = {{"scales", scales}},
                     .opset = 7};
    expect_equals_reference(seven);
  }
}

}  // namespace
}  // namespace opsplit::operators::testing
