#include "daemon/nearest.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace opsplit::daemon {
namespace {

const std::vector<std::string> keys{"name", "model", "split", "depth", "slots_per_client"};

TEST(DidYouMeanTest, NamesTheNearest) {
  EXPECT_EQ(did_you_mean("dept", keys), "; did you mean 'depth'?");
  EXPECT_EQ(did_you_mean("nmae", keys), "; did you mean 'name'?");
  EXPECT_EQ(did_you_mean("modle", {}), "");
  EXPECT_EQ(did_you_mean("slots-per-client", keys), "; did you mean 'slots_per_client'?");
}

TEST(DidYouMeanTest, SaysNothingWhereNothingIsNear) {
  EXPECT_EQ(did_you_mean("", keys), "");
  EXPECT_EQ(did_you_mean("replicas", keys), "");
  EXPECT_EQ(did_you_mean(std::string(100'000, 'n'), keys), "");
}

}  // namespace
}  // namespace opsplit::daemon
