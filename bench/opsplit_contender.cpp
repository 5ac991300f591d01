// contender: a model in opsplit, started once and then asked on commands; bench/measure.py lets it
// take turns with others. One line of JSON answers each line on stdin:
//
//   (start)          {"ready": true, "load_ms": ..., "versions": ..., "operators": ..., "tasks": ...}
//   run N            {"ns": [latency, N times]}
//   load SECONDS N   {"per_second": ...}, with N requests in flight all the time
//   answers          {"answers": true}, the outputs written as .npy
//
// It ends with its stdin; while it waits there, it burns nothing. It may use the CPUs that it is
// started with.
#include <sys/prctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <csignal>
#include <cstring>
#include <deque>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "daemon/cli/inference.hpp"
#include "daemon/cli/temporary_deployment.hpp"
#include "daemon/preparation.hpp"
#include "daemon/target_options.hpp"
#include "daemon/tensor_file.hpp"
#include "ipc/weight_store.hpp"
#include "operators/aligned_memory.hpp"
#include "operators/kernels/onednn.hpp"
#include "operators/operator.hpp"
#include "tests/private_namespace.hpp"

namespace opsplit::bench {
namespace {

using daemon::HostTensor;
using daemon::cli::TemporaryDeployment;
using std::chrono::nanoseconds;

// Answers per second while a contender is kept busy: from the first to the last that came after a
// warm-up of a fifth of the time.
class Rate {
 public:
  explicit Rate(nanoseconds time)
      : counts_from_(Clock::now() + time / 5), over_(Clock::now() + time) {}

  [[nodiscard]] bool over() const { return Clock::now() >= over_; }
  void answered() {
    last_ = Clock::now();
    if (last_ < counts_from_) return;
    if (count_++ == 0) first_ = last_;
  }
  [[nodiscard]] double per_second() const {
    return count_ < 2 ? 0
                      : static_cast<double>(count_ - 1) /
                            std::chrono::duration<double>(last_ - first_).count();
  }

 private:
  Clock::time_point counts_from_, over_, first_, last_;
  std::size_t count_ = 0;
};

class Contender {
 public:
  virtual ~Contender() = default;
  [[nodiscard]] virtual const Plan& plan() const = 0;
  // One request: from when its inputs lie where they are read, to when its outputs may be read,
  // which are copied out only on demand.
  virtual Result<nanoseconds> ask(const std::vector<HostTensor>& inputs,
                                  std::vector<HostTensor>* outputs) = 0;
  // Keeps so many requests under way, if it can.
  virtual Result<double> load(const std::vector<HostTensor>& inputs, nanoseconds time,
                              std::size_t in_flight) = 0;
};

// Operators in processes of their own, through opsplitd.
class Deployed final : public Contender {
 public:
  static Result<std::unique_ptr<Contender>> start(const daemon::Target& target) {
    OPSPLIT_TRY(auto deployment, TemporaryDeployment::start("/tmp/opsplit.contender", target, {},
                                                            [](const auto&) {}));
    OPSPLIT_TRY(auto client,
                ipc::Client::connect({deployment.socket_path().string(), deployment.name()}));
    OPSPLIT_TRY(const ipc::Request first, client->begin(daemon::cli::request_timeout));
    return std::unique_ptr<Contender>(
        new Deployed(std::move(deployment), std::move(client), first.session().plan()));
  }

  [[nodiscard]] const Plan& plan() const override { return plan_; }

  Result<nanoseconds> ask(const std::vector<HostTensor>& inputs,
                          std::vector<HostTensor>* outputs) override {
    OPSPLIT_TRY(auto request, daemon::cli::filled_request(*client_, inputs));
    const auto start = Clock::now();
    OPSPLIT_CHECK(request.submit());
    OPSPLIT_CHECK(request.wait(daemon::cli::request_timeout));
    const nanoseconds latency = Clock::now() - start;
    if (outputs != nullptr) {
      OPSPLIT_TRY(*outputs, daemon::cli::answer(*client_, request));
    }
    return latency;
  }

  Result<double> load(const std::vector<HostTensor>& inputs, nanoseconds time,
                      std::size_t in_flight) override {
    std::deque<ipc::Request> requests;
    for (Rate rate(time);; rate.answered()) {
      while (requests.size() < in_flight && !rate.over()) {
        OPSPLIT_TRY(auto request, daemon::cli::submit(*client_, inputs));
        requests.push_back(std::move(request));
      }
      if (rate.over()) return rate.per_second();  // what is under way is cancelled
      OPSPLIT_CHECK(requests.front().wait(daemon::cli::request_timeout));
      requests.pop_front();
    }
  }

 private:
  Deployed(TemporaryDeployment deployment, std::unique_ptr<ipc::Client> client, Plan plan)
      : deployment_(std::move(deployment)), client_(std::move(client)), plan_(std::move(plan)) {}

  TemporaryDeployment deployment_;
  std::unique_ptr<ipc::Client> client_;
  Plan plan_;
};

// The same tasks on the same kernels, one after the other in this process: no hand-over at all.
// Tensors lie on the heap, as far apart as in a slot.
class InProcess final : public Contender {
 public:
  static Result<std::unique_ptr<Contender>> start(const daemon::Target& target) {
    OPSPLIT_TRY(auto deployment, daemon::Deployment::open(target));
    const std::filesystem::path folder = "/dev/shm/opsplit.contender";
    OPSPLIT_TRY(const auto planned, daemon::prepare(std::move(deployment), folder, {}));
    auto result = std::unique_ptr<InProcess>(new InProcess(planned.plan));
    for (std::size_t op = 0; op < planned.plan.operators.size(); ++op) {
      const PlannedOperator& described = result->plan_.operators[op];
      OPSPLIT_TRY(auto made, operators::make_native_operator(
                                 {result->plan_, described, folder / described.part, folder,
                                  planned.cores[op].threads, result->packed_, result->placement_}));
      result->operators_.push_back(std::move(made));
      for (std::size_t i = 0; i < described.tasks.size(); ++i)
        result->position_[static_cast<std::size_t>(described.tasks[i])] = i;
    }
    result->placement_.separate(planned.cores.front().threads);
    OPSPLIT_CHECK(ipc::WeightStore::remove(folder));  // what is mapped stays
    return result;
  }

  [[nodiscard]] const Plan& plan() const override { return plan_; }

  Result<nanoseconds> ask(const std::vector<HostTensor>& inputs,
                          std::vector<HostTensor>* outputs) override {
    for (std::size_t i = 0; i < inputs.size(); ++i)
      std::memcpy(write(plan_.inputs[i]).data, inputs[i].bytes.data(), inputs[i].bytes.size());
    const auto start = Clock::now();
    for (std::size_t task = 0; task < plan_.tasks.size(); ++task) OPSPLIT_CHECK(run(task));
    const nanoseconds latency = Clock::now() - start;
    if (outputs == nullptr) return latency;
    outputs->clear();
    for (const std::int32_t tensor : plan_.outputs) {
      const operators::TensorView view = read(tensor);
      outputs->push_back({view.type, {view.data, view.data + byte_size(view.type).value()}});
    }
    return latency;
  }

  Result<double> load(const std::vector<HostTensor>& inputs, nanoseconds time,
                      std::size_t) override {
    Rate rate(time);
    for (; !rate.over(); rate.answered()) OPSPLIT_CHECK(ask(inputs, nullptr));
    return rate.per_second();
  }

 private:
  explicit InProcess(const Plan& plan)
      : plan_(plan),
        memory_(plan.slot_bytes + plan.workspace_bytes),
        position_(plan.tasks.size()) {}

  Result<> run(std::size_t index) {
    const PlannedTask& task = plan_.tasks[index];
    inputs_.clear();
    outputs_.clear();
    for (const std::int32_t tensor : task.inputs) inputs_.push_back(read(tensor));
    for (const std::int32_t tensor : task.outputs) outputs_.push_back(write(tensor));
    operators::RunContext context;
    if (plan_.uses_workspace(static_cast<std::int32_t>(index)))
      context.workspace = {memory_.data() + plan_.slot_bytes, plan_.workspace_bytes};
    return operators_[static_cast<std::size_t>(task.op)]->run(position_[index], inputs_, outputs_,
                                                              context);
  }

  operators::TensorView read(std::int32_t tensor) {
    const auto view = write(tensor);
    return {view.type, view.layout, view.data};
  }

  operators::MutableTensorView write(std::int32_t tensor) {
    const PlannedTensor& planned = plan_.tensors[static_cast<std::size_t>(tensor)];
    const PlannedTensor& root = plan_.tensors[static_cast<std::size_t>(plan_.root(tensor))];
    return {planned.type, planned.layout, memory_.data() + root.offset};
  }

  Plan plan_;
  operators::Affinity affinity_;
  operators::ThreadPlacement placement_{affinity_};
  operators::HeapWeights packed_;
  operators::AlignedMemory memory_;
  std::vector<std::size_t> position_;  // in its operator, by task
  std::vector<std::unique_ptr<operators::Operator>> operators_;
  std::vector<operators::TensorView> inputs_;
  std::vector<operators::MutableTensorView> outputs_;
};

// Of the plan's inputs or outputs, in `folder`.
Result<std::vector<std::filesystem::path>> files(const Plan& plan,
                                                 const std::vector<std::int32_t>& tensors,
                                                 const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const std::int32_t tensor : tensors)
    names.push_back(plan.tensors[static_cast<std::size_t>(tensor)].name);
  OPSPLIT_TRY(const auto found, daemon::output_files(names));
  std::vector<std::filesystem::path> paths;
  for (const std::string& file : found) paths.push_back(folder / file);
  return paths;
}

Result<std::vector<HostTensor>> read_inputs(const Plan& plan, const std::filesystem::path& folder) {
  OPSPLIT_TRY(const auto paths, files(plan, plan.inputs, folder));
  std::vector<HostTensor> inputs;
  for (std::size_t i = 0; i < paths.size(); ++i) {
    OPSPLIT_TRY(HostTensor tensor, daemon::read_tensor(paths[i]));
    const TensorType& type = plan.tensors[static_cast<std::size_t>(plan.inputs[i])].type;
    if (tensor.type != type)
      return fail(ErrorCode::invalid_input, "{} is {}, the model takes {}", paths[i].string(),
                  to_string(tensor.type), to_string(type));
    inputs.push_back(std::move(tensor));
  }
  return inputs;
}

Result<> write_outputs(const Plan& plan, const std::vector<HostTensor>& outputs,
                       const std::filesystem::path& folder) {
  OPSPLIT_TRY(const auto paths, files(plan, plan.outputs, folder));
  for (std::size_t i = 0; i < paths.size(); ++i)
    OPSPLIT_CHECK(daemon::write_npy(paths[i], outputs[i].type, outputs[i].bytes));
  return {};
}

struct Options {
  daemon::Target target;
  bool in_process = false;
  std::filesystem::path inputs;
  std::filesystem::path answers;
};

Result<nlohmann::json> obey(const std::string& line, Contender& contender,
                            const std::vector<HostTensor>& inputs, const Options& options) {
  std::istringstream words(line);
  std::string command;
  words >> command;
  if (command == "run") {
    std::vector<nanoseconds::rep> latencies;
    std::size_t count = 0;
    for (words >> count; count > 0; --count) {
      OPSPLIT_TRY(const nanoseconds latency, contender.ask(inputs, nullptr));
      latencies.push_back(latency.count());
    }
    return nlohmann::json{{"ns", latencies}};
  }
  if (command == "load") {
    double seconds = 0;
    std::size_t in_flight = 0;
    words >> seconds >> in_flight;
    const auto time = nanoseconds(static_cast<std::int64_t>(seconds * 1e9));
    OPSPLIT_TRY(const double per_second, contender.load(inputs, time, in_flight));
    return nlohmann::json{{"per_second", per_second}};
  }
  if (command == "answers") {
    std::vector<HostTensor> outputs;
    OPSPLIT_CHECK(contender.ask(inputs, &outputs));
    OPSPLIT_CHECK(write_outputs(contender.plan(), outputs, options.answers));
    return nlohmann::json{{"answers", true}};
  }
  return fail(ErrorCode::invalid_input, "'{}' is no command: run N, load SECONDS N, answers", line);
}

Result<> serve(const Options& options) {
  const auto start = Clock::now();
  OPSPLIT_TRY(const auto contender, options.in_process ? InProcess::start(options.target)
                                                       : Deployed::start(options.target));
  const std::chrono::duration<double, std::milli> load = Clock::now() - start;
  OPSPLIT_TRY(const auto inputs, read_inputs(contender->plan(), options.inputs));
  const auto say = [](const nlohmann::json& answer) { std::cout << answer << std::endl; };
  say({{"ready", true},
       {"load_ms", load.count()},
       {"versions",
        {{"opsplit", OPSPLIT_VERSION}, {"oneDNN", operators::onednn::library_version()}}},
       {"operators", contender->plan().operators.size()},
       {"tasks", contender->plan().tasks.size()}});
  for (std::string line; std::getline(std::cin, line);) {
    OPSPLIT_TRY(const nlohmann::json answer, obey(line, *contender, inputs, options));
    say(answer);
  }
  return {};
}

int run(int argc, char** argv) {
  CLI::App app("A model in opsplit, asked on commands: see bench/opsplit_contender.cpp");
  Options options;
  app.add_option("model", options.target.path, "A model or a deployment file")->required();
  daemon::add_split_option(app, options.target);
  daemon::add_name_and_shapes(app, options.target);
  app.add_flag("--in-process", options.in_process,
               "Run all tasks in this process, one after the other");
  app.add_option("--inputs", options.inputs, "Folder with a .npy for each input")->required();
  app.add_option("--answers", options.answers, "Folder for the outputs")->required();
  CLI11_PARSE(app, argc, argv);
  options.target.path = std::filesystem::absolute(options.target.path);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  test::enter_private_namespace();
  const auto served = serve(options);
  if (!served) {
    fmt::print(stderr, "contender: {}\n", served.error().message);
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace opsplit::bench

int main(int argc, char** argv) { return opsplit::bench::run(argc, argv); }
