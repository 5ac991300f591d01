#include "daemon/trace.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>

namespace opsplit::daemon {
namespace {

using nlohmann::json;

// Of the format, not of the machine: groups of tracks.
constexpr int client_group = 1;
int group_of(std::int32_t op) { return client_group + 1 + op; }

// A double holds this exactly enough for JSON to show the nanoseconds, for months.
double microseconds(std::uint64_t ns) { return static_cast<double>(ns) / 1e3; }

template <class Tasks>
auto& at(Tasks& tasks, std::int32_t index) {
  return tasks[static_cast<std::size_t>(index)];
}

class TraceWriter {
 public:
  TraceWriter(const Plan& plan, const TraceProcesses& processes, std::uint64_t zero_ns)
      : plan_(plan), processes_(processes), zero_ns_(zero_ns) {}

  json write(std::span<const Timeline> requests) {
    name_tracks(requests);
    for (std::size_t i = 0; i < requests.size(); ++i) request(i + 1, requests[i]);
    return std::move(events_);
  }

 private:
  struct Track {
    int group;
    std::uint32_t thread;
  };
  [[nodiscard]] Track client() const { return {client_group, processes_.client_launch}; }
  [[nodiscard]] Track track_of(const Timeline& request, std::int32_t task) const {
    return {group_of(at(plan_.tasks, task).op), at(request.tasks, task).launch};
  }
  [[nodiscard]] const std::string& operator_of(std::int32_t task) const {
    return at(plan_.operators, at(plan_.tasks, task).op).name;
  }

  json& event(const char* phase, Track track, std::string name) {
    return events_.emplace_back(json{
        {"ph", phase}, {"pid", track.group}, {"tid", track.thread}, {"name", std::move(name)}});
  }
  void metadata(Track track, const char* what, json arguments) {
    event("M", track, what)["args"] = std::move(arguments);
  }
  json& span(Track track, const char* category, std::string name, std::uint64_t from,
             std::uint64_t to) {
    json& result = event("X", track, std::move(name));
    result["cat"] = category;
    result["ts"] = microseconds(from - zero_ns_);
    result["dur"] = microseconds(to - from);
    return result;
  }
  // It belongs to the innermost span of its track that is open at that time, of those written before.
  void flow(const char* phase, Track track, const char* category, std::uint64_t id,
            std::uint64_t when) {
    json& result = event(phase, track, category);
    result["cat"] = category;
    result["id"] = id;
    result["ts"] = microseconds(when - zero_ns_);
    result["bp"] = "e";
  }

  void name_tracks(std::span<const Timeline> requests) {
    const auto name_group = [&](Track track, const std::string& name) {
      metadata(track, "process_name", {{"name", name}});
      metadata(track, "process_sort_index", {{"sort_index", track.group}});
    };
    name_group(client(), "client");
    metadata(client(), "thread_name", {{"name", "requests"}});
    for (std::size_t op = 0; op < plan_.operators.size(); ++op) {
      std::set<std::uint32_t> launches;
      for (const Timeline& request : requests)
        for (const std::int32_t task : plan_.operators[op].tasks)
          if (at(request.tasks, task).trusted) launches.insert(at(request.tasks, task).launch);
      const int group = group_of(static_cast<std::int32_t>(op));
      name_group({group, launches.empty() ? 0 : *launches.begin()}, plan_.operators[op].name);
      for (const std::uint32_t launch : launches) {
        const auto pid = processes_.pids.find(launch);
        metadata({group, launch}, "thread_name",
                 {{"name", pid == processes_.pids.end()
                               ? fmt::format("launch {}", launch)
                               : fmt::format("launch {}, pid {}", launch, pid->second)}});
      }
    }
  }

  void request(std::size_t number, const Timeline& request) {
    json& whole = span(client(), "request", fmt::format("request {}", number), request.submitted_ns,
                       request.answered_ns);
    whole["args"] = {{"request", number}, {"latency_us", microseconds(request.latency_ns())}};
    for (std::size_t i = 0; i < request.tasks.size(); ++i)
      task(number, request, static_cast<std::int32_t>(i));
    critical_path(number, request);
    other_edges(request);
  }

  void task(std::size_t number, const Timeline& request, std::int32_t index) {
    const TimedTask& timed = at(request.tasks, index);
    if (!timed.trusted) return;
    span(track_of(request, index), "task", at(plan_.tasks, index).name, timed.started_ns,
         timed.finished_ns)["args"] = {
        {"request", number},
        {"task", at(plan_.tasks, index).name},
        {"wait_us", microseconds(timed.started_ns - timed.runnable_ns)}};
  }

  // Every span begins where the one before it ended.
  void critical_path(std::size_t number, const Timeline& request) {
    const auto id = ++flows_;
    std::uint64_t reached = request.submitted_ns;
    flow("s", client(), "critical path", id, reached);
    for (const std::int32_t index : request.critical_path) {
      const TimedTask& timed = at(request.tasks, index);
      const json arguments = {{"request", number},
                              {"task", at(plan_.tasks, index).name},
                              {"operator", operator_of(index)}};
      span(client(), "wait", "wait for " + operator_of(index), reached, timed.started_ns)["args"] =
          arguments;
      span(client(), "run", at(plan_.tasks, index).name, timed.started_ns,
           timed.finished_ns)["args"] = arguments;
      flow("t", track_of(request, index), "critical path", id, timed.started_ns);
      reached = timed.finished_ns;
    }
    span(client(), "hand-back", "hand-back", reached,
         request.answered_ns)["args"] = {{"request", number}};
    flow("f", client(), "critical path", id, reached);
  }

  void other_edges(const Timeline& request) {
    std::set<std::pair<std::int32_t, std::int32_t>> drawn;
    for (std::size_t i = 1; i < request.critical_path.size(); ++i)
      drawn.emplace(request.critical_path[i - 1], request.critical_path[i]);
    for (std::size_t i = 0; i < plan_.tasks.size(); ++i) {
      const auto consumer = static_cast<std::int32_t>(i);
      if (!at(request.tasks, consumer).trusted) continue;
      for (const std::int32_t producer : plan_.tasks[i].producers) {
        if (!at(request.tasks, producer).trusted || drawn.contains({producer, consumer})) continue;
        const auto id = ++flows_;
        flow("s", track_of(request, producer), "feeds", id, at(request.tasks, producer).started_ns);
        flow("f", track_of(request, consumer), "feeds", id, at(request.tasks, consumer).started_ns);
      }
    }
  }

  const Plan& plan_;
  const TraceProcesses& processes_;
  std::uint64_t zero_ns_;
  std::uint64_t flows_ = 0;
  json events_ = json::array();
};

}  // namespace

Timeline timeline_of(const Plan& plan, const RecordedRequest& request) {
  Timeline result{request.submitted_ns, request.answered_ns, {}, {}};
  constexpr std::int32_t none = -1;
  // The trusted task whose end made this one runnable; through those that are not to be trusted.
  std::vector<std::int32_t> after;
  const auto finished = [&](std::int32_t task) { return at(result.tasks, task).finished_ns; };
  const auto last_of = [&](const std::vector<std::int32_t>& tasks) {
    std::int32_t last = none;
    for (const std::int32_t task : tasks) {
      const std::int32_t end = at(result.tasks, task).trusted ? task : at(after, task);
      if (end != none && (last == none || finished(end) > finished(last))) last = end;
    }
    return last;
  };
  std::vector<std::int32_t> answering;
  for (std::size_t i = 0; i < plan.tasks.size(); ++i) {  // producers come first
    const RecordedTask& recorded = request.tasks[i];
    after.push_back(last_of(plan.tasks[i].producers));
    const std::uint64_t runnable =
        after.back() == none ? request.submitted_ns : finished(after.back());
    const bool trusted = recorded.started_ns >= runnable &&
                         recorded.finished_ns >= recorded.started_ns &&
                         recorded.finished_ns <= request.answered_ns;
    result.tasks.push_back({trusted, recorded.launch, runnable,
                            trusted ? recorded.started_ns : runnable,
                            trusted ? recorded.finished_ns : runnable});
    if (plan.tasks[i].feeds_client) answering.push_back(static_cast<std::int32_t>(i));
  }
  for (std::int32_t task = last_of(answering); task != none; task = at(after, task))
    result.critical_path.push_back(task);
  std::reverse(result.critical_path.begin(), result.critical_path.end());
  return result;
}

json chrome_trace(const Plan& plan, std::span<const Timeline> requests,
                  const TraceProcesses& processes) {
  const std::uint64_t zero = requests.empty() ? 0 : requests.front().submitted_ns;
  return {
      {"displayTimeUnit", "ns"},
      {"otherData", {{"model", plan.model}, {"split", plan.split}, {"opsplit", OPSPLIT_VERSION}}},
      {"traceEvents", TraceWriter(plan, processes, zero).write(requests)}};
}

}  // namespace opsplit::daemon
