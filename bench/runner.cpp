#include "bench/runner.hpp"

#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/system.hpp"
#include "bench/board_hop.hpp"
#include "bench/crew.hpp"
#include "bench/summary.hpp"
#include "ipc/message_socket.hpp"
#include "tests/private_namespace.hpp"

namespace opsplit::bench {
namespace {

// Only the one arena, for all board hops: its epoch never changes.
Result<Process> start_broker(const Pools& pools, const std::string& socket_path) {
  const auto program =
      std::filesystem::read_symlink("/proc/self/exe").parent_path() / "opsplit-broker";
  std::vector<std::string> arguments = {program, "--socket", socket_path};
  for (const std::uint64_t pool : pools.all) {
    arguments.emplace_back("--pool");
    arguments.push_back(std::to_string(pool));
  }
  // SIGTERM: if we are killed it still removes its files.
  Process broker(-1, SIGTERM, [&] {
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    const int quiet = ::open("/dev/null", O_WRONLY);
    ::dup2(quiet, STDERR_FILENO);
    ::execv(argv[0], argv.data());
    return 127;
  });
  const Deadline deadline = Clock::now() + std::chrono::seconds(60);
  const nlohmann::json publish = {{"op", "publish"},
                                  {"deployment", board_deployment},
                                  {"epoch", board_epoch},
                                  {"bytes", pools.arena}};
  while (true) {
    auto socket = ipc::MessageSocket::connect(socket_path, deadline);
    if (socket) {
      OPSPLIT_CHECK(socket->call(publish, deadline));
      return broker;
    }
    if (broker.has_ended() || Clock::now() > deadline)
      return within(program.string(), socket.error());
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

// One repetition of one case; what it measured counts only if all of it went well.
Result<> measure(benchmark::State& state, Case& c) {
  OPSPLIT_TRY(const auto contender, c.start(c.setting));
  std::vector<double> hop_ns;
  for (int i = 0; i < c.requests / 10 + 1; ++i) OPSPLIT_CHECK(contender->run());  // warms up
  for ([[maybe_unused]] auto _ : state) {
    OPSPLIT_TRY(const double hop, contender->run());
    hop_ns.push_back(hop);
    state.SetIterationTime(hop * 1e-9);
  }
  state.counters["p50_ns"] = quantile(hop_ns, 0.5);
  state.counters["p99_ns"] = quantile(hop_ns, 0.99);
  c.bytes_copied += contender->bytes_copied();
  c.hop_ns.insert(c.hop_ns.end(), hop_ns.begin(), hop_ns.end());
  return {};
}

// Takes "--summary FILE" out of the arguments. Files are opened now, as they may lie in a /tmp that
// is about to be hidden.
std::optional<std::string> prepare(std::vector<std::string>& arguments) {
  const auto reach = [](const std::string& path) {
    const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file >= 0) return fmt::format("/proc/self/fd/{}", file);
    std::perror(path.c_str());
    std::exit(1);
  };
  std::optional<std::string> summary;
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    constexpr std::string_view out = "--benchmark_out=";
    if (arguments[i].starts_with(out))
      arguments[i] = std::string(out) + reach(arguments[i].substr(out.size()));
    if (arguments[i] != "--summary" || i + 1 == arguments.size()) continue;
    summary = reach(arguments[i + 1]);
    const auto first = arguments.begin() + static_cast<std::ptrdiff_t>(i--);
    arguments.erase(first, first + 2);
  }
  return summary;
}

// Contenders and floors take turns, in random order, so that a machine that gets slower does so for
// all of them. What the user asks for comes later, and wins.
void initialize(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin() + 1,
                   {"--benchmark_repetitions=7", "--benchmark_enable_random_interleaving=true",
                    "--benchmark_display_aggregates_only=true"});
  static std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(::strdup(argument.c_str()));
  int count = static_cast<int>(argv.size());
  argv.push_back(nullptr);
  benchmark::Initialize(&count, argv.data());
  if (benchmark::ReportUnrecognizedArguments(count, argv.data())) std::exit(1);
}

// The children get signals of their own when we end, and one of them removes our files.
void end_on_signal(int) { ::_exit(130); }

std::optional<std::string> begin(std::vector<std::string> arguments) {
  auto summary_file = prepare(arguments);
  initialize(std::move(arguments));
  if (!test::enter_private_namespace())
    fmt::print(stderr,
               "{}: no private /tmp and /dev/shm here; an opsplitd that runs is in the way\n",
               program_invocation_short_name);
  ::signal(SIGINT, end_on_signal);
  ::signal(SIGTERM, end_on_signal);
  return summary_file;
}

}  // namespace

Runner::Runner(std::vector<std::string> arguments) : summary_file_(begin(std::move(arguments))) {}

int Runner::run(std::vector<Case>& cases, const Pools& pools,
                const std::function<nlohmann::json()>& summarize) {
  const std::string program = program_invocation_short_name;
  const auto broker = start_broker(pools, scratch_.disk() / "broker");
  if (!broker) {
    fmt::print(stderr, "{}: {}\n", program, broker.error().message);
    return 1;
  }
  for (Case& c : cases)
    benchmark::RegisterBenchmark(c.name.c_str(),
                                 [&](benchmark::State& state) {
                                   const auto measured = measure(state, c);
                                   if (measured) return;
                                   fmt::print(stderr, "{}: {}: {}\n", program, c.name,
                                              measured.error().message);
                                   ::_exit(1);
                                 })
        ->Iterations(c.requests)
        ->UseManualTime();
  benchmark::RunSpecifiedBenchmarks();
  const nlohmann::json summary = summarize();
  if (!summary_file_) return 0;
  std::ofstream file(*summary_file_);
  file << summary.dump(2) << '\n';
  file.close();
  return file ? 0 : 1;
}

}  // namespace opsplit::bench
