#include <gmock/gmock.h>

#include <cmath>

#include "tests/operators/evaluate.hpp"

namespace opsplit::operators::testing {
namespace {

using ::testing::ElementsAre;
using Floats = std::vector<float>;
using Bytes = std::vector<std::uint8_t>;
using SignedBytes = std::vector<std::int8_t>;

TEST(Quantization, RoundsHalfToEvenAndSaturates) {
  const std::vector<Numbers> inputs{Numbers({6}, Floats{0, 1, 3, 1000, -1000, NAN}),
                                    Numbers({}, Floats{2}), Numbers({}, Bytes{128})};
  EXPECT_THAT(evaluate<std::uint8_t>(make_node("QuantizeLinear"), inputs, {6}),
              ElementsAre(128, 128, 130, 255, 0, 0));
  EXPECT_THAT(evaluate<std::uint8_t>(make_node("QuantizeLinear"), {inputs[0], inputs[1]}, {6}),
              ElementsAre(0, 0, 2, 255, 0, 0));
}

TEST(Quantization, AScaleForEachSliceOfAnAxis) {
  const Numbers x({2, 2}, Floats{1, 2, 3, 4}), scales({2}, Floats{1, 0.5F}),
      zeros({2}, SignedBytes{0, 10});
  EXPECT_THAT(evaluate<std::int8_t>(make_node("QuantizeLinear", {{"axis", std::int64_t{0}}}),
                                    {x, scales, zeros}, {2, 2}),
              ElementsAre(1, 2, 16, 18));
  EXPECT_THAT(evaluate<std::int8_t>(make_node("QuantizeLinear"), {x, scales, zeros}, {2, 2}),
              ElementsAre(1, 14, 3, 18));
  EXPECT_THAT(evaluate<float>(make_node("DequantizeLinear"),
                              {Numbers({2, 2}, SignedBytes{1, 14, 3, 18}), scales, zeros}, {2, 2}),
              ElementsAre(1, 2, 3, 4));
}

TEST(Quantization, AScaleForEachBlock) {
  const auto node =
      make_node("DequantizeLinear", {{"axis", std::int64_t{1}}, {"block_size", std::int64_t{2}}});
  EXPECT_THAT(
      evaluate<float>(node, {Numbers({1, 3}, Bytes{1, 2, 3}), Numbers({1, 2}, Floats{10, 100})},
                      {1, 3}),
      ElementsAre(10, 20, 300));
  EXPECT_NE(
      error_of(node, {Numbers({1, 5}, Bytes{1, 2, 3, 4, 5}), Numbers({1, 2}, Floats{10, 100})},
               {float32, {1, 5}}),
      "");
  EXPECT_NE(
      error_of(make_node("DequantizeLinear"),
               {Numbers({1, 3}, Bytes{1, 2, 3}), Numbers({2}, Floats{1, 2})}, {float32, {1, 3}}),
      "");
}

TEST(Quantization, ByTheRangeThatTheElementsHave) {
  const Evaluation evaluation{make_node("DynamicQuantizeLinear"),
                              {Numbers({3}, Floats{-1, 0, 4.1F})}};
  const auto results = evaluation.run({{uint8, {3}}, {float32, {}}, {uint8, {}}});
  ASSERT_TRUE(results) << results.error().message;
  EXPECT_THAT(numbers_in<std::uint8_t>((*results)[0]), ElementsAre(0, 50, 255));
  EXPECT_FLOAT_EQ(numbers_in<float>((*results)[1])[0], 0.02F);
  EXPECT_EQ(numbers_in<std::uint8_t>((*results)[2])[0], 50);
  const auto alone = evaluation.run({{uint8, {3}}, {float32, {}}, {uint8, {}}}, {1, 2});
  ASSERT_TRUE(alone) << alone.error().message;
  EXPECT_EQ((*alone)[0], (*results)[0]);
}

}  // namespace
}  // namespace opsplit::operators::testing
