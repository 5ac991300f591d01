// bench: splits of one model side by side, in one run.
//
// All splits are up at the same time and take turns, a tenth of the requests each, so that a machine
// that gets slower or faster does so for all of them. Every answer's bytes are compared with those of
// the first split.
#include <algorithm>
#include <cmath>
#include <mutex>
#include <thread>

#include "daemon/cli/commands.hpp"
#include "daemon/cli/daemon_client.hpp"
#include "daemon/cli/inference.hpp"
#include "daemon/cli/output_file.hpp"
#include "daemon/cli/temporary_deployment.hpp"
#include "daemon/preparation.hpp"
#include "daemon/quantile.hpp"
#include "daemon/table.hpp"

namespace opsplit::daemon::cli {
namespace {

using nlohmann::json;

constexpr int rounds = 10;

struct BenchOptions {
  Target target;
  std::vector<std::string> splits = {"fused", "by-type", "stages:4"};
  int requests = 200;
  int concurrency = 1;
  int cores = 0;  // 0: all
  std::filesystem::path json_file;
};

struct Samples {
  std::vector<double> latency_us;
  std::vector<double> overhead_us;  // what no task accounts for; at concurrency 1
  double seconds = 0;
  double worst_error = 0;  // against the first split, in units of the reference's largest value
  std::uint64_t bytes_copied = 0;
};

double error_against(const std::vector<HostTensor>& reference, const std::vector<HostTensor>& got) {
  double worst = 0;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    if (reference[i].type != got[i].type) return INFINITY;
    if (reference[i].type.dtype != float32) continue;
    const auto* a = reinterpret_cast<const float*>(reference[i].bytes.data());
    const auto* b = reinterpret_cast<const float*>(got[i].bytes.data());
    double scale = 0, difference = 0;
    for (std::size_t k = 0; k < reference[i].bytes.size() / sizeof(float); ++k) {
      scale = std::max(scale, std::abs(static_cast<double>(a[k])));
      const double d = std::abs(static_cast<double>(a[k]) - b[k]);
      difference = std::isnan(d) ? INFINITY : std::max(difference, d);
    }
    worst = std::max(worst, scale > 0 ? difference / scale : difference);
  }
  return worst;
}

// Time that the tasks of an answered request took, in microseconds.
double task_time_us(const ipc::Request& request) {
  std::uint64_t sum = 0;
  const ipc::Session& session = request.session();
  for (std::uint32_t task = 0; task < session.plan().tasks.size(); ++task) {
    const ipc::TaskRecord& record = session.board().task(request.hold().slot, task);
    sum += record.finished_ns.load() - record.started_ns.load();
  }
  return static_cast<double>(sum) / 1e3;
}

// One split that is up.
struct Contender {
  std::string split;
  TemporaryDeployment deployment;
  std::unique_ptr<ipc::Client> client;
  std::size_t operators = 0;
  std::size_t tasks = 0;
  Samples samples;
};

// `count` requests, `concurrency` at a time; nothing is recorded without `samples`.
Result<> measure(Contender& contender, const std::vector<HostTensor>& inputs, int count,
                 int concurrency, const std::vector<HostTensor>& reference, Samples* samples) {
  std::mutex mutex;
  Result<> result;
  int left = count;
  const auto start = Clock::now();
  std::vector<std::thread> threads;
  for (int t = 0; t < concurrency; ++t)
    threads.emplace_back([&] {
      while (true) {
        {
          const std::lock_guard lock(mutex);
          if (left == 0 || !result) return;
          --left;
        }
        const auto sent = Clock::now();
        auto request = submit(*contender.client, inputs);
        auto waited = request ? request->wait(std::chrono::seconds(300))
                              : Result<>(tl::unexpected(request.error()));
        const std::chrono::duration<double, std::micro> latency = Clock::now() - sent;
        auto outputs = waited ? answer(*contender.client, *request)
                              : Result<std::vector<HostTensor>>(tl::unexpected(waited.error()));
        const std::lock_guard lock(mutex);
        if (!outputs) {
          result = tl::unexpected(outputs.error());
          return;
        }
        if (samples == nullptr) continue;
        samples->latency_us.push_back(latency.count());
        samples->overhead_us.push_back(latency.count() - task_time_us(*request));
        samples->bytes_copied += request->bytes_copied();
        samples->worst_error = std::max(samples->worst_error, error_against(reference, *outputs));
      }
    });
  for (std::thread& thread : threads) thread.join();
  if (samples != nullptr)
    samples->seconds += std::chrono::duration<double>(Clock::now() - start).count();
  return result;
}

Result<std::string> deployment_name(const BenchOptions& options, const std::string& split) {
  OPSPLIT_TRY(const Deployment deployment, Deployment::open(options.target.path));
  std::string name = options.target.name.empty() ? deployment.name : options.target.name;
  std::string suffix = "-" + split;
  std::replace(suffix.begin(), suffix.end(), ':', '-');
  name.resize(std::min(name.size(), std::size_t{32} - suffix.size()));
  return name + suffix;
}

// What the broker must set aside for all splits to be up at the same time.
Result<std::vector<std::uint64_t>> arena_sizes(const BenchOptions& options) {
  std::vector<std::uint64_t> sizes;
  for (const std::string& split : options.splits) {
    Target target = options.target;
    target.split = split;
    OPSPLIT_TRY(Deployment deployment, Deployment::open(target));
    if (options.concurrency > deployment.depth)
      return fail(ErrorCode::invalid_input, "--concurrency {}: the deployment has {} slots (depth)",
                  options.concurrency, deployment.depth);
    OPSPLIT_TRY(const Planned planned, plan_deployment(std::move(deployment)));
    sizes.push_back(planned.arena_bytes);
  }
  // The first one's is exact without.
  sizes.erase(sizes.begin());
  return sizes;
}

json report(const std::vector<Contender>& contenders, const BenchOptions& options) {
  json result = {{"model", options.target.path.filename().string()},
                 {"requests", options.requests},
                 {"concurrency", options.concurrency},
                 {"splits", json::array()}};
  const double reference = quantile(contenders.front().samples.latency_us, 0.5);
  for (const Contender& c : contenders) {
    const double p50 = quantile(c.samples.latency_us, 0.5);
    json entry = {{"split", c.split},
                  {"operators", c.operators},
                  {"tasks", c.tasks},
                  {"p50_us", p50},
                  {"p99_us", quantile(c.samples.latency_us, 0.99)},
                  {"requests_per_second",
                   static_cast<double>(c.samples.latency_us.size()) / c.samples.seconds},
                  {"ratio", p50 / reference},
                  {"bytes_copied", c.samples.bytes_copied / c.samples.latency_us.size()},
                  {"worst_error", c.samples.worst_error}};
    // A request crosses from the client to the first task, between tasks, and back.
    if (options.concurrency == 1)
      entry["overhead_per_hop_us"] =
          quantile(c.samples.overhead_us, 0.5) / static_cast<double>(c.tasks + 1);
    result["splits"].push_back(std::move(entry));
  }
  return result;
}

void print_report(const json& report) {
  std::vector<std::vector<std::string>> rows = {
      {"split", "operators", "tasks", "p50 ms", "p99 ms", "req/s",
       "x " + report["splits"][0].value("split", ""), "us/hop", "copied B", "worst error"}};
  for (const json& entry : report["splits"])
    rows.push_back({entry.value("split", ""), std::to_string(entry.value("operators", 0)),
                    std::to_string(entry.value("tasks", 0)),
                    fmt::format("{:.3f}", entry.value("p50_us", 0.0) / 1e3),
                    fmt::format("{:.3f}", entry.value("p99_us", 0.0) / 1e3),
                    fmt::format("{:.1f}", entry.value("requests_per_second", 0.0)),
                    fmt::format("{:.3f}", entry.value("ratio", 0.0)),
                    entry.contains("overhead_per_hop_us")
                        ? fmt::format("{:.2f}", entry.value("overhead_per_hop_us", 0.0))
                        : "-",
                    std::to_string(entry.value("bytes_copied", std::uint64_t{0})),
                    fmt::format("{:.1e}", entry.value("worst_error", 0.0))});
  fmt::print("{}", render_table(rows));
}

Result<> bench(const Invocation& invocation, const BenchOptions& options) {
  DaemonClient::StartOptions start;
  OPSPLIT_TRY(start.reserve, arena_sizes(options));
  if (options.cores != 0) {
    if (DaemonClient::connect(invocation.folder))
      return fail(ErrorCode::refused,
                  "--cores: opsplitd runs already, on cores of its own; `opsplit down` first");
    OPSPLIT_TRY(const Topology topology, Topology::of_this_machine());
    if (options.cores > static_cast<int>(topology.allowed().size()))
      return fail(ErrorCode::invalid_input, "--cores {}: there are {}", options.cores,
                  topology.allowed().size());
    start.cpus.assign(topology.allowed().begin(), topology.allowed().begin() + options.cores);
  }
  std::vector<Contender> contenders;
  for (const std::string& split : options.splits) {
    Target target = options.target;
    target.split = split;
    OPSPLIT_TRY(target.name, deployment_name(options, split));
    print_progress("starting " + target.name);
    OPSPLIT_TRY(auto deployment,
                TemporaryDeployment::start(invocation.folder, target, start, [](const auto&) {}));
    OPSPLIT_TRY(auto client,
                ipc::Client::connect({deployment.socket_path().string(), target.name}));
    contenders.push_back({split, std::move(deployment), std::move(client), 0, 0, {}});
  }
  const std::vector<HostTensor> inputs = random_inputs(*contenders.front().client);
  OPSPLIT_TRY(auto first, submit(*contenders.front().client, inputs));
  OPSPLIT_TRY(const auto reference, answer(*contenders.front().client, first));
  { const ipc::Request answered = std::move(first); }  // gives the slot back
  for (Contender& contender : contenders) {
    OPSPLIT_TRY(const ipc::Request probe, submit(*contender.client, inputs));
    contender.operators = probe.session().plan().operators.size();
    contender.tasks = probe.session().plan().tasks.size();
  }
  print_progress(
      fmt::format("{} requests per split, {} at a time", options.requests, options.concurrency));
  for (int round = -1; round < rounds; ++round)
    for (Contender& contender : contenders) {
      // The first round warms up.
      const int count = options.requests / rounds + (round < options.requests % rounds ? 1 : 0);
      OPSPLIT_CHECK(measure(contender, inputs, count, options.concurrency, reference,
                            round < 0 ? nullptr : &contender.samples));
    }
  const json result = report(contenders, options);
  print_report(result);
  if (!options.json_file.empty())
    OPSPLIT_CHECK(write_output(options.json_file, result.dump(2) + '\n'));
  for (Contender& contender : contenders) {
    contender.client.reset();
    OPSPLIT_CHECK(contender.deployment.stop());
  }
  return {};
}

}  // namespace

void add_bench(CLI::App& app, Invocation& invocation) {
  auto* command = app.add_subcommand("bench", "Measure splits of a model side by side");
  auto options = std::make_shared<BenchOptions>();
  add_target(*command, options->target, TargetOptions::without_split);
  command->add_option("--splits", options->splits, "The splits; ratios are to the first")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--requests", options->requests, "Requests per split")
      ->check(CLI::Range(10, 10'000'000))
      ->capture_default_str();
  command->add_option("--concurrency", options->concurrency, "Requests in flight")
      ->check(CLI::Range(1, Deployment::max_depth))
      ->capture_default_str();
  command->add_option("--cores", options->cores, "Cores to use (default: all)")
      ->check(CLI::PositiveNumber);
  command->add_option("--json", options->json_file, "Write the result to this file, too");
  command->footer(
      "Example: opsplit bench model.onnx --splits fused,by-type,stages:4 --requests 1000");
  command->callback([&, options] {
    invocation.run = [&invocation, options] { return bench(invocation, *options); };
  });
}

}  // namespace opsplit::daemon::cli
