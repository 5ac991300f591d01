// trace: requests followed through the operators.
#include "daemon/trace.hpp"

#include "daemon/cli/commands.hpp"
#include "daemon/cli/daemon_client.hpp"
#include "daemon/cli/inference.hpp"
#include "daemon/cli/output_file.hpp"
#include "daemon/quantile.hpp"
#include "daemon/table.hpp"

namespace opsplit::daemon::cli {
namespace {

constexpr int warm_up_requests = 5;

struct TraceOptions {
  std::string deployment;
  int requests = 20;
  std::filesystem::path output = "trace.json";
  std::vector<std::string> inputs;
};

// What was seen of one deployment. Its tasks and launch numbers mean something in one epoch only.
struct Observed {
  Plan plan;
  std::uint64_t epoch = 0;
  std::vector<Timeline> requests;
  TraceProcesses processes;
};

// Of an answered request, from the board into memory that nobody else writes.
RecordedTask copy_record(const ipc::Request& request, std::uint32_t task) {
  const ipc::TaskRecord& record = request.session().board().task(request.hold().slot, task);
  const auto word = ipc::TaskWord::unpack(record.word.load(std::memory_order_acquire));
  if (!word.finished(request.hold().generation)) return {};  // times of 0 are not to be trusted
  return {word.holder, record.started_ns.load(std::memory_order_relaxed),
          record.finished_ns.load(std::memory_order_relaxed)};
}

void note_pid(const ipc::Session& session, ipc::LaunchNumber launch,
              std::map<std::uint32_t, pid_t>& pids) {
  const ipc::Participant& participant = session.board().participant(launch);
  const auto pid = static_cast<pid_t>(participant.pid.load());
  if (launch != 0 && participant.launch.load() == launch) pids.emplace(launch, pid);
}

Result<> observe(ipc::Client& client, const std::vector<HostTensor>& inputs, Observed& observed) {
  OPSPLIT_TRY(ipc::Request request, filled_request(client, inputs));
  const ipc::Session& session = request.session();
  if (session.attachment().epoch != observed.epoch || session.plan() != observed.plan)
    return fail(ErrorCode::epoch_lost, "deployment '{}' was restarted while it was traced",
                session.attachment().deployment);
  RecordedRequest recorded;
  recorded.submitted_ns = session.futex().now_ns();
  OPSPLIT_CHECK(request.submit());
  OPSPLIT_CHECK(request.wait(request_timeout));
  recorded.answered_ns = session.futex().now_ns();
  for (std::uint32_t task = 0; task < observed.plan.tasks.size(); ++task) {
    recorded.tasks.push_back(copy_record(request, task));
    note_pid(session, recorded.tasks.back().launch, observed.processes.pids);
  }
  observed.requests.push_back(timeline_of(observed.plan, recorded));
  return {};
}

Result<Observed> observe(ipc::Client& client, const std::vector<HostTensor>& inputs, int requests) {
  Observed observed;
  for (int i = 0; i < warm_up_requests; ++i) {
    OPSPLIT_TRY(ipc::Request request, submit(client, inputs));
    OPSPLIT_CHECK(request.wait(request_timeout));
    observed.plan = request.session().plan();
    observed.epoch = request.session().attachment().epoch;
    observed.processes.client_launch = request.session().attachment().launch;
  }
  for (int i = 0; i < requests; ++i) OPSPLIT_CHECK(observe(client, inputs, observed));
  return observed;
}

double microseconds(std::uint64_t ns) { return static_cast<double>(ns) / 1e3; }

std::string cell(const std::vector<double>& values, double q) {
  return values.empty() ? "-" : fmt::format("{:.1f}", quantile(values, q));
}

void print_summary(const Observed& observed) {
  std::vector<std::vector<std::string>> rows = {
      {"operator", "tasks", "run us p50", "p99", "wait us p50", "p99"}};
  for (const PlannedOperator& op : observed.plan.operators) {
    std::vector<double> runs, waits;
    for (const Timeline& request : observed.requests)
      for (const std::int32_t index : op.tasks) {
        const TimedTask& task = request.tasks[static_cast<std::size_t>(index)];
        if (!task.trusted) continue;
        runs.push_back(microseconds(task.finished_ns - task.started_ns));
        waits.push_back(microseconds(task.started_ns - task.runnable_ns));
      }
    rows.push_back({op.name, std::to_string(op.tasks.size()), cell(runs, 0.5), cell(runs, 0.99),
                    cell(waits, 0.5), cell(waits, 0.99)});
  }
  std::vector<double> latencies;
  double all = 0, run = 0, hand_back = 0;
  for (const Timeline& request : observed.requests) {
    latencies.push_back(microseconds(request.latency_ns()));
    all += latencies.back();
    std::uint64_t reached = request.submitted_ns;
    for (const std::int32_t index : request.critical_path) {
      const TimedTask& task = request.tasks[static_cast<std::size_t>(index)];
      run += microseconds(task.finished_ns - task.started_ns);
      reached = task.finished_ns;
    }
    hand_back += microseconds(request.answered_ns - reached);
  }
  fmt::print(
      "{}\n{} requests, one after the other: latency p50 {} us, p99 {} us\n"
      "on the critical path: {:.1f} % in tasks, {:.1f} % waiting for operators, {:.1f} % handing "
      "the "
      "answer back\n",
      render_table(rows), observed.requests.size(), cell(latencies, 0.5), cell(latencies, 0.99),
      100 * run / all, 100 * (all - run - hand_back) / all, 100 * hand_back / all);
}

void warn_of_untrusted(const std::vector<Timeline>& requests) {
  std::size_t all = 0, untrusted = 0;
  for (const Timeline& request : requests)
    for (const TimedTask& task : request.tasks) {
      ++all;
      if (!task.trusted) ++untrusted;
    }
  if (untrusted != 0)
    fmt::print(
        stderr,
        "opsplit: warning: {} of {} tasks are left out: their times contradict those of their "
        "requests\n",
        untrusted, all);
}

Result<> trace(const Invocation& invocation, const TraceOptions& options) {
  OPSPLIT_TRY(auto files, read_inputs(options.inputs));
  OPSPLIT_TRY(const auto opsplitd, DaemonClient::connect(invocation.folder));
  OPSPLIT_TRY(const auto client,
              ipc::Client::connect({opsplitd.socket_path().string(), options.deployment}));
  OPSPLIT_TRY(const std::vector<HostTensor> inputs, options.inputs.empty()
                                                        ? random_inputs(*client)
                                                        : match_inputs(*client, std::move(files)));
  OPSPLIT_TRY(const Observed observed, observe(*client, inputs, options.requests));
  OPSPLIT_CHECK(write_output(
      options.output,
      chrome_trace(observed.plan, observed.requests, observed.processes).dump() + '\n'));
  warn_of_untrusted(observed.requests);
  print_summary(observed);
  fmt::print("{}: open it at https://ui.perfetto.dev\n", options.output.string());
  return {};
}

}  // namespace

void add_trace(CLI::App& app, Invocation& invocation) {
  auto* command =
      app.add_subcommand("trace", "Follow requests through the operators of a running deployment");
  auto options = std::make_shared<TraceOptions>();
  command->add_option("deployment", options->deployment, "Name of the deployment")->required();
  command->add_option("--requests", options->requests, "Requests to send, one after the other")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command
      ->add_option("--input", options->inputs,
                   "A tensor to feed, as `infer` takes it (default: random)")
      ->type_name("TENSOR=FILE");
  command->add_option("-o,--output", options->output, "The trace, in Chrome's trace event format")
      ->capture_default_str();
  command->footer(
      "Example: opsplit trace digits --requests 20 -o trace.json\n"
      "Then open trace.json at https://ui.perfetto.dev or chrome://tracing.");
  command->callback([&, options] {
    invocation.run = [&invocation, options] { return trace(invocation, *options); };
  });
}

}  // namespace opsplit::daemon::cli
