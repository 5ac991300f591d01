// overhead: what the hops of a real deployment (opsplitd, operator processes) add to requests of the
// digits model, which take about 0.1 ms, beside their floors in one run. bench/README.md says what the
// figures are.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "bench/floors.hpp"
#include "bench/iceoryx_ring.hpp"
#include "daemon/cli/inference.hpp"
#include "daemon/cli/temporary_deployment.hpp"
#include "daemon/daemon.hpp"
#include "daemon/preparation.hpp"
#include "daemon/quantile.hpp"
#include "daemon/table.hpp"
#include "daemon/trace.hpp"
#include "operators/host.hpp"
#include "operators/kernels/kernels.hpp"
#include "tests/private_namespace.hpp"

namespace opsplit::bench {
namespace {

using daemon::quantile;
using daemon::cli::TemporaryDeployment;
using nlohmann::json;

constexpr const char* model = OPSPLIT_SOURCE_DIR "/examples/digits/digits.onnx";
constexpr const char* folder = "/tmp/opsplit.overhead";
constexpr int warm_up_requests = 200;
constexpr std::size_t requests_per_turn = 1000;
constexpr int ring_requests_per_turn = 50;  // of 200 hops each
constexpr double tolerance = 1e-4;          // of a probability

enum class Placement {
  one_core,   // operators and client
  two_cores,  // operators by turns, the client where the kernel puts it
  by_default  // as opsplitd places operators that ask for nothing, on all cores
};

std::string_view to_string(Placement placement) {
  if (placement == Placement::one_core) return "one core";
  return placement == Placement::two_cores ? "two cores, by turns" : "default";
}

// One request, in nanoseconds.
struct Sample {
  std::uint64_t latency = 0;
  std::uint64_t run = 0;      // in tasks of the critical path
  std::uint64_t between = 0;  // from a task's end to the start of the next one on the critical path
  std::uint64_t tasks = 0;    // of the critical path
};

// What the client's process tells us.
struct Report {
  std::atomic<std::uint32_t> done;
  std::array<Sample, requests_per_turn> samples;
  std::array<float, 10> first, last;  // answers
};

struct Case {
  std::string name = {};
  Placement placement = Placement::by_default;
  std::string split = {};  // empty: a ring of processes, by `start`
  bool wake_ahead = true;  // false: nobody is told that a task's last step begins
  Setting setting = {};
  std::function<Result<std::unique_ptr<Contender>>(const Setting&)> start = {};
  std::string floor = {};  // the case that it is compared with
  double target = 0;       // 0: none

  // Of all turns: nanoseconds per hop; a request's other figures. And medians, by turn.
  std::vector<double> hop_ns = {}, between_ns = {}, latency_ns = {}, run_ns = {};
  std::vector<double> hop_of_turns = {}, between_of_turns = {};
  std::size_t operators = 0;
  std::uint64_t hops = 0;
};

// An operator that does not say when its last step begins.
class Unannounced final : public operators::Operator {
 public:
  explicit Unannounced(std::unique_ptr<Operator> op) : op_(std::move(op)) {}
  Result<> run(std::size_t task, std::span<const operators::TensorView> inputs,
               std::span<const operators::MutableTensorView> outputs,
               operators::RunContext& context) override {
    context.last_step_begins = nullptr;
    return op_->run(task, inputs, outputs, context);
  }

 private:
  std::unique_ptr<Operator> op_;
};

Result<std::unique_ptr<operators::Operator>> make_unannounced(const operators::OperatorSpec& spec) {
  OPSPLIT_TRY(auto op, operators::make_native_operator(spec));
  return std::make_unique<Unannounced>(std::move(op));
}

Result<> ask(ipc::Client& client, const std::vector<daemon::HostTensor>& inputs,
             std::array<float, 10>& answer, Sample& sample) {
  OPSPLIT_TRY(ipc::Request request, daemon::cli::filled_request(client, inputs));
  const ipc::Session& session = request.session();
  daemon::RecordedRequest recorded;
  recorded.submitted_ns = session.futex().now_ns();
  OPSPLIT_CHECK(request.submit());
  OPSPLIT_CHECK(request.wait(daemon::cli::request_timeout));
  recorded.answered_ns = session.futex().now_ns();
  OPSPLIT_TRY(const auto output, request.output(0));
  std::memcpy(answer.data(), output.bytes.data(), std::min(output.bytes.size(), sizeof answer));
  for (std::uint32_t task = 0; task < session.plan().tasks.size(); ++task) {
    const ipc::TaskRecord& record = session.board().task(request.hold().slot, task);
    recorded.tasks.push_back({ipc::TaskWord::unpack(record.word.load()).holder,
                              record.started_ns.load(), record.finished_ns.load()});
  }
  const daemon::Timeline timeline = daemon::timeline_of(session.plan(), recorded);
  sample = {.latency = timeline.latency_ns(), .tasks = timeline.critical_path.size()};
  for (std::size_t i = 0; i < timeline.critical_path.size(); ++i) {
    const auto& task = timeline.tasks[static_cast<std::size_t>(timeline.critical_path[i])];
    sample.run += task.finished_ns - task.started_ns;
    if (i > 0) sample.between += task.started_ns - task.runnable_ns;
  }
  return {};
}

// The client's process.
Result<> run_client(const std::string& socket, const std::string& deployment, Report& report) {
  OPSPLIT_TRY(const auto client, ipc::Client::connect({socket, deployment}));
  const auto inputs = daemon::cli::random_inputs(*client);
  Sample unused;
  for (int i = 0; i < warm_up_requests; ++i)
    OPSPLIT_CHECK(ask(*client, inputs, report.first, unused));
  for (Sample& sample : report.samples) OPSPLIT_CHECK(ask(*client, inputs, report.last, sample));
  report.done.store(1);
  system_futex.wake(report.done, 1);
  return {};
}

void say(const std::string& who, const Error& error) {
  fmt::print(stderr, "overhead: {}: {}\n", who, error.message);
}

// A deployment file that says where each operator runs.
Result<daemon::Planned> plan(const Case& c, const std::string& file) {
  OPSPLIT_TRY(const auto deployment, daemon::Deployment::open(daemon::Target{model, c.split}));
  OPSPLIT_TRY(auto planned, daemon::plan_deployment(deployment));
  std::ofstream yaml(file);
  yaml << "name: digits\nmodel: " << model << "\nsplit: " << c.split << "\n";
  if (c.placement == Placement::two_cores) {
    yaml << "operators:\n";
    for (std::size_t i = 0; i < planned.plan.operators.size(); ++i) {
      const int cpu = allowed_cores()[i % 2];
      yaml << fmt::format("  {}: {{cores: \"{}-{}\"}}\n", planned.plan.operators[i].name, cpu, cpu);
    }
  }
  yaml.close();
  if (!yaml) return fail_errno(errno, "{}", file);
  return planned;
}

Result<> run_deployment(Case& c, std::optional<std::array<float, 10>>& expected) {
  const std::string file = std::string(folder) + "/digits.yaml";
  OPSPLIT_TRY(const daemon::Planned planned, plan(c, file));
  daemon::cli::DaemonClient::StartOptions options;
  if (c.placement == Placement::one_core) options.cpus = {allowed_cores().front()};
  daemon::Target target{file};
  target.attach = !c.wake_ahead;
  std::vector<Process> attaching;
  const std::string socket = daemon::Daemon::socket_path(folder).string();
  if (target.attach)
    for (const PlannedOperator& op : planned.plan.operators)
      attaching.emplace_back(-1, SIGTERM, [&] {
        const std::atomic<bool> stop{false};
        const auto ran =
            operators::run_host({socket, "digits", op.name, std::chrono::seconds(60)},
                                {make_unannounced, operators::kernel_op_types()}, stop);
        if (!ran) say(op.name, ran.error());
        return ran ? 0 : 1;
      });
  OPSPLIT_TRY(auto deployment,
              TemporaryDeployment::start(folder, target, options, [](const auto&) {}));
  Shared<Report> report;
  {
    const int cpu = c.placement == Placement::one_core ? allowed_cores().front() : -1;
    const Process client(cpu, SIGKILL, [&] {
      const auto ran = run_client(socket, "digits", *report);
      if (!ran) say(c.name, ran.error());
      return ran ? 0 : 1;
    });
    while (report->done.load() == 0 && !client.has_ended())
      system_futex.wait(report->done, 0, system_futex.now_ns() + 100'000'000);
  }
  OPSPLIT_CHECK(deployment.stop());
  if (report->done.load() == 0) return fail(ErrorCode::operator_failed, "{}: no result", c.name);
  if (!expected) expected = report->first;
  for (const auto* answer : {&report->first, &report->last})
    for (std::size_t i = 0; i < answer->size(); ++i)
      if (!(std::abs((*answer)[i] - (*expected)[i]) <= tolerance))
        return fail(ErrorCode::invalid_input, "{}: probability {} is {} instead of {}", c.name, i,
                    (*answer)[i], (*expected)[i]);
  std::vector<double> hops, betweens;
  for (const Sample& sample : report->samples) {
    const auto latency = static_cast<double>(sample.latency);
    const auto run = static_cast<double>(sample.run);
    c.hops = sample.tasks + 1;
    c.latency_ns.push_back(latency);
    c.run_ns.push_back(run);
    hops.push_back((latency - run) / static_cast<double>(c.hops));
    if (sample.tasks > 1)
      betweens.push_back(static_cast<double>(sample.between) /
                         static_cast<double>(sample.tasks - 1));
  }
  c.operators = planned.plan.operators.size();
  c.hop_of_turns.push_back(quantile(hops, 0.5));
  c.between_of_turns.push_back(quantile(betweens, 0.5));
  c.hop_ns.insert(c.hop_ns.end(), hops.begin(), hops.end());
  c.between_ns.insert(c.between_ns.end(), betweens.begin(), betweens.end());
  return {};
}

// Raw iceoryx needs a RouDi: that of a deployment which does nothing meanwhile.
Result<> run_ring(Case& c) {
  daemon::cli::DaemonClient::StartOptions options;
  options.reserve = iceoryx_pools(c.setting);
  OPSPLIT_TRY(auto deployment,
              TemporaryDeployment::start(folder, {model, "fused"}, options, [](const auto&) {}));
  {
    OPSPLIT_TRY(const auto ring, c.start(c.setting));
    for (int i = 0; i < ring_requests_per_turn / 10 + 1; ++i) OPSPLIT_CHECK(ring->run());
    std::vector<double> hops;
    for (int i = 0; i < ring_requests_per_turn; ++i) {
      OPSPLIT_TRY(const double hop, ring->run());
      hops.push_back(hop);
    }
    c.hop_of_turns.push_back(quantile(hops, 0.5));
    c.hop_ns.insert(c.hop_ns.end(), hops.begin(), hops.end());
  }
  return deployment.stop();
}

Result<std::vector<Case>> make_cases() {
  std::vector<Case> cases;
  const auto ring = [&](std::string name, int processes, int cores, auto start) {
    if (std::any_of(cases.begin(), cases.end(), [&](const Case& c) { return c.name == name; }))
      return;
    Setting setting{.processes = processes, .cores = cores, .payload = 16 << 10};
    setting.warm_hops = setting.warm_hops / processes * processes;
    setting.timed_hops = setting.timed_hops / processes * processes;
    cases.push_back({.name = std::move(name), .setting = setting, .start = start});
  };
  const bool two_cores = allowed_cores().size() >= 2;
  if (two_cores) {
    ring("spin, two cores", 2, 2, Ring<SpinLink>::start);
    ring("iceoryx polling, two cores", 2, 2, start_iceoryx_polling);
  }
  const auto add = [&](Case c) {
    c.name = fmt::format("{}, {}{}", c.split, to_string(c.placement),
                         c.wake_ahead ? "" : ", no wake-ahead");
    cases.push_back(std::move(c));
  };
  for (const std::string split : {"fused", "stages:2", "stages:4", "by-type", "per-node"}) {
    OPSPLIT_TRY(const auto deployment, daemon::Deployment::open(daemon::Target{model, split}));
    OPSPLIT_TRY(const auto planned, daemon::plan_deployment(deployment));
    const int processes = static_cast<int>(planned.plan.operators.size()) + 1;
    const std::string futex = fmt::format("futex, one core, {} processes", processes);
    ring(futex, processes, 1, Ring<FutexLink>::start);
    add({.placement = Placement::one_core, .split = split, .floor = futex, .target = 1.5});
    const std::string polling = two_cores ? "iceoryx polling, two cores" : "";
    if (two_cores && split != "fused")
      for (const bool wake_ahead : {true, false})
        add({.placement = Placement::two_cores,
             .split = split,
             .wake_ahead = wake_ahead,
             .floor = polling,
             .target = wake_ahead ? 1.0 : 0});
    if (two_cores) add({.placement = Placement::by_default, .split = split, .floor = polling});
  }
  return cases;
}

double rounded_us(double ns) { return std::round(ns) / 1e3; }
double rounded(double ratio) { return std::round(ratio * 1e3) / 1e3; }

json row_of(const Case& c, const Case* floor) {
  json row = {{"name", c.name}};
  const auto add = [&row](const std::string& name, const std::vector<double>& ns) {
    if (ns.empty()) return;
    row[name + "_p50_us"] = rounded_us(quantile(ns, 0.5));
    row[name + "_p99_us"] = rounded_us(quantile(ns, 0.99));
  };
  if (c.operators != 0) row.update({{"operators", c.operators}, {"hops", c.hops}});
  add("latency", c.latency_ns);
  add("run", c.run_ns);
  add("hop", c.hop_ns);
  add("between", c.between_ns);
  row["samples"] = c.hop_ns.size();
  if (floor == nullptr) return row;
  row["floor"] = floor->name;
  const auto compare = [&](const std::string& name, const std::vector<double>& ns,
                           const std::vector<double>& of_turns) {
    if (ns.empty()) return;
    std::vector<double> ratios;  // by turn
    for (std::size_t i = 0; i < of_turns.size(); ++i)
      ratios.push_back(of_turns[i] / floor->hop_of_turns[i]);
    row[name + "ratio"] = rounded(quantile(ns, 0.5) / quantile(floor->hop_ns, 0.5));
    row[name + "ratio_low"] = rounded(*std::min_element(ratios.begin(), ratios.end()));
    row[name + "ratio_high"] = rounded(*std::max_element(ratios.begin(), ratios.end()));
  };
  compare("", c.hop_ns, c.hop_of_turns);
  compare("between_", c.between_ns, c.between_of_turns);
  if (c.target > 0) row["target"] = c.target;
  return row;
}

void print(const json& rows) {
  std::vector<std::vector<std::string>> lines = {{"us", "latency p50", "p99", "in tasks", "hop p50",
                                                  "p99", "between p50", "p99", "hop / floor",
                                                  "between / floor", "target"}};
  const auto cell = [](const json& row, const char* key) {
    return row.contains(key) ? fmt::format("{:.2f}", row[key].get<double>()) : "-";
  };
  for (const json& row : rows)
    lines.push_back({row["name"], cell(row, "latency_p50_us"), cell(row, "latency_p99_us"),
                     cell(row, "run_p50_us"), cell(row, "hop_p50_us"), cell(row, "hop_p99_us"),
                     cell(row, "between_p50_us"), cell(row, "between_p99_us"), cell(row, "ratio"),
                     cell(row, "between_ratio"), cell(row, "target")});
  fmt::print("{}", daemon::render_table(lines));
}

Result<json> measure(int rounds, const std::string& filter) {
  OPSPLIT_TRY(std::vector<Case> cases, make_cases());
  std::erase_if(cases, [&](const Case& c) {
    return !c.split.empty() && c.name.find(filter) == std::string::npos;
  });
  std::vector<std::size_t> order(cases.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::optional<std::array<float, 10>> expected;  // the first answer of all
  std::mt19937 random(std::random_device{}());
  for (int round = 0; round < rounds; ++round) {
    std::shuffle(order.begin(), order.end(), random);
    for (const std::size_t i : order)
      OPSPLIT_CHECK(cases[i].split.empty() ? run_ring(cases[i])
                                           : run_deployment(cases[i], expected));
  }
  json rows = json::array();
  for (const Case& c : cases) {
    const auto floor = std::find_if(cases.begin(), cases.end(),
                                    [&](const Case& other) { return other.name == c.floor; });
    rows.push_back(row_of(c, floor == cases.end() ? nullptr : &*floor));
  }
  return rows;
}

}  // namespace
}  // namespace opsplit::bench

int main(int argc, char** argv) {
  using namespace opsplit;

  CLI::App app("What hops add to requests of the digits model, beside their floors.");
  std::string summary, filter;
  int rounds = 7;
  app.add_option("--summary", summary, "File for the figures as JSON");
  app.add_option("--rounds", rounds, "Turns of each contender")->check(CLI::Range(1, 1000));
  app.add_option("--filter", filter, "Only deployments with this in their name");
  CLI11_PARSE(app, argc, argv);

  std::ofstream file(summary);  // now: it may lie in a /tmp that is about to be hidden
  if (!summary.empty() && !file) {
    std::perror(summary.c_str());
    return 1;
  }
  test::enter_private_namespace();
  ::mkdir(bench::folder, 0700);
  const auto rows = bench::measure(rounds, filter);
  if (!rows) {
    fmt::print(stderr, "overhead: {}\n", rows.error().message);
    return 1;
  }
  bench::print(*rows);
  file << nlohmann::json{{"versions", {{"opsplit", OPSPLIT_VERSION}}}, {"rows", *rows}}.dump(2)
       << '\n';
  return summary.empty() || file.flush() ? 0 : 1;
}
