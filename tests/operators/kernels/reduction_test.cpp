#include <gmock/gmock.h>

#include <cmath>

#include "tests/operators/evaluate.hpp"
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

TEST(Reduction, EachFunction) {
  const std::vector<double> x{-1, 2, -3, 0.5, 0.25, 4};
  const auto of = [&](const std::string& op) {
    const auto node = make_node(op, {{"axes", Ints{1}}, {"keepdims", std::int64_t{0}}});
    return evaluate<double>(node, {Numbers({2, 3}, x)}, {2}, 12);
  };
  const auto expect = [&](const std::string& op, double first, double second) {
    const auto y = of(op);
    EXPECT_NEAR(y[0], first, 1e-12) << op;
    EXPECT_NEAR(y[1], second, 1e-12) << op;
  };
  expect("ReduceMin", -3, 0.25);
  expect("ReduceProd", 6, 0.5);
  expect("ReduceL1", 6, 4.75);
  expect("ReduceSumSquare", 14, 16.3125);
  expect("ReduceL2", std::sqrt(14.0), std::sqrt(16.3125));
  expect("ReduceLogSumExp", std::log(std::exp(-1.0) + std::exp(2.0) + std::exp(-3.0)),
         std::log(std::exp(0.5) + std::exp(0.25) + std::exp(4.0)));
  EXPECT_NEAR(of("ReduceLogSum")[1], std::log(4.75), 1e-12);
}

TEST(Reduction, ExponentialsOfLargeNumbersDoNotOverflow) {
  EXPECT_THAT(evaluate<float>(make_node("ReduceLogSumExp"),
                              {Numbers({2}, std::vector<float>{1000, 1000})}, {1}),
              ::testing::ElementsAre(1000 + std::log(2.0F)));
  EXPECT_THAT(evaluate<float>(make_node("ReduceLogSumExp"),
                              {Numbers({2}, std::vector<float>{-INFINITY, -INFINITY})}, {1}),
              ::testing::ElementsAre(-INFINITY));
}

TEST(Reduction, OfIntegersIsExact) {
  constexpr std::int64_t large = (std::int64_t{1} << 53) + 1;  // no double
  EXPECT_THAT(evaluate<std::int64_t>(make_node("ReduceSum"), {Numbers({2}, Ints{large, 0})}, {1}),
              ::testing::ElementsAre(large));
  EXPECT_THAT(evaluate<std::int64_t>(make_node("ReduceMax"), {Numbers({2}, Ints{large, 0})}, {1}),
              ::testing::ElementsAre(large));
  EXPECT_THAT(evaluate<std::uint8_t>(make_node("ReduceMin"),
                                     {Numbers({2}, std::vector<std::uint8_t>{200, 7})}, {1}),
              ::testing::ElementsAre(7));
}

TEST(Reduction, ExponentialsOfIntegers) {
  EXPECT_THAT(evaluate<std::int32_t>(make_node("ReduceLogSumExp"),
                                     {Numbers({2}, std::vector<std::int32_t>{100, 2000})}, {1}),
              ::testing::ElementsAre(2000));
}

TEST(Reduction, OfNoIntegersIsTheEndOfTheirType) {
  const auto of = [](const std::string& op, auto type) {
    using T = decltype(type);
    return evaluate<T>(make_node(op), {Numbers({0}, std::vector<T>{})}, {1})[0];
  };
  EXPECT_EQ(of("ReduceMax", std::int32_t{}), INT32_MIN);
  EXPECT_EQ(of("ReduceMin", std::int32_t{}), INT32_MAX);
  EXPECT_EQ(of("ReduceMax", std::uint64_t{}), 0U);
  EXPECT_EQ(of("ReduceMin", std::uint64_t{}), UINT64_MAX);
  EXPECT_EQ(of("ReduceMin", std::int8_t{}), 127);
  const auto least =
      Evaluation{make_node("ReduceMin"), {Numbers({0}, std::vector<bool>{})}}.run({{bool8, {1}}});
  ASSERT_TRUE(least) << least.error().message;
  EXPECT_EQ((*least)[0][0], std::byte{1});
}

TEST(Reduction, OfNothing) {
  const auto of = [](const std::string& op) {
    return evaluate<float>(make_node(op), {Numbers({0}, std::vector<float>{})}, {1})[0];
  };
  EXPECT_EQ(of("ReduceSum"), 0);
  EXPECT_EQ(of("ReduceProd"), 1);
  EXPECT_EQ(of("ReduceMax"), -INFINITY);
  EXPECT_EQ(of("ReduceMin"), INFINITY);
  EXPECT_EQ(of("ReduceLogSumExp"), -INFINITY);
  EXPECT_NE(error_of(make_node("ReduceMean"), {Numbers({0}, std::vector<float>{})}, {float32, {1}}),
            "");
}

TEST(Reduction, RunningSums) {
  const Numbers x({2, 3}, Ints{1, 2, 3, 4, 5, 6});
  const auto of = [&](std::int64_t axis, std::int64_t exclusive, std::int64_t reverse) {
    const auto node = make_node("CumSum", {{"exclusive", exclusive}, {"reverse", reverse}});
    return evaluate<std::int64_t>(node, {x, Numbers({}, Ints{axis})}, {2, 3});
  };
  EXPECT_THAT(of(1, 0, 0), ::testing::ElementsAre(1, 3, 6, 4, 9, 15));
  EXPECT_THAT(of(-1, 1, 0), ::testing::ElementsAre(0, 1, 3, 0, 4, 9));
  EXPECT_THAT(of(1, 0, 1), ::testing::ElementsAre(6, 5, 3, 15, 11, 6));
  EXPECT_THAT(of(0, 1, 1), ::testing::ElementsAre(4, 5, 6, 0, 0, 0));
  EXPECT_NE(error_of(make_node("CumSum"), {x, Numbers({}, Ints{2})}, {int64, {2, 3}}), "");
}

}  // namespace
}  // namespace opsplit::operators::testing
