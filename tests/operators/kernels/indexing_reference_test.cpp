// Indices come with a request: those that are out of range must be refused, not followed.
#include <gmock/gmock.h>

#include "tests/operators/evaluate.hpp"

namespace opsplit::operators::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Floats = std::vector<float>;
using Ints = std::vector<std::int32_t>;
using Longs = std::vector<std::int64_t>;

graph::Node on_axis(const std::string& op, std::int64_t axis) {
  return make_node(op, {{"axis", axis}});
}

TEST(Indexing, GatherElements) {
  const Numbers data({2, 2}, Ints{1, 2, 3, 4});
  EXPECT_THAT(evaluate<std::int32_t>(on_axis("GatherElements", 1),
                                     {data, Numbers({2, 2}, Longs{0, 0, 1, -2})}, {2, 2}),
              ElementsAre(1, 1, 4, 3));
  EXPECT_THAT(evaluate<std::int32_t>(on_axis("GatherElements", 0),
                                     {data, Numbers({1, 2}, Ints{1, 0})}, {1, 2}),
              ElementsAre(3, 2));
}

TEST(Indexing, GatherNd) {
  const Numbers data({2, 2, 2}, Ints{0, 1, 2, 3, 4, 5, 6, 7});
  EXPECT_THAT(evaluate<std::int32_t>(make_node("GatherND"),
                                     {data, Numbers({2, 1, 2}, Longs{0, 1, -1, 0})}, {2, 1, 2}),
              ElementsAre(2, 3, 4, 5));
  EXPECT_THAT(evaluate<std::int32_t>(make_node("GatherND", {{"batch_dims", std::int64_t{1}}}),
                                     {data, Numbers({2, 1}, Longs{1, 0})}, {2, 2}),
              ElementsAre(2, 3, 4, 5));
}

TEST(Indexing, ScatterElements) {
  const Numbers data({5}, Floats{1, 2, 3, 4, 5});
  const Numbers where({3}, Longs{1, -2, 1}), what({3}, Floats{10, 20, 30});
  const auto with = [&](const std::string& reduction) {
    return evaluate<float>(make_node("ScatterElements", {{"reduction", reduction}}),
                           {data, where, what}, {5});
  };
  EXPECT_THAT(with("none"), ElementsAre(1, 30, 3, 20, 5));
  EXPECT_THAT(with("add"), ElementsAre(1, 42, 3, 24, 5));
  EXPECT_THAT(with("mul"), ElementsAre(1, 600, 3, 80, 5));
  EXPECT_THAT(with("max"), ElementsAre(1, 30, 3, 20, 5));
  EXPECT_THAT(with("min"), ElementsAre(1, 2, 3, 4, 5));
}

TEST(Indexing, ScatterNd) {
  EXPECT_THAT(
      evaluate<std::int32_t>(make_node("ScatterND"),
                             {Numbers({3, 2}, Ints{1, 2, 3, 4, 5, 6}), Numbers({2, 1}, Longs{2, 0}),
                              Numbers({2, 2}, Ints{7, 8, 9, 10})},
                             {3, 2}),
      ElementsAre(9, 10, 3, 4, 7, 8));
}

TEST(Indexing, OneHot) {
  const std::vector<Numbers> inputs{Numbers({3}, Longs{0, -1, 7}), Numbers({}, Longs{3}),
                                    Numbers({2}, Ints{5, 9})};
  EXPECT_THAT(evaluate<std::int32_t>(make_node("OneHot"), inputs, {3, 3}),
              ElementsAre(9, 5, 5, 5, 5, 9, 5, 5, 5));
  EXPECT_THAT(evaluate<std::int32_t>(on_axis("OneHot", 0), inputs, {3, 3}),
              ElementsAre(9, 5, 5, 5, 5, 5, 5, 9, 5));
}

TEST(Indexing, IndicesOutOfRangeAreRefused) {
  const Numbers data({2, 2}, Ints{1, 2, 3, 4});
  for (const std::int64_t bad : {std::int64_t{2}, std::int64_t{-3}, INT64_MAX, INT64_MIN}) {
    SCOPED_TRACE(bad);
    const Numbers row({1, 2}, Longs{0, bad}), list({1, 1}, Longs{bad});
    EXPECT_THAT(error_of(make_node("GatherElements"), {data, row}, {int32, {1, 2}}),
                HasSubstr("along an axis of 2"));
    EXPECT_THAT(error_of(make_node("GatherND"), {data, list}, {int32, {1, 2}}),
                HasSubstr("along an axis of 2"));
    EXPECT_THAT(error_of(make_node("ScatterElements"), {data, row, Numbers({1, 2}, Ints{1, 2})},
                         {int32, {2, 2}}),
                HasSubstr("along an axis of 2"));
    EXPECT_THAT(error_of(make_node("ScatterND"), {data, list, Numbers({1, 2}, Ints{1, 2})},
                         {int32, {2, 2}}),
                HasSubstr("along an axis of 2"));
  }
}

TEST(Indexing, ShapesThatDoNotFitAreRefused) {
  const Numbers data({2, 2}, Ints{1, 2, 3, 4});
  const Numbers zeros({1, 3}, Longs{0, 0, 0});
  EXPECT_NE(error_of(make_node("GatherElements"), {data, zeros}, {int32, {1, 3}}), "");
  EXPECT_NE(error_of(make_node("GatherND"), {data, zeros}, {int32, {1}}), "");
  EXPECT_NE(error_of(make_node("GatherND"), {data, Numbers({1, 1}, Longs{0})}, {int32, {1, 3}}),
            "");
  EXPECT_NE(error_of(make_node("ScatterND"),
                     {data, Numbers({1, 1}, Longs{0}), Numbers({1}, Ints{1})}, {int32, {2, 2}}),
            "");
}

}  // namespace
}  // namespace opsplit::operators::testing
