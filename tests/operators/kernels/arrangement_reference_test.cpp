#include <gmock/gmock.h>

#include <numeric>

#include "tests/operators/evaluate.hpp"

namespace opsplit::operators::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Floats = std::vector<float>;
using Ints = std::vector<std::int32_t>;
using Longs = std::vector<std::int64_t>;

Ints counted(std::int32_t count) {
  Ints values(static_cast<std::size_t>(count));
  std::iota(values.begin(), values.end(), 1);
  return values;
}

TEST(Arrangement, Expand) {
  const Numbers column({2, 1}, Ints{1, 2});
  EXPECT_THAT(evaluate<std::int32_t>(make_node("Expand"), {column, Numbers({1}, Longs{3})}, {2, 3}),
              ElementsAre(1, 1, 1, 2, 2, 2));
  EXPECT_THAT(
      evaluate<std::int32_t>(make_node("Expand"), {column, Numbers({2}, Longs{2, 1})}, {2, 1}),
      ElementsAre(1, 2));
}

TEST(Arrangement, Tile) {
  EXPECT_THAT(
      evaluate<std::int32_t>(make_node("Tile"),
                             {Numbers({2, 1}, Ints{1, 2}), Numbers({2}, Longs{2, 3})}, {4, 3}),
      ElementsAre(1, 1, 1, 2, 2, 2, 1, 1, 1, 2, 2, 2));
  EXPECT_THAT(evaluate<std::int32_t>(make_node("Tile"),
                                     {Numbers({2}, Ints{1, 2}), Numbers({1}, Longs{0})}, {0}),
              IsEmpty());
  EXPECT_NE(
      error_of(make_node("Tile"), {Numbers({2}, Ints{1, 2}), Numbers({1}, Longs{2})}, {int32, {3}}),
      "");
}

TEST(Arrangement, TrianglesOnAnyDiagonal) {
  const Numbers x({2, 2, 3}, counted(12));
  const auto of = [&](std::int64_t upper, std::int64_t k) {
    return evaluate<std::int32_t>(make_node("Trilu", {{"upper", upper}}),
                                  {x, Numbers({}, Longs{k})}, {2, 2, 3});
  };
  EXPECT_THAT(of(1, 0), ElementsAre(1, 2, 3, 0, 5, 6, 7, 8, 9, 0, 11, 12));
  EXPECT_THAT(of(0, 0), ElementsAre(1, 0, 0, 4, 5, 0, 7, 0, 0, 10, 11, 0));
  EXPECT_THAT(of(1, 1), ElementsAre(0, 2, 3, 0, 0, 6, 0, 8, 9, 0, 0, 12));
  EXPECT_EQ(of(1, INT64_MIN), counted(12));
  EXPECT_EQ(of(1, INT64_MAX), Ints(12, 0));
  EXPECT_EQ(of(0, INT64_MIN), Ints(12, 0));
}

TEST(Arrangement, BlocksOfImagesAreChannelsAndBack) {
  const Numbers deep({1, 4, 1, 2}, counted(8));
  const auto node = [](const std::string& op, const std::string& mode) {
    return make_node(op, {{"blocksize", std::int64_t{2}}, {"mode", mode}});
  };
  const auto wide = evaluate<std::int32_t>(node("DepthToSpace", "DCR"), {deep}, {1, 1, 2, 4});
  EXPECT_THAT(wide, ElementsAre(1, 3, 2, 4, 5, 7, 6, 8));
  EXPECT_EQ(
      evaluate<std::int32_t>(node("SpaceToDepth", ""), {Numbers({1, 1, 2, 4}, wide)}, {1, 4, 1, 2}),
      counted(8));
  const Numbers channels({1, 8, 1, 1}, counted(8));
  EXPECT_THAT(evaluate<std::int32_t>(node("DepthToSpace", "DCR"), {channels}, {1, 2, 2, 2}),
              ElementsAre(1, 3, 5, 7, 2, 4, 6, 8));
  EXPECT_THAT(evaluate<std::int32_t>(node("DepthToSpace", "CRD"), {channels}, {1, 2, 2, 2}),
              ElementsAre(1, 2, 3, 4, 5, 6, 7, 8));
}

TEST(Arrangement, ReverseSequence) {
  const Numbers x({3, 2}, counted(6));
  EXPECT_THAT(
      evaluate<std::int32_t>(make_node("ReverseSequence"), {x, Numbers({2}, Longs{3, 2})}, {3, 2}),
      ElementsAre(5, 4, 3, 2, 1, 6));
  EXPECT_THAT(evaluate<std::int32_t>(make_node("ReverseSequence", {{"batch_axis", std::int64_t{0}},
                                                                   {"time_axis", std::int64_t{1}}}),
                                     {x, Numbers({3}, Longs{0, 1, 2})}, {3, 2}),
              ElementsAre(1, 2, 3, 4, 6, 5));
  EXPECT_NE(error_of(make_node("ReverseSequence"), {x, Numbers({2}, Longs{4, 1})}, {int32, {3, 2}}),
            "");
  EXPECT_NE(
      error_of(make_node("ReverseSequence"), {x, Numbers({2}, Longs{1, -1})}, {int32, {3, 2}}), "");
}

TEST(Arrangement, EyeLikeAndRange) {
  EXPECT_THAT(evaluate<float>(make_node("EyeLike", {{"k", std::int64_t{1}}}),
                              {Numbers({2, 3}, counted(6))}, {2, 3}),
              ElementsAre(0, 1, 0, 0, 0, 1));
  EXPECT_THAT(evaluate<float>(
                  make_node("Range"),
                  {Numbers({}, Floats{5}), Numbers({}, Floats{0}), Numbers({}, Floats{-2})}, {3}),
              ElementsAre(5, 3, 1));
}

TEST(Arrangement, PadRepeatsInEveryMode) {
  const auto padded = [](const std::string& mode, const Longs& pads, std::int64_t size) {
    return evaluate<std::int32_t>(make_node("Pad", {{"mode", mode}}),
                                  {Numbers({3}, Ints{1, 2, 3}), Numbers({2}, pads)}, {size});
  };
  EXPECT_THAT(padded("constant", {1, 1}, 5), ElementsAre(0, 1, 2, 3, 0));
  EXPECT_THAT(padded("edge", {2, 1}, 6), ElementsAre(1, 1, 1, 2, 3, 3));
  EXPECT_THAT(padded("reflect", {2, 2}, 7), ElementsAre(3, 2, 1, 2, 3, 2, 1));
  EXPECT_THAT(padded("reflect", {5, 0}, 8), ElementsAre(2, 1, 2, 3, 2, 1, 2, 3));
  EXPECT_THAT(padded("wrap", {2, 4}, 9), ElementsAre(2, 3, 1, 2, 3, 1, 2, 3, 1));
  EXPECT_THAT(padded("edge", {-1, 1}, 3), ElementsAre(2, 3, 3));
}

TEST(Arrangement, PadOfSomeAxes) {
  const std::vector<Numbers> inputs{Numbers({1, 2}, Ints{1, 2}), Numbers({2}, Longs{1, 0}),
                                    Numbers({}, Ints{7}), Numbers({1}, Longs{-1})};
  EXPECT_THAT(evaluate<std::int32_t>(make_node("Pad"), inputs, {1, 3}), ElementsAre(7, 1, 2));
}

}  // namespace
}  // namespace opsplit::operators::testing
