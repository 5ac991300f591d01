#include "daemon/metrics.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace opsplit::daemon {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr std::uint64_t second = 1'000'000'000;

Snapshot snapshot() {
  InstanceSnapshot conv;
  conv.op = "conv";
  conv.instance = 1;
  conv.state = "ready";
  conv.restarts = 2;
  conv.tasks_done = 30;
  conv.bytes_copied = 4;
  conv.cpu_ns = 3 * second / 2;
  conv.memory_bytes = 6;
  conv.busy_ns = 5 * second;
  conv.wait_ns = 7 * second;
  conv.run.counts[ipc::bucket_of(500)] = 10;          // below the first bound
  conv.run.counts[ipc::bucket_of(1'000'000)] = 15;    // just below 2^20 ns
  conv.run.counts[ipc::bucket_of(100 * second)] = 5;  // above the last
  conv.wait.counts[ipc::bucket_of(2048)] = 1;         // where a bucket begins
  InstanceSnapshot relu;
  relu.op = "relu";
  relu.state = "backing off";
  DeploymentSnapshot digits;
  digits.name = "digits";
  digits.phase = "ready";
  digits.depth = 8;
  digits.in_use = 3;
  digits.clients = 2;
  digits.requests_done = 99;
  digits.request_ns = 11 * second;
  digits.requests.counts[ipc::bucket_of(second)] = 9;
  digits.instances = {conv, relu};
  return {1, true, {digits}};
}

TEST(MetricsTest, SayEverythingInTheirUnits) {
  const Snapshot what = snapshot();
  const std::string text = metrics_text(what);
  const std::string conv = R"({deployment="digits",operator="conv",replica="1"})";
  const std::string relu = R"({deployment="digits",operator="relu",replica="0"})";
  for (const std::string& line :
       {std::string("opsplit_build_info{version=\"" OPSPLIT_VERSION "\"} 1"),
        std::string("opsplit_broker_up 1"),
        std::string(R"(opsplit_deployment_ready{deployment="digits"} 1)"),
        std::string(R"(opsplit_requests_total{deployment="digits"} 99)"),
        std::string(R"(opsplit_requests_in_flight{deployment="digits"} 3)"),
        std::string(R"(opsplit_slots{deployment="digits"} 8)"),
        std::string(R"(opsplit_clients{deployment="digits"} 2)"),
        std::string(R"(opsplit_request_seconds_count{deployment="digits"} 9)"),
        std::string(R"(opsplit_request_seconds_sum{deployment="digits"} 11)"),
        "opsplit_operator_up" + conv + " 1",
        "opsplit_operator_up" + relu + " 0",
        std::string("opsplit_operator_state{deployment=\"digits\",operator=\"relu\",replica=\"0\","
                    "state=\"backing off\"} 1"),
        "opsplit_operator_tasks_total" + conv + " 30",
        "opsplit_operator_cpu_seconds_total" + conv + " 1.5",
        "opsplit_operator_resident_memory_bytes" + conv + " 6",
        "opsplit_operator_copied_bytes_total" + conv + " 4",
        "opsplit_operator_restarts_total" + conv + " 2",
        "opsplit_operator_run_seconds_count" + conv + " 30",
        "opsplit_operator_run_seconds_sum" + conv + " 5",
        "opsplit_operator_wait_seconds_sum" + conv + " 7"})
    EXPECT_THAT(text, HasSubstr("\n" + line + "\n"));
  for (const char* type :
       {"opsplit_operator_run_seconds histogram", "opsplit_operator_tasks_total counter",
        "opsplit_operator_resident_memory_bytes gauge"})
    EXPECT_THAT(text, HasSubstr(std::string("# TYPE ") + type + "\n"));
}

TEST(MetricsTest, HistogramsAreCumulativeAndAgreeWithTheirCount) {
  const Snapshot what = snapshot();
  for (const auto& family : metric_families(what)) {
    if (family.type != prometheus::MetricType::Histogram) continue;
    for (const auto& metric : family.metric) {
      const auto& buckets = metric.histogram.bucket;
      ASSERT_GE(buckets.size(), 10u);
      for (std::size_t i = 1; i < buckets.size(); ++i) {
        EXPECT_LT(buckets[i - 1].upper_bound, buckets[i].upper_bound);
        EXPECT_LE(buckets[i - 1].cumulative_count, buckets[i].cumulative_count);
      }
      EXPECT_EQ(buckets.back().cumulative_count, metric.histogram.sample_count);
    }
  }
  const std::string text = metrics_text(what);
  const std::string of_conv = R"(_bucket{deployment="digits",operator="conv",replica="1",le=)";
  for (const char* line : {R"("1.024e-06"} 10)", R"("0.000524288"} 10)", R"("0.001048576"} 25)",
                           R"("17.179869184"} 25)", R"("+Inf"} 30)"})
    EXPECT_THAT(text, HasSubstr("opsplit_operator_run_seconds" + of_conv + line));
  EXPECT_THAT(text, HasSubstr("opsplit_operator_wait_seconds" + of_conv + R"("2.048e-06"} 0)"));
  EXPECT_THAT(text, HasSubstr("opsplit_operator_wait_seconds" + of_conv + R"("4.096e-06"} 1)"));
}

TEST(MetricsTest, EachNameAndSetOfLabelsIsThereOnce) {
  const Snapshot what = snapshot();
  std::set<std::string> names;
  for (const auto& family : metric_families(what)) {
    EXPECT_TRUE(names.insert(family.name).second) << family.name;
    EXPECT_FALSE(family.help.empty()) << family.name;
    std::set<std::vector<prometheus::ClientMetric::Label>> labels;
    for (const auto& metric : family.metric) EXPECT_TRUE(labels.insert(metric.label).second);
  }
}

TEST(MetricsTest, WithoutDeploymentsThereIsOnlyTheDaemon) {
  const Snapshot idle{1, false, {}};
  EXPECT_THAT(metrics_text(idle), HasSubstr("\nopsplit_broker_up 0\n"));
  EXPECT_THAT(metrics_text(idle), Not(HasSubstr("{deployment")));
}

}  // namespace
}  // namespace opsplit::daemon
