// split: latency of one model, fused and split, through opsplitd and real operator processes. All
// splits are up at the same time and take turns.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/cli/inference.hpp"
#include "daemon/cli/temporary_deployment.hpp"
#include "tests/private_namespace.hpp"

namespace opsplit::bench {
namespace {

using daemon::cli::DaemonClient;
using daemon::cli::TemporaryDeployment;

struct Contender {
  TemporaryDeployment deployment;
  std::unique_ptr<ipc::Client> client;
};

Result<Contender> start(const std::string& model, const std::string& split, int index) {
  // Room for as many arenas of the same size as there are splits, and then some.
  const DaemonClient::StartOptions options{.reserve = {256u << 20, 256u << 20}, .cpus = {}};
  const daemon::Target target{model, split, fmt::format("split{}", index), {}};
  OPSPLIT_TRY(auto deployment, TemporaryDeployment::start("/tmp/opsplit.split", target, options,
                                                          [](const auto&) {}));
  OPSPLIT_TRY(auto client, ipc::Client::connect({deployment.socket_path().string(), target.name}));
  return Contender{std::move(deployment), std::move(client)};
}

void measure(benchmark::State& state, ipc::Client& client) {
  std::vector<daemon::HostTensor> inputs;  // zeros: no kernel's time depends on them
  for (const ipc::TensorSpec& spec : client.inputs())
    inputs.push_back({spec.type, std::vector<std::byte>(byte_size(spec.type).value())});
  for ([[maybe_unused]] auto _ : state) {
    auto request = daemon::cli::submit(client, inputs);
    const auto outputs =
        request ? daemon::cli::answer(client, *request)
                : Result<std::vector<daemon::HostTensor>>(tl::unexpected(request.error()));
    if (!outputs) return state.SkipWithError(outputs.error().message.c_str());
  }
}

int run(int argc, char** argv) {
  std::string model = OPSPLIT_SOURCE_DIR "/examples/digits/digits.onnx";
  constexpr std::string_view flag = "--model=";
  std::vector<char*> arguments = {argv[0], const_cast<char*>("--benchmark_repetitions=5"),
                                  const_cast<char*>("--benchmark_enable_random_interleaving=true"),
                                  const_cast<char*>("--benchmark_display_aggregates_only=true")};
  for (int i = 1; i < argc; ++i)
    if (std::string_view(argv[i]).starts_with(flag))
      model = std::filesystem::absolute(argv[i] + flag.size());
    else
      arguments.push_back(argv[i]);
  int count = static_cast<int>(arguments.size());
  arguments.push_back(nullptr);
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 1;
  test::enter_private_namespace();
  std::vector<Contender> contenders;
  for (const std::string split : {"fused", "by-type", "stages:4"}) {
    auto contender = start(model, split, static_cast<int>(contenders.size()));
    if (!contender) {
      fmt::print(stderr, "split: {}\n", contender.error().message);
      return 1;
    }
    contenders.push_back(std::move(*contender));
    benchmark::RegisterBenchmark(split.c_str(),
                                 [client = contenders.back().client.get()](
                                     benchmark::State& state) { measure(state, *client); })
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond);
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace
}  // namespace opsplit::bench

int main(int argc, char** argv) { return opsplit::bench::run(argc, argv); }
