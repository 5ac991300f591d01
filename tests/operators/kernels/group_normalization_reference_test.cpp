#include <gmock/gmock.h>

#include "tests/operators/evaluate.hpp"

namespace opsplit::operators::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatNear;
using ::testing::Pointwise;
using Floats = std::vector<float>;
using Doubles = std::vector<double>;

// Groups of {a - d, a + d}: mean a, deviation d.
TEST(GroupNormalization, LayersScaledElementByElement) {
  const Numbers x({2, 2}, Doubles{1, 3, 10, 30}), scale({2}, Doubles{2, 3}),
      bias({1}, Doubles{100});
  const Evaluation evaluation{make_node("LayerNormalization", {{"epsilon", 0.0F}}),
                              {x, scale, bias}};
  const auto results = evaluation.run({{float64, {2, 2}}, {float32, {2, 1}}, {float32, {2, 1}}});
  ASSERT_TRUE(results) << results.error().message;
  EXPECT_THAT(numbers_in<double>((*results)[0]), ElementsAre(98, 103, 98, 103));
  EXPECT_THAT(numbers_in<float>((*results)[1]), ElementsAre(2, 20));
  EXPECT_THAT(numbers_in<float>((*results)[2]), ElementsAre(1, 0.1F));
}

TEST(GroupNormalization, InstancesByChannel) {
  const Numbers x({1, 2, 2}, Floats{1, 3, 10, 30}), scale({2}, Floats{1, 2}),
      bias({2}, Floats{0, 5});
  EXPECT_THAT(evaluate<float>(make_node("InstanceNormalization", {{"epsilon", 0.0F}}),
                              {x, scale, bias}, {1, 2, 2}),
              Pointwise(FloatNear(1e-5F), Floats{-1, 1, 3, 7}));
}

TEST(GroupNormalization, GroupsOfChannels) {
  // Two groups of two channels of one element; scales for each channel, or for each group.
  const Numbers x({1, 4, 1}, Floats{1, 3, 10, 30});
  const auto node =
      make_node("GroupNormalization", {{"num_groups", std::int64_t{2}}, {"epsilon", 0.0F}});
  EXPECT_THAT(
      evaluate<float>(node, {x, Numbers({4}, Floats{1, 2, 3, 4}), Numbers({4}, Floats{0, 0, 0, 1})},
                      {1, 4, 1}),
      Pointwise(FloatNear(1e-5F), Floats{-1, 2, -3, 5}));
  EXPECT_THAT(
      evaluate<float>(node, {x, Numbers({2}, Floats{1, 2}), Numbers({2}, Floats{0, 1})}, {1, 4, 1}),
      Pointwise(FloatNear(1e-5F), Floats{-1, 1, -1, 3}));
  EXPECT_NE(error_of(node, {x, Numbers({3}, Floats{1, 2, 3}), Numbers({3}, Floats{1, 2, 3})},
                     {float32, {1, 4, 1}}),
            "");
}

}  // namespace
}  // namespace opsplit::operators::testing
