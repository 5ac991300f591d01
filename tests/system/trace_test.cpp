// `opsplit trace`, as a user types it.
#include <gmock/gmock.h>

#include <cmath>
#include <fstream>
#include <map>

#include "tests/system/harness.hpp"

namespace opsplit::test {
namespace {

using testing::HasSubstr;

class Trace : public SystemTest {};

std::int64_t ns(const json& microseconds) { return std::llround(microseconds.get<double>() * 1e3); }

TEST_F(Trace, FollowsEachRequestThroughTheOperators) {
  up({OPSPLIT_SOURCE_DIR "/examples/digits/digits.yaml"});
  const auto file = folder() / "trace.json";
  const Outcome outcome = opsplit({"trace", "digits", "--requests", "7", "-o", file});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("7 requests, one after the other: latency p50 "));
  EXPECT_THAT(outcome.out, HasSubstr(file.string() + ": open it at https://ui.perfetto.dev"));
  EXPECT_EQ(outcome.err, "");  // no task was left out

  const json trace = json::parse(std::ifstream(file));
  std::map<std::string, int> groups;  // of operators
  std::map<int, std::string> threads;
  std::map<int, json> requests;
  std::map<int, std::vector<json>> children, tasks;
  std::map<int, std::string> flows;
  for (const json& event : trace.at("traceEvents")) {
    const std::string phase = event.at("ph"), name = event.at("name");
    if (phase == "M") {
      if (name == "process_name") groups[event.at("args").at("name")] = event.at("pid");
      if (name == "thread_name") threads[event.at("pid")] = event.at("args").at("name");
    } else if (phase == "X") {
      const int number = event.at("args").at("request");
      if (event.at("cat") == "request")
        EXPECT_TRUE(requests.emplace(number, event).second) << event;
      else
        (event.at("cat") == "task" ? tasks : children)[number].push_back(event);
    } else {
      flows[event.at("id")] += phase;
    }
  }
  for (const char* op : {"client", "conv", "relu", "maxpool", "gemm", "softmax"})
    EXPECT_TRUE(groups.contains(op)) << op;
  for (const char* op : {"conv", "relu", "maxpool", "gemm", "softmax"})
    EXPECT_THAT(threads[groups[op]],
                HasSubstr("pid " + std::to_string(instance("digits", op)["pid"].get<pid_t>())));
  ASSERT_EQ(requests.size(), 7U);
  for (const auto& [number, request] : requests) {
    EXPECT_EQ(tasks[number].size(), 12U);
    EXPECT_EQ(children[number].size(),
              25U);  // a chain: a wait and a run for each, and the hand-back
    const std::int64_t begin = ns(request.at("ts")), end = begin + ns(request.at("dur"));
    EXPECT_EQ(ns(request.at("args").at("latency_us")), end - begin);
    std::int64_t sum = 0;
    for (const auto* some : {&children[number], &tasks[number]})
      for (const json& span : *some) {
        EXPECT_GE(ns(span.at("ts")), begin) << span;
        EXPECT_LE(ns(span.at("ts")) + ns(span.at("dur")), end) << span;
        if (some == &children[number]) sum += ns(span.at("dur"));
      }
    EXPECT_EQ(sum, end - begin);
  }
  // An instance does one thing at a time.
  std::map<int, std::int64_t> reached;
  for (const auto& [number, some] : tasks)
    for (const json& span : some) {
      std::int64_t& end = reached[span.at("tid")];
      EXPECT_GE(ns(span.at("ts")), end) << span;
      end = ns(span.at("ts")) + ns(span.at("dur"));
    }
  EXPECT_EQ(flows.size(), 7U);
  for (const auto& [id, phases] : flows) EXPECT_EQ(phases, "s" + std::string(12, 't') + "f");
  down();
}

TEST_F(Trace, MistakesAreRefusedAndLeaveNoFile) {
  up({digits_model});
  const auto file = folder() / "trace.json";
  EXPECT_THAT(error_line(opsplit({"trace", "digitz", "-o", file})), HasSubstr("digitz"));
  EXPECT_THAT(error_line(opsplit({"trace", "digits", "--input", "image=none.npy", "-o", file})),
              HasSubstr("none.npy"));
  EXPECT_EQ(opsplit({"trace", "digits", "--requests", "0", "-o", file}).status, 2);
  EXPECT_THAT(error_line(opsplit({"trace", "digits", "-o", folder() / "missing" / "trace.json"})),
              HasSubstr("missing/trace.json: No such file"));
  EXPECT_TRUE(std::filesystem::is_empty(folder()));
  down();
}

}  // namespace
}  // namespace opsplit::test
