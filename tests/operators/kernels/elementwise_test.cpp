#include "operators/kernels/elementwise.hpp"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "operators/kernels/kernels.hpp"
#include "tests/operators/evaluate.hpp"

namespace opsplit::operators::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Doubles = std::vector<double>;
using Floats = std::vector<float>;
using Ints = std::vector<std::int32_t>;
using Longs = std::vector<std::int64_t>;
using Bytes = std::vector<std::uint8_t>;
using SignedBytes = std::vector<std::int8_t>;
using Bools = std::vector<bool>;
constexpr double infinity = std::numeric_limits<double>::infinity();

// Each function against the standard library's, at odd places.
TEST(Elementwise, FunctionsOfOneReal) {
  const std::vector<std::pair<std::string, double (*)(double)>> functions = {
      {"Asin", [](double x) { return std::asin(x); }},
      {"Acos", [](double x) { return std::acos(x); }},
      {"Atan", [](double x) { return std::atan(x); }},
      {"Asinh", [](double x) { return std::asinh(x); }},
      {"Atanh", [](double x) { return std::atanh(x); }},
      {"Sin", [](double x) { return std::sin(x); }},
      {"Cos", [](double x) { return std::cos(x); }},
      {"Tan", [](double x) { return std::tan(x); }},
      {"Sinh", [](double x) { return std::sinh(x); }},
      {"Cosh", [](double x) { return std::cosh(x); }},
      {"Ceil", [](double x) { return std::ceil(x); }},
      {"Floor", [](double x) { return std::floor(x); }},
      {"Reciprocal", [](double x) { return 1 / x; }},
      {"Softplus", [](double x) { return std::log(1 + std::exp(x)); }},
      {"Softsign", [](double x) { return x / (1 + std::abs(x)); }},
      {"Sign", [](double x) { return x > 0   ? 1.0
                                     : x < 0 ? -1.0
                                             : 0.0; }},
      {"Mish", [](double x) { return x * std::tanh(std::log(1 + std::exp(x))); }},
      {"Gelu", [](double x) { return x * 0.5 * std::erfc(-x / std::sqrt(2)); }},
      {"Selu",
       [](double x) {
         return 1.05070102214813232421875 *
                (x > 0 ? x : 1.67326319217681884765625 * (std::exp(x) - 1));
       }},
      {"Celu", [](double x) { return std::max(0.0, x) + std::min(0.0, std::exp(x) - 1); }},
      {"ThresholdedRelu", [](double x) { return x > 1 ? x : 0; }},
      {"Shrink", [](double x) { return std::abs(x) > 0.5 ? x : 0; }},
  };
  const Doubles x{-0.9, -0.5, -0.1, 0.3, 0.5, 0.7, 0.99};
  for (const auto& [op, function] : functions) {
    SCOPED_TRACE(op);
    const auto doubles = evaluate<double>(make_node(op), {Numbers({7}, x)}, {7});
    const auto floats =
        evaluate<float>(make_node(op), {Numbers({7}, Floats(x.begin(), x.end()))}, {7});
    for (std::size_t i = 0; i < x.size(); ++i) {
      EXPECT_NEAR(doubles[i], function(x[i]), 1e-12);
      EXPECT_NEAR(static_cast<double>(floats[i]), function(x[i]),
                  1e-6 * (1 + std::abs(doubles[i])));
    }
  }
  EXPECT_NEAR(evaluate<double>(make_node("Acosh"), {Numbers({1}, Doubles{2})}, {1})[0],
              std::acosh(2.0), 1e-12);
}

TEST(Elementwise, AttributesCount) {
  const auto one = [](const std::string& op, const Attributes& attributes, double x) {
    return evaluate<double>(make_node(op, attributes), {Numbers({1}, Doubles{x})}, {1})[0];
  };
  EXPECT_NEAR(one("Celu", {{"alpha", 2.0F}}, -1), 2 * (std::exp(-0.5) - 1), 1e-7);
  EXPECT_EQ(one("ThresholdedRelu", {{"alpha", 2.0F}}, 1.5), 0);
  EXPECT_EQ(one("Shrink", {{"lambd", 1.5F}, {"bias", 0.5F}}, -2), -1.5);
  EXPECT_EQ(one("Shrink", {{"lambd", 1.5F}, {"bias", 0.5F}}, 1.5), 0);
  EXPECT_EQ(one("Shrink", {{"lambd", 1.5F}, {"bias", 0.5F}}, 2), 1.5);
  const graph::Node shrink = make_node("Shrink", {{"lambd", 1.5F}, {"bias", 1.0F}});
  EXPECT_THAT(
      evaluate<std::uint32_t>(shrink, {Numbers({3}, std::vector<std::uint32_t>{0, 1, 4})}, {3}),
      ElementsAre(0, 0, 3));
  EXPECT_THAT(evaluate<std::int32_t>(make_node("Shrink", {{"lambd", 1e30F}}),
                                     {Numbers({2}, Ints{INT32_MIN, INT32_MAX})}, {2}),
              ElementsAre(0, 0));
  const double tanh = one("Gelu", {{"approximate", std::string("tanh")}}, 1);
  EXPECT_NEAR(tanh, 0.841191990608, 1e-9);
  EXPECT_EQ(one("HardSigmoid", {{"alpha", 0.5F}, {"beta", 0.25F}}, 1), 0.75);
  EXPECT_EQ(one("HardSwish", {}, -4), 0);
}

TEST(Elementwise, LargeNumbersDoNotOverflow) {
  EXPECT_THAT(evaluate<float>(make_node("Softplus"), {Numbers({2}, Floats{1000, -1000})}, {2}),
              ElementsAre(1000, 0));
  EXPECT_THAT(evaluate<float>(make_node("Mish"), {Numbers({2}, Floats{1000, -1000})}, {2}),
              ElementsAre(1000, 0));
}

TEST(Elementwise, RoundsHalfToEven) {
  EXPECT_THAT(evaluate<float>(make_node("Round"),
                              {Numbers({6}, Floats{0.5F, 1.5F, 2.5F, -0.5F, -1.5F, 2.6F})}, {6}),
              ElementsAre(0, 2, 2, 0, -2, 3));
}

TEST(Elementwise, ClipOfAnyType) {
  EXPECT_THAT(evaluate<std::int8_t>(make_node("Clip"),
                                    {Numbers({4}, SignedBytes{-9, -1, 3, 120}),
                                     Numbers({}, SignedBytes{-2}), Numbers({}, SignedBytes{5})},
                                    {4}),
              ElementsAre(-2, -1, 3, 5));
  EXPECT_THAT(evaluate<std::int64_t>(make_node("Clip"), {Numbers({2}, Longs{-9, 9})}, {2}),
              ElementsAre(-9, 9));
}

TEST(Elementwise, IntegersWrapAroundAndDivisionByZeroGivesZero) {
  const auto of = [](const std::string& op, Bytes a, Bytes b) {
    return evaluate<std::uint8_t>(make_node(op), {Numbers({3}, a), Numbers({3}, b)}, {3});
  };
  EXPECT_THAT(of("Add", {250, 1, 2}, {10, 1, 1}), ElementsAre(4, 2, 3));
  EXPECT_THAT(of("Sub", {0, 1, 2}, {1, 1, 1}), ElementsAre(255, 0, 1));
  EXPECT_THAT(of("Mul", {16, 3, 2}, {17, 1, 1}), ElementsAre(16, 3, 2));
  EXPECT_THAT(of("Div", {9, 1, 200}, {0, 1, 3}), ElementsAre(0, 1, 66));
  constexpr auto lowest = std::numeric_limits<std::int32_t>::lowest();
  EXPECT_THAT(
      evaluate<std::int32_t>(make_node("Div"),
                             {Numbers({2}, Ints{lowest, -7}), Numbers({2}, Ints{-1, 2})}, {2}),
      ElementsAre(lowest, -3));
  EXPECT_THAT(evaluate<std::int32_t>(make_node("Abs"), {Numbers({1}, Ints{lowest})}, {1}),
              ElementsAre(lowest));
}

TEST(Elementwise, ModHasTheSignOfTheDivisorAndFmodThatOfTheDividend) {
  const std::vector<Numbers> numbers{Numbers({4}, Ints{-7, 7, -7, 5}),
                                     Numbers({4}, Ints{3, -3, -3, 0})};
  EXPECT_THAT(evaluate<std::int32_t>(make_node("Mod"), numbers, {4}), ElementsAre(2, -2, -1, 0));
  EXPECT_THAT(evaluate<std::int32_t>(make_node("Mod", {{"fmod", std::int64_t{1}}}), numbers, {4}),
              ElementsAre(-1, 1, -1, 0));
  EXPECT_THAT(evaluate<float>(make_node("Mod", {{"fmod", std::int64_t{1}}}),
                              {Numbers({1}, Floats{-5.5F}), Numbers({1}, Floats{2})}, {1}),
              ElementsAre(-1.5F));
}

TEST(Elementwise, Bits) {
  const std::vector<Numbers> numbers{Numbers({2}, Bytes{0b1100, 255}),
                                     Numbers({2}, Bytes{0b1010, 9})};
  EXPECT_THAT(evaluate<std::uint8_t>(make_node("BitwiseAnd"), numbers, {2}),
              ElementsAre(0b1000, 9));
  EXPECT_THAT(evaluate<std::uint8_t>(make_node("BitwiseOr"), numbers, {2}),
              ElementsAre(0b1110, 255));
  EXPECT_THAT(evaluate<std::uint8_t>(make_node("BitwiseXor"), numbers, {2}),
              ElementsAre(0b0110, 246));
  EXPECT_THAT(evaluate<std::uint8_t>(make_node("BitwiseNot"), {numbers[0]}, {2}),
              ElementsAre(0xF3, 0));
  const auto shift = [&](const std::string& direction) {
    return evaluate<std::uint8_t>(make_node("BitShift", {{"direction", direction}}),
                                  {Numbers({3}, Bytes{16, 4, 255}), Numbers({3}, Bytes{1, 2, 8})},
                                  {3});
  };
  EXPECT_THAT(shift("RIGHT"), ElementsAre(8, 1, 0));  // more than there are bits leaves none
  EXPECT_THAT(shift("LEFT"), ElementsAre(32, 16, 0));
}

TEST(Elementwise, PowerToAnotherTypeSaturates) {
  EXPECT_THAT(
      evaluate<std::int32_t>(make_node("Pow"),
                             {Numbers({3}, Ints{2, 3, 10}), Numbers({3}, Floats{3, 2, 20})}, {3}),
      ElementsAre(8, 9, std::numeric_limits<std::int32_t>::max()));
  EXPECT_THAT(
      evaluate<float>(make_node("Pow"), {Numbers({2}, Floats{2, 3}), Numbers({}, Longs{2})}, {2}),
      ElementsAre(4, 9));
}

// Every way in which two operands of rank 3 can broadcast, against the definition.
TEST(Elementwise, BroadcastsOnAnyAxis) {
  const Shape whole{2, 3, 4};
  for (std::size_t mask = 0; mask < 8; ++mask) {
    Shape a = whole, b = whole;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      if ((mask >> axis & 1) != 0) a[axis] = 1;
      if ((mask >> axis & 1) == 0 && mask != 0) b[axis] = 1;
    }
    const auto counted = [](const Shape& shape) {
      Ints values(static_cast<std::size_t>(*shape.elements()));
      std::iota(values.begin(), values.end(), 1);
      return values;
    };
    const Ints first = counted(a), second = counted(b);
    const auto y =
        evaluate<std::int32_t>(make_node("Sub"), {Numbers(a, first), Numbers(b, second)}, whole);
    std::size_t at = 0;
    for_each_index(whole, [&](const Coordinates& index) {
      const auto of = [&](const Shape& shape, const Ints& values) {
        return values[static_cast<std::size_t>(
            offset_of(index, broadcast_strides(shape, whole), 3))];
      };
      EXPECT_EQ(y[at++], of(a, first) - of(b, second)) << mask;
    });
  }
  EXPECT_THAT(
      evaluate<std::int32_t>(make_node("Add"), {Numbers({}, Ints{1}), Numbers({}, Ints{2})}, {}),
      ElementsAre(3));
  EXPECT_THAT(evaluate<std::int32_t>(make_node("Add"),
                                     {Numbers({0, 2}, Ints{}), Numbers({2}, Ints{1, 2})}, {0, 2}),
              ::testing::IsEmpty());
}

TEST(Elementwise, AnyNumberOfOperands) {
  const std::vector<Numbers> numbers{Numbers({2}, Doubles{1, 5}), Numbers({1}, Doubles{4}),
                                     Numbers({}, Doubles{-2})};
  EXPECT_THAT(evaluate<double>(make_node("Max"), numbers, {2}), ElementsAre(4, 5));
  EXPECT_THAT(evaluate<double>(make_node("Min"), numbers, {2}), ElementsAre(-2, -2));
  EXPECT_THAT(evaluate<double>(make_node("Sum"), numbers, {2}), ElementsAre(3, 7));
  EXPECT_THAT(evaluate<double>(make_node("Mean"), numbers, {2}), ElementsAre(1, 7.0 / 3));
  EXPECT_THAT(evaluate<double>(make_node("Mean"), {numbers[0]}, {2}), ElementsAre(1, 5));
}

TEST(Elementwise, WhatIsNoNumberStaysNone) {
  const Numbers nan({1}, Doubles{std::nan("")}), one({1}, Doubles{1});
  const auto of = [](const std::string& op, const std::vector<Numbers>& inputs) {
    return evaluate<double>(make_node(op), inputs, {1})[0];
  };
  for (const std::string op : {"Relu", "Sign", "Abs", "LeakyRelu", "Elu"})
    EXPECT_TRUE(std::isnan(of(op, {nan}))) << op;
  for (const std::string op : {"Max", "Min", "Add"}) {
    EXPECT_TRUE(std::isnan(of(op, {nan, one}))) << op;
    EXPECT_TRUE(std::isnan(of(op, {one, nan}))) << op;
  }
  EXPECT_TRUE(std::isnan(evaluate<float>(make_node("Relu"), {Numbers({1}, Floats{NAN})}, {1})[0]));
}

TEST(Elementwise, Comparisons) {
  const std::vector<Numbers> numbers{Numbers({3}, Ints{1, 2, 3}), Numbers({1}, Ints{2})};
  // The result is bool, whose bytes are read here.
  const auto bytes = [&](const std::string& op) {
    const auto results = Evaluation{make_node(op), numbers}.run({{bool8, {3}}});
    EXPECT_TRUE(results) << results.error().message;
    return numbers_in<std::uint8_t>((*results)[0]);
  };
  EXPECT_THAT(bytes("Equal"), ElementsAre(0, 1, 0));
  EXPECT_THAT(bytes("Less"), ElementsAre(1, 0, 0));
  EXPECT_THAT(bytes("LessOrEqual"), ElementsAre(1, 1, 0));
  EXPECT_THAT(bytes("Greater"), ElementsAre(0, 0, 1));
  EXPECT_THAT(bytes("GreaterOrEqual"), ElementsAre(0, 1, 1));
}

TEST(Elementwise, LogicTakesAnyByteButZeroForTrue) {
  Numbers a({4}, Bytes{0, 0, 7, 1}), b({4}, Bytes{0, 1, 0, 9});
  a.type.dtype = b.type.dtype = bool8;
  const auto of = [&](const std::string& op, const std::vector<Numbers>& inputs) {
    const auto results = Evaluation{make_node(op), inputs}.run({{bool8, {4}}});
    EXPECT_TRUE(results) << results.error().message;
    return numbers_in<std::uint8_t>((*results)[0]);
  };
  EXPECT_THAT(of("And", {a, b}), ElementsAre(0, 0, 0, 1));
  EXPECT_THAT(of("Or", {a, b}), ElementsAre(0, 1, 1, 1));
  EXPECT_THAT(of("Xor", {a, b}), ElementsAre(0, 1, 1, 0));
  EXPECT_THAT(of("Not", {a}), ElementsAre(1, 1, 0, 0));
  EXPECT_THAT(of("Equal", {a, b}), ElementsAre(1, 0, 0, 1));
  EXPECT_THAT(
      evaluate<std::int32_t>(make_node("Where"),
                             {a, Numbers({4}, Ints{1, 2, 3, 4}), Numbers({}, Ints{-1})}, {4}),
      ElementsAre(-1, -1, 3, 4));
}

TEST(Elementwise, QuestionsAboutReals) {
  const Numbers x({4}, Doubles{1, infinity, -infinity, std::nan("")});
  const auto of = [&](const graph::Node& node) {
    const auto results = Evaluation{node, {x}}.run({{bool8, {4}}});
    EXPECT_TRUE(results) << results.error().message;
    return numbers_in<std::uint8_t>((*results)[0]);
  };
  EXPECT_THAT(of(make_node("IsNaN")), ElementsAre(0, 0, 0, 1));
  EXPECT_THAT(of(make_node("IsInf")), ElementsAre(0, 1, 1, 0));
  EXPECT_THAT(of(make_node("IsInf", {{"detect_negative", std::int64_t{0}}})),
              ElementsAre(0, 1, 0, 0));
  EXPECT_THAT(of(make_node("IsInf", {{"detect_positive", std::int64_t{0}}})),
              ElementsAre(0, 0, 1, 0));
}

TEST(Elementwise, Casts) {
  const Numbers reals({4}, Floats{-1.7F, 0, 300.5F, 1e10F});
  const auto to = [&](DType dtype, const Numbers& from) {
    const auto results = Evaluation{make_node("Cast"), {from}}.run({{dtype, from.type.shape}});
    EXPECT_TRUE(results) << results.error().message;
    return (*results)[0];
  };
  EXPECT_THAT(numbers_in<std::int32_t>(to(int32, reals)),
              ElementsAre(-1, 0, 300, std::numeric_limits<std::int32_t>::max()));
  EXPECT_THAT(numbers_in<std::uint8_t>(to(bool8, reals)), ElementsAre(1, 0, 1, 1));
  EXPECT_THAT(numbers_in<std::uint16_t>(to(float16, reals)),
              ElementsAre(0xBECD, 0, 0x5CB2, 0x7C00));
  EXPECT_THAT(numbers_in<std::uint16_t>(to(bfloat16, Numbers({1}, Floats{1.0F}))),
              ElementsAre(0x3F80));
  Numbers half({2}, std::vector<std::uint16_t>{0x3C00, 0xC000});
  half.type.dtype = float16;
  EXPECT_THAT(numbers_in<double>(to(float64, half)), ElementsAre(1, -2));
  Numbers truth({2}, Bytes{0, 5});
  truth.type.dtype = bool8;
  EXPECT_THAT(numbers_in<float>(to(float32, truth)), ElementsAre(0, 1));
}

TEST(Elementwise, ShortFloatsAreComputedWithAsFloats) {
  Numbers x({2}, std::vector<std::uint16_t>{0x3C00, 0xC200});  // 1, -3
  x.type.dtype = float16;
  const auto of = [&](const std::string& op, const std::vector<Numbers>& inputs) {
    const auto results = Evaluation{make_node(op), inputs}.run({{float16, {2}}});
    EXPECT_TRUE(results) << results.error().message;
    return numbers_in<std::uint16_t>((*results)[0]);
  };
  EXPECT_THAT(of("Add", {x, x}), ElementsAre(0x4000, 0xC600));
  EXPECT_THAT(of("Abs", {x}), ElementsAre(0x3C00, 0x4200));
  const auto results = Evaluation{make_node("IsNaN"), {x}}.run({{bool8, {2}}});
  ASSERT_TRUE(results) << results.error().message;
  EXPECT_THAT(numbers_in<std::uint8_t>((*results)[0]), ElementsAre(0, 0));
}

TEST(Elementwise, RefusesWhatIsNotDefined) {
  EXPECT_THAT(error_of(make_node("Sin"), {Numbers({1}, Ints{1})}, {int32, {1}}),
              HasSubstr("Sin of int32"));
  EXPECT_THAT(error_of(make_node("BitwiseAnd"), {Numbers({1}, Floats{1}), Numbers({1}, Floats{1})},
                       {float32, {1}}),
              HasSubstr("BitwiseAnd of float32"));
  EXPECT_NE(error_of(make_node("Less"), {Numbers({2}, Ints{1, 2}), Numbers({3}, Ints{1, 2, 3})},
                     {bool8, {2}}),
            "");
  EXPECT_NE(
      error_of(make_node("Less"), {Numbers({1}, Ints{1}), Numbers({1}, Longs{1})}, {bool8, {1}}),
      "");
}

}  // namespace
}  // namespace opsplit::operators::testing
