#include <gmock/gmock.h>

#include <cmath>

#include "tests/operators/evaluate.hpp"

namespace opsplit::operators::testing {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pointwise;
using Doubles = std::vector<double>;
using Longs = std::vector<std::int64_t>;

graph::Node loss(const std::string& op, const std::string& reduction, Attributes more = {}) {
  more.insert_or_assign("reduction", reduction);
  return make_node(op, std::move(more));
}

// Two images of two pixels, three classes.
const Numbers scores({2, 3, 2}, Doubles{-1, -2, -3, -4, -5, -6, -7, -8, -9, -10, -11, -12});
const Numbers labels({2, 2}, Longs{0, 2, 1, 1});
const Numbers weights({3}, Doubles{1, 2, 4});

TEST(Loss, OfTheClassesThatTheLabelsName) {
  const std::string op = "NegativeLogLikelihoodLoss";
  EXPECT_THAT(evaluate<double>(loss(op, "none"), {scores, labels}, {2, 2}),
              ElementsAre(1, 6, 9, 10));
  EXPECT_THAT(evaluate<double>(loss(op, "sum"), {scores, labels}, {}), ElementsAre(26));
  EXPECT_THAT(evaluate<double>(loss(op, "mean"), {scores, labels}, {}), ElementsAre(6.5));
  EXPECT_THAT(evaluate<double>(loss(op, "none"), {scores, labels, weights}, {2, 2}),
              ElementsAre(1, 24, 18, 20));
  EXPECT_THAT(evaluate<double>(loss(op, "mean"), {scores, labels, weights}, {}),
              ElementsAre(63.0 / 9));
}

TEST(Loss, IgnoredLabelsNeedNotBeClasses) {
  const Numbers some({2, 2}, Longs{0, -7, 1, -7});
  const auto node = loss("NegativeLogLikelihoodLoss", "mean", {{"ignore_index", std::int64_t{-7}}});
  EXPECT_THAT(evaluate<double>(node, {scores, some}, {}), ElementsAre(5));
  for (const std::int64_t bad : {std::int64_t{3}, std::int64_t{-1}, INT64_MAX})
    EXPECT_THAT(error_of(node, {scores, Numbers({2, 2}, Longs{0, 0, 0, bad})}, {float64, {}}),
                HasSubstr("there are 3"));
}

TEST(Loss, OfASoftmax) {
  const Numbers x({1, 2}, Doubles{1000, 1000 + std::log(3.0)});
  const Evaluation evaluation{loss("SoftmaxCrossEntropyLoss", "sum"), {x, Numbers({1}, Longs{0})}};
  const auto results = evaluation.run({{float64, {}}, {float64, {1, 2}}});
  ASSERT_TRUE(results) << results.error().message;
  EXPECT_NEAR(numbers_in<double>((*results)[0])[0], std::log(4.0), 1e-12);
  EXPECT_THAT(numbers_in<double>((*results)[1]),
              Pointwise(DoubleNear(1e-12), Doubles{std::log(0.25), std::log(0.75)}));
}

}  // namespace
}  // namespace opsplit::operators::testing
