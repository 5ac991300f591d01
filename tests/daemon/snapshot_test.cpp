#include "daemon/snapshot.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace opsplit::daemon {
namespace {

using nlohmann::json;
using testing::HasSubstr;

TEST(SnapshotTest, HoldsWhatPsReplies) {
  const json reply = {{"time_ns", 5},
                      {"broker", 77},
                      {"deployments",
                       {{{"name", "digits"},
                         {"phase", "ready"},
                         {"depth", 8},
                         {"in_use", 2},
                         {"clients", 3},
                         {"requests_done", 40},
                         {"request_ns", 41},
                         {"request_histogram", {3, 12}},
                         {"instances",
                          {{{"operator", "conv"},
                            {"instance", 1},
                            {"state", "ready"},
                            {"cores", "0-1"},
                            {"restarts", 4},
                            {"in_flight", 1},
                            {"tasks_done", 50},
                            {"bytes_copied", 6},
                            {"cpu_ns", 7},
                            {"memory_bytes", 8},
                            {"busy_ns", 9},
                            {"wait_ns", 10},
                            {"run_p50_ns", 0},
                            {"run_histogram", {0, 1, 125, 2}},
                            {"wait_histogram", json::array()}}}}}}}};
  const auto snapshot = snapshot_of(reply);
  ASSERT_TRUE(snapshot) << snapshot.error().message;
  EXPECT_EQ(snapshot->time_ns, 5u);
  EXPECT_TRUE(snapshot->broker);
  ASSERT_EQ(snapshot->deployments.size(), 1u);
  const DeploymentSnapshot& digits = snapshot->deployments[0];
  EXPECT_EQ(digits.name, "digits");
  EXPECT_EQ(digits.phase, "ready");
  EXPECT_EQ(digits.depth, 8u);
  EXPECT_EQ(digits.in_use, 2u);
  EXPECT_EQ(digits.clients, 3u);
  EXPECT_EQ(digits.requests_done, 40u);
  EXPECT_EQ(digits.request_ns, 41u);
  EXPECT_EQ(digits.requests.counts[3], 12u);
  ASSERT_EQ(digits.instances.size(), 1u);
  const InstanceSnapshot& conv = digits.instances[0];
  EXPECT_EQ(conv.op, "conv");
  EXPECT_EQ(conv.instance, 1u);
  EXPECT_EQ(conv.state, "ready");
  EXPECT_EQ(conv.cores, "0-1");
  EXPECT_EQ(conv.restarts, 4u);
  EXPECT_EQ(conv.in_flight, 1u);
  EXPECT_EQ(conv.tasks_done, 50u);
  EXPECT_EQ(conv.bytes_copied, 6u);
  EXPECT_EQ(conv.cpu_ns, 7u);
  EXPECT_EQ(conv.memory_bytes, 8u);
  EXPECT_EQ(conv.busy_ns, 9u);
  EXPECT_EQ(conv.wait_ns, 10u);
  EXPECT_EQ(conv.run.counts.front(), 1u);
  EXPECT_EQ(conv.run.counts.back(), 2u);
  EXPECT_EQ(conv.wait.count(), 0u);
}

TEST(SnapshotTest, ADeploymentThatIsBeingPlannedHasLittleToSay) {
  const auto snapshot = snapshot_of({{"deployments", {{{"name", "a"}, {"phase", "planning"}}}}});
  ASSERT_TRUE(snapshot);
  EXPECT_FALSE(snapshot->broker);
  EXPECT_EQ(snapshot->deployments.at(0).phase, "planning");
  EXPECT_TRUE(snapshot->deployments[0].instances.empty());
}

TEST(SnapshotTest, WhatIsNotAsItMustBeIsAnError) {
  for (const json& reply : {json{{"time_ns", "late"}}, json{{"deployments", {1}}}, json::array(),
                            json{{"deployments", {{{"request_histogram", {126, 1}}}}}},
                            json{{"deployments", {{{"request_histogram", {"a", 1}}}}}}}) {
    const auto refused = snapshot_of(reply);
    ASSERT_FALSE(refused) << reply.dump();
    EXPECT_THAT(refused.error().message, HasSubstr("not understood"));
  }
}

}  // namespace
}  // namespace opsplit::daemon
