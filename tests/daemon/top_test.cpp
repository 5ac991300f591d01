#include "daemon/top.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace opsplit::daemon {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr std::uint64_t second = 1'000'000'000;

// A deployment of one operator, at its start.
Snapshot fresh() {
  InstanceSnapshot conv;
  conv.op = "conv";
  conv.state = "ready";
  conv.cores = "0-1";
  conv.memory_bytes = 3 << 20;
  DeploymentSnapshot digits;
  digits.name = "digits";
  digits.phase = "ready";
  digits.depth = 8;
  digits.clients = 1;
  digits.instances = {conv};
  return {10 * second, true, {digits}};
}

// The same two seconds later, with 100 tasks of 1 ms that waited for 2 ms.
Snapshot busy() {
  Snapshot snapshot = fresh();
  snapshot.time_ns += 2 * second;
  DeploymentSnapshot& digits = snapshot.deployments[0];
  digits.requests_done = 100;
  digits.requests.counts[ipc::bucket_of(4'000'000)] = 100;
  digits.in_use = 3;
  InstanceSnapshot& conv = digits.instances[0];
  conv.tasks_done = 100;
  conv.busy_ns = second / 10;
  conv.cpu_ns = second / 2;
  conv.bytes_copied = 4096;
  conv.in_flight = 1;
  conv.restarts = 2;
  conv.run.counts[ipc::bucket_of(1'000'000)] = 100;
  conv.wait.counts[ipc::bucket_of(2'000'000)] = 100;
  return snapshot;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < text.size(); begin = text.find('\n', begin) + 1)
    lines.push_back(text.substr(begin, text.find('\n', begin) - begin));
  return lines;
}

TEST(TopTest, ShowsWhatHappenedInBetween) {
  const Snapshot earlier = fresh(), now = busy();
  EXPECT_EQ(
      top_text(&earlier, now),
      "digits: ready, 50.0 requests/s, 3 of 8 slots in use, 1 client, latency p50 3.93 ms, p99 "
      "4.19 ms\n"
      "operator  state  cores   cpu  busy    memory  tasks/s  run p50  run p99  wait p50  wait "
      "p99  in flight  copied/s  restarts\n"
      "conv      ready  0-1    25 %   5 %  3.00 MiB     50.0   983 us  1.05 ms   1.97 ms   "
      "2.09 ms          1  2.00 KiB         2\n");
}

TEST(TopTest, WithoutAnIntervalThereAreNoRates) {
  const Snapshot now = busy();
  const auto text = top_text(nullptr, now);
  EXPECT_THAT(text, StartsWith("digits: ready, - requests/s, 3 of 8 slots in use, 1 client\n"));
  EXPECT_THAT(text, HasSubstr("3.00 MiB"));
  EXPECT_THAT(text, Not(HasSubstr("ms")));
  // Nor within no time.
  EXPECT_THAT(top_text(&now, now), HasSubstr("- requests/s"));
}

TEST(TopTest, WhereNothingHappenedThereAreNoDurations) {
  const Snapshot earlier = busy();
  Snapshot now = earlier;
  now.time_ns += second;
  const auto text = top_text(&earlier, now);
  EXPECT_THAT(text, HasSubstr(" 0.0 requests/s"));
  EXPECT_THAT(text, Not(HasSubstr("latency")));
  EXPECT_THAT(text, Not(HasSubstr("ms")));
}

TEST(TopTest, ADeploymentThatBeganAnewCountsFromItsStart) {
  Snapshot earlier = busy(), now = busy();
  earlier.deployments[0].instances[0].tasks_done = 1'000'000;
  earlier.deployments[0].instances[0].run.counts.fill(50);
  now.time_ns += second;
  EXPECT_THAT(top_text(&earlier, now), HasSubstr("  100   983 us"));
}

TEST(TopTest, InstancesOfOneOperatorAreToldApart) {
  Snapshot earlier = fresh(), now = busy();
  for (Snapshot* snapshot : {&earlier, &now}) {
    auto& instances = snapshot->deployments[0].instances;
    instances.insert(instances.begin(), fresh().deployments[0].instances[0]);
    instances[1].instance = 1;
  }
  const auto lines = lines_of(top_text(&earlier, now));
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_THAT(lines[2], StartsWith("conv   "));
  EXPECT_THAT(lines[2], HasSubstr(" 0.0 "));
  EXPECT_THAT(lines[3], StartsWith("conv.1 "));
  EXPECT_THAT(lines[3], HasSubstr(" 50.0 "));
}

TEST(TopTest, LessImportantColumnsMakeRoom) {
  const Snapshot earlier = fresh(), now = busy();
  for (const std::size_t width : {130u, 100u, 80u, 60u, 40u}) {
    const auto lines = lines_of(top_text(&earlier, now, width));
    ASSERT_EQ(lines.size(), 3u);
    EXPECT_LE(lines[1].size(), width);
    EXPECT_LE(lines[2].size(), width);
    EXPECT_THAT(lines[1], StartsWith("operator"));
    EXPECT_THAT(lines[1], HasSubstr("run p99"));
  }
  EXPECT_THAT(top_text(&earlier, now, 120), Not(HasSubstr("in flight")));
}

TEST(TopTest, OneThatIsBeingPlannedHasNoTable) {
  Snapshot now;
  now.deployments.resize(2);
  now.deployments[0].name = "a";
  now.deployments[0].phase = "planning";
  now.deployments[1] = fresh().deployments[0];
  EXPECT_THAT(top_text(nullptr, now), StartsWith("a: planning, "));
  EXPECT_THAT(top_text(nullptr, now), HasSubstr("clients\n\ndigits: ready"));
}

TEST(TopTest, WhatDoesNotFitIsCutOffAndSaysSo) {
  EXPECT_EQ(fit("abc\ndef\n", 80, 2), "abc\ndef\n");
  EXPECT_EQ(fit("abcdef\n\nxyz\n", 4, 3), "abcd\n\nxyz\n");
  EXPECT_THAT(fit("a\nb\nc\nd\n", 80, 3), StartsWith("a\nb\n... and 2 more lines"));
  EXPECT_EQ(fit("a\nb\nc\nd\n", 3, 1), "...\n");
}

TEST(TopTest, NumbersHaveThreeDigitsAndAUnit) {
  EXPECT_EQ(duration_text(0), "0 ns");
  EXPECT_EQ(duration_text(999), "999 ns");
  EXPECT_EQ(duration_text(1000), "1.00 us");
  EXPECT_EQ(duration_text(12'340), "12.3 us");
  EXPECT_EQ(duration_text(999'499), "999 us");
  EXPECT_EQ(duration_text(999'500), "1.00 ms");
  EXPECT_EQ(duration_text(61 * second), "61.0 s");
  EXPECT_EQ(bytes_text(0), "0 B");
  EXPECT_EQ(bytes_text(1023), "1023 B");
  EXPECT_EQ(bytes_text(100'000), "97.7 KiB");
  EXPECT_EQ(bytes_text(5e9), "4.66 GiB");
  EXPECT_THAT(bytes_text(1e19), EndsWith(" TiB"));
}

}  // namespace
}  // namespace opsplit::daemon
