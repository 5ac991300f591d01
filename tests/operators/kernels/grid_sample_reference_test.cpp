#include <gmock/gmock.h>

#include <cmath>

#include "tests/operators/evaluate.hpp"

namespace opsplit::operators::testing {
namespace {

using ::testing::ElementsAre;
using Floats = std::vector<float>;

// A line of four elements, read at `places` from -1 (its beginning) to 1.
Floats read(const std::string& mode, const std::string& padding, std::int64_t align_corners,
            const Floats& places) {
  const auto count = static_cast<std::int64_t>(places.size());
  const auto node = make_node(
      "GridSample", {{"mode", mode}, {"padding_mode", padding}, {"align_corners", align_corners}});
  return evaluate<float>(
      node, {Numbers({1, 1, 4}, Floats{0, 10, 20, 30}), Numbers({1, count, 1}, places)},
      {1, 1, count});
}

TEST(GridSample, BetweenElements) {
  EXPECT_THAT(read("linear", "zeros", 1, {-1, 0, 1}), ElementsAre(0, 15, 30));
  EXPECT_THAT(read("linear", "zeros", 0, {-0.75F, -0.5F, 0.75F}), ElementsAre(0, 5, 30));
  EXPECT_THAT(read("nearest", "zeros", 0, {-0.7F, -0.3F, 0.8F}), ElementsAre(0, 10, 30));
  EXPECT_THAT(read("cubic", "zeros", 1, {-1, 0}),
              ElementsAre(0, 15));  // on an element, and symmetric
}

TEST(GridSample, BeyondTheBorder) {
  EXPECT_THAT(read("linear", "zeros", 0, {1, 2}), ElementsAre(15, 0));  // half of it is outside
  EXPECT_THAT(read("linear", "border", 0, {1, 2, -9}), ElementsAre(30, 30, 0));
  EXPECT_THAT(read("nearest", "reflection", 1, {5.0F / 3, -5.0F / 3}), ElementsAre(20, 10));
  EXPECT_THAT(read("nearest", "reflection", 0, {1.25F, -1.75F}), ElementsAre(30, 10));
}

TEST(GridSample, PlacesThatAreNoNumbersReadNothingOutside) {
  for (const char* padding : {"zeros", "border", "reflection"})
    for (const char* mode : {"nearest", "linear", "cubic"})
      for (const float place : {NAN, INFINITY, -INFINITY, 1e30F})
        EXPECT_EQ(read(mode, padding, 0, {place}).size(), 1U);
}

TEST(GridSample, TheFirstNumberIsThatOfTheLastAxis) {
  const Numbers image({1, 2, 2, 2}, Floats{1, 2, 3, 4, 10, 20, 30, 40});
  const Numbers corner({1, 1, 1, 2}, Floats{1, -1});  // right, above
  EXPECT_THAT(evaluate<float>(make_node("GridSample", {{"align_corners", std::int64_t{1}}}),
                              {image, corner}, {1, 2, 1, 1}),
              ElementsAre(2, 20));
}

}  // namespace
}  // namespace opsplit::operators::testing
