#include "daemon/trace.hpp"

#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/ipc/fixture.hpp"

namespace opsplit::daemon {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::IsEmpty;

// Task 0 feeds 1 and 2, which feed 3. Operators 0 (tasks 0 and 3), 1 and 2.
Plan diamond() { return ipc::make_plan({{0, {-1}}, {1, {0}}, {2, {0}}, {0, {1, 2}}}); }

// Odd nanoseconds, so that nothing adds up by accident.
RecordedRequest diamond_request(std::uint64_t start = 1'000'000'000'000'001) {
  return {start,
          start + 100'003,
          {{11, start + 1'001, start + 20'007},
           {12, start + 21'013, start + 40'019},
           {13, start + 22'027, start + 70'031},
           {11, start + 71'037, start + 90'041}}};
}

std::int64_t ns(const json& microseconds) { return std::llround(microseconds.get<double>() * 1e3); }
std::int64_t begin(const json& span) { return ns(span.at("ts")); }
std::int64_t end(const json& span) { return ns(span.at("ts")) + ns(span.at("dur")); }

json trace_of(const std::vector<RecordedRequest>& requests,
              const TraceProcesses& processes = {7, {}}) {
  const Plan plan = diamond();
  std::vector<Timeline> timelines;
  timelines.reserve(requests.size());
  for (const RecordedRequest& request : requests) timelines.push_back(timeline_of(plan, request));
  // As a viewer gets it.
  return json::parse(chrome_trace(plan, timelines, processes).dump());
}

std::vector<json> events(const json& trace, const std::function<bool(const json&)>& wanted) {
  std::vector<json> result;
  for (const json& event : trace.at("traceEvents"))
    if (wanted(event)) result.push_back(event);
  return result;
}

std::vector<json> spans(const json& trace, const std::set<std::string>& categories) {
  return events(trace, [&](const json& event) {
    return event.at("ph") == "X" && categories.contains(event.at("cat"));
  });
}

std::vector<std::string> names(const std::vector<json>& some) {
  std::vector<std::string> result;
  result.reserve(some.size());
  for (const json& event : some) result.push_back(event.at("name"));
  return result;
}

// The client's spans: each request, and what lies in it, which must fill it without a gap.
void expect_requests_filled(const json& trace) {
  for (const json& request : spans(trace, {"request"})) {
    std::int64_t reached = begin(request), sum = 0;
    for (const json& child : spans(trace, {"wait", "run", "hand-back"})) {
      if (child.at("args").at("request") != request.at("args").at("request")) continue;
      EXPECT_EQ(child.at("tid"), request.at("tid"));
      EXPECT_EQ(child.at("pid"), request.at("pid"));
      EXPECT_EQ(begin(child), reached) << child;
      EXPECT_GE(ns(child.at("dur")), 0) << child;
      reached = end(child);
      sum += ns(child.at("dur"));
    }
    EXPECT_EQ(reached, end(request));
    EXPECT_EQ(sum, ns(request.at("args").at("latency_us")));
  }
}

TEST(TimelineOf, FollowsTheTaskThatTheNextOneWaitedFor) {
  const Timeline timeline = timeline_of(diamond(), diamond_request(1000));
  EXPECT_EQ(timeline.latency_ns(), 100'003U);
  EXPECT_THAT(timeline.critical_path, ElementsAre(0, 2, 3));
  EXPECT_EQ(timeline.tasks[0].runnable_ns, 1000U);
  EXPECT_EQ(timeline.tasks[1].runnable_ns, 1000U + 20'007);
  EXPECT_EQ(timeline.tasks[2].runnable_ns, 1000U + 20'007);
  EXPECT_EQ(timeline.tasks[3].runnable_ns, 1000U + 70'031);
  for (const TimedTask& task : timeline.tasks) EXPECT_TRUE(task.trusted);
}

TEST(ChromeTrace, WhatLiesInARequestsSpanTakesJustAsLongAsTheRequest) {
  const json trace = trace_of({diamond_request(), diamond_request(1'000'000'000'200'003)});
  const auto requests = spans(trace, {"request"});
  ASSERT_THAT(names(requests), ElementsAre("request 1", "request 2"));
  EXPECT_EQ(begin(requests[0]), 0);
  EXPECT_EQ(begin(requests[1]), 200'002);
  EXPECT_EQ(ns(requests[0].at("args").at("latency_us")), 100'003);
  auto children = spans(trace, {"wait", "run", "hand-back"});
  ASSERT_EQ(children.size(), 14U);
  children.resize(7);
  EXPECT_THAT(names(children), ElementsAre("wait for op0", "t0", "wait for op2", "t2",
                                           "wait for op0", "t3", "hand-back"));
  expect_requests_filled(trace);
}

TEST(ChromeTrace, EachTaskIsOnTheTrackOfItsInstanceWithItsWait) {
  const json trace = trace_of({diamond_request()}, {7, {{11, 4711}, {12, 4712}}});
  const auto tasks = spans(trace, {"task"});
  ASSERT_THAT(names(tasks), ElementsAre("t0", "t1", "t2", "t3"));
  const std::vector<std::int64_t> waits = {1'001, 1'006, 2'020, 1'006};
  const std::vector<int> launches = {11, 12, 13, 11};
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(ns(tasks[i].at("args").at("wait_us")), waits[i]);
    EXPECT_EQ(tasks[i].at("args").at("request"), 1);
    EXPECT_EQ(tasks[i].at("args").at("task"), tasks[i].at("name"));
    EXPECT_EQ(tasks[i].at("tid"), launches[i]);
  }
  EXPECT_EQ(tasks[0].at("pid"), tasks[3].at("pid"));
  EXPECT_NE(tasks[0].at("pid"), tasks[1].at("pid"));

  std::map<int, std::string> groups, tracks;
  for (const json& event : events(trace, [](const json& e) { return e.at("ph") == "M"; })) {
    if (event.at("name") == "process_name") groups[event.at("pid")] = event.at("args").at("name");
    if (event.at("name") == "thread_name") tracks[event.at("tid")] = event.at("args").at("name");
  }
  EXPECT_EQ(groups.size(), 4U);
  EXPECT_EQ(groups[spans(trace, {"request"})[0].at("pid")], "client");
  EXPECT_EQ(groups[tasks[0].at("pid")], "op0");
  EXPECT_EQ(groups[tasks[1].at("pid")], "op1");
  EXPECT_EQ(groups[tasks[2].at("pid")], "op2");
  EXPECT_EQ(tracks[11], "launch 11, pid 4711");
  EXPECT_EQ(tracks[13], "launch 13");
}

TEST(ChromeTrace, FlowsPairUpAndBeginAndEndInASpan) {
  const json trace = trace_of({diamond_request(), diamond_request(1'000'000'000'200'003)});
  std::map<int, std::string> phases;  // of each flow, in the order of the file
  for (const json& flow : events(trace, [](const json& e) { return e.contains("bp"); })) {
    phases[flow.at("id")] += flow.at("ph").get<std::string>();
    EXPECT_FALSE(events(trace,
                        [&](const json& span) {
                          return span.at("ph") == "X" && span.at("pid") == flow.at("pid") &&
                                 span.at("tid") == flow.at("tid") && begin(span) <= begin(flow) &&
                                 begin(flow) < end(span);
                        })
                     .empty())
        << flow;
  }
  std::vector<std::string> all;
  all.reserve(phases.size());
  for (const auto& [id, text] : phases) all.push_back(text);
  // Per request: the critical path, and the two edges of task 1.
  EXPECT_THAT(all, ElementsAre("stttf", "sf", "sf", "stttf", "sf", "sf"));
}

TEST(ChromeTrace, TasksWhoseTimesCannotBeAreLeftOutAndTheRestStillAddsUp) {
  const RecordedRequest good = diamond_request(1'000'000);
  const struct {
    const char* what;
    std::size_t task;
    std::uint64_t started, finished;
  } cases[] = {
      {"never written", 2, 0, 0},
      {"before the request", 0, good.submitted_ns - 1, good.submitted_ns + 5},
      {"ends before it begins", 2, good.tasks[2].finished_ns, good.tasks[2].started_ns},
      {"ends after the answer", 3, good.tasks[3].started_ns, good.answered_ns + 1},
      {"before its producer's end", 3, good.tasks[2].finished_ns - 1, good.tasks[3].finished_ns},
      {"as late as can be", 1, UINT64_MAX, UINT64_MAX},
  };
  for (const auto& one : cases) {
    SCOPED_TRACE(one.what);
    RecordedRequest request = good;
    request.tasks[one.task].started_ns = one.started;
    request.tasks[one.task].finished_ns = one.finished;
    const Timeline timeline = timeline_of(diamond(), request);
    for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(timeline.tasks[i].trusted, i != one.task);
    const json trace = trace_of({request});
    EXPECT_EQ(spans(trace, {"task"}).size(), 3U);
    const auto bad = "t" + std::to_string(one.task);
    for (const json& span : spans(trace, {"task", "run"})) EXPECT_NE(span.at("name"), bad);
    expect_requests_filled(trace);
  }
}

TEST(ChromeTrace, WithoutAnyTrustedTaskTheRequestIsOneHandBack) {
  RecordedRequest request = diamond_request();
  for (RecordedTask& task : request.tasks) task = {};
  EXPECT_THAT(timeline_of(diamond(), request).critical_path, IsEmpty());
  const json trace = trace_of({request});
  EXPECT_THAT(names(spans(trace, {"task", "wait", "run", "hand-back"})), ElementsAre("hand-back"));
  expect_requests_filled(trace);
  // The operators are named all the same.
  EXPECT_EQ(events(trace, [](const json& e) { return e.at("name") == "process_name"; }).size(), 4U);
}

}  // namespace
}  // namespace opsplit::daemon
