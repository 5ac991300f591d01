// Where the time of a request went: the timeline of its tasks, and many of them as a trace for
// https://ui.perfetto.dev or chrome://tracing. Pure: from what was recorded to JSON.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <vector>

#include "base/plan.hpp"

namespace opsplit::daemon {

// All times are CLOCK_MONOTONIC, in nanoseconds.

// A task of a request as its record on the board says, which nobody has checked yet.
struct RecordedTask {
  std::uint32_t launch = 0;  // of the instance that ran it
  std::uint64_t started_ns = 0;
  std::uint64_t finished_ns = 0;
};

struct RecordedRequest {
  std::uint64_t submitted_ns = 0;  // the client's own clock readings
  std::uint64_t answered_ns = 0;
  std::vector<RecordedTask> tasks;  // of each task of the plan
};

struct TimedTask {
  // False: its times contradict the request's or its producers'. It then counts as having taken no
  // time when it became runnable, so that what follows still adds up.
  bool trusted = false;
  std::uint32_t launch = 0;
  std::uint64_t runnable_ns = 0;  // the last of its producers had finished, or the client submitted
  std::uint64_t started_ns = 0;
  std::uint64_t finished_ns = 0;
};

struct Timeline {
  std::uint64_t submitted_ns = 0;
  std::uint64_t answered_ns = 0;
  std::vector<TimedTask> tasks;  // of each task of the plan
  // From the first task to the last one that the client waited for: each became runnable when the one
  // before it finished. Trusted ones only.
  std::vector<std::int32_t> critical_path;

  [[nodiscard]] std::uint64_t latency_ns() const { return answered_ns - submitted_ns; }
};

// Precondition: a record for each task of the plan, and no answer before the request.
Timeline timeline_of(const Plan& plan, const RecordedRequest& request);

struct TraceProcesses {
  std::uint32_t client_launch = 0;
  std::map<std::uint32_t, pid_t> pids;  // of instances, by launch number, as far as known
};

// In the trace event format. One track per instance, grouped by operator, with its tasks; one for the
// client, with a span per request, and in it the waits and tasks of its critical path, one after the
// other, and the hand-back of the answer: together they take just as long as the request. Arrows
// (flows) lead each request along its critical path, and from any other task to those that it feeds.
// Microseconds after the first request was submitted, exact to the nanosecond.
nlohmann::json chrome_trace(const Plan& plan, std::span<const Timeline> requests,
                            const TraceProcesses& processes);

}  // namespace opsplit::daemon
