#include <gmock/gmock.h>

#include <cmath>

#include "tests/operators/evaluate.hpp"

namespace opsplit::operators::testing {
namespace {

using ::testing::ElementsAre;
using Floats = std::vector<float>;
using Ints = std::vector<std::int32_t>;
using Longs = std::vector<std::int64_t>;

TEST(Ranking, TheFirstOrLastOfEquals) {
  const Numbers x({2, 4}, Ints{1, 3, 3, 2, 0, -5, 7, -5});
  const auto of = [&](const std::string& op, std::int64_t last) {
    return evaluate<std::int64_t>(
        make_node(op, {{"axis", std::int64_t{-1}}, {"select_last_index", last}}), {x}, {2, 1});
  };
  EXPECT_THAT(of("ArgMax", 0), ElementsAre(1, 2));
  EXPECT_THAT(of("ArgMax", 1), ElementsAre(2, 2));
  EXPECT_THAT(of("ArgMin", 0), ElementsAre(0, 1));
  EXPECT_THAT(of("ArgMin", 1), ElementsAre(0, 3));
  EXPECT_THAT(
      evaluate<std::int64_t>(make_node("ArgMax", {{"keepdims", std::int64_t{0}}}), {x}, {4}),
      ElementsAre(0, 0, 1, 0));
  EXPECT_NE(error_of(make_node("ArgMax"), {Numbers({0, 2}, Ints{})}, {int64, {1, 2}}), "");
}

TEST(Ranking, HardmaxOverOneAxisOrAllBehindIt) {
  const Numbers x({2, 2, 2}, Floats{1, 2, 3, 4, 8, 7, 6, 5});
  EXPECT_THAT(evaluate<float>(make_node("Hardmax"), {x}, {2, 2, 2}),
              ElementsAre(0, 1, 0, 1, 1, 0, 1, 0));
  EXPECT_THAT(evaluate<float>(make_node("Hardmax", {{"axis", std::int64_t{0}}}), {x}, {2, 2, 2}),
              ElementsAre(0, 0, 0, 0, 1, 1, 1, 1));
  EXPECT_THAT(evaluate<float>(make_node("Hardmax"), {x}, {2, 2, 2}, 11),
              ElementsAre(0, 0, 0, 1, 1, 0, 0, 0));
}

TEST(Ranking, TopKInOrder) {
  const Numbers x({3, 2}, Ints{1, 9, 3, 8, 3, 9});
  const auto of = [&](std::int64_t axis, std::int64_t largest, const Shape& shape, std::int64_t k) {
    const Evaluation evaluation{make_node("TopK", {{"axis", axis}, {"largest", largest}}),
                                {x, Numbers({1}, Longs{k})}};
    const auto results = evaluation.run({{int32, shape}, {int64, shape}});
    EXPECT_TRUE(results) << results.error().message;
    return std::pair(numbers_in<std::int32_t>((*results)[0]),
                     numbers_in<std::int64_t>((*results)[1]));
  };
  EXPECT_EQ(of(0, 1, {2, 2}, 2), std::pair(Ints({3, 9, 3, 9}), Longs({1, 0, 2, 2})));
  EXPECT_EQ(of(0, 0, {2, 2}, 2), std::pair(Ints({1, 8, 3, 9}), Longs({0, 1, 1, 0})));
  EXPECT_EQ(of(-1, 1, {3, 1}, 1), std::pair(Ints({9, 8, 9}), Longs({1, 1, 1})));
}

TEST(Ranking, TopKWhoseIndicesNobodyReads) {
  const Evaluation evaluation{make_node("TopK"),
                              {Numbers({3}, Ints{1, 9, 3}), Numbers({1}, Longs{2})}};
  const auto results = evaluation.run({{int32, {2}}, {int64, {2}}}, {1});
  ASSERT_TRUE(results) << results.error().message;
  EXPECT_THAT(numbers_in<std::int32_t>((*results)[0]), ElementsAre(9, 3));
}

TEST(Ranking, WhatIsNoNumberIsTheLargest) {
  const Numbers x({4}, Floats{1, NAN, 3, NAN});
  const auto results = Evaluation{make_node("TopK"), {x, Numbers({1}, Longs{4})}}.run(
      {{float32, {4}}, {int64, {4}}});
  ASSERT_TRUE(results) << results.error().message;
  EXPECT_THAT(numbers_in<std::int64_t>((*results)[1]), ElementsAre(1, 3, 2, 0));
}

}  // namespace
}  // namespace opsplit::operators::testing
