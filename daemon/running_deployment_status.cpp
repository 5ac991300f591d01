// What a deployment says of itself: RunningDeployment::status(), and the figures behind it.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "daemon/gpus.hpp"
#include "daemon/running_deployment.hpp"

namespace opsplit::daemon {
namespace {

using nlohmann::json;

// NAME_p50_ns and NAME_p99_ns, null where nothing was recorded; NAME_histogram.
void add_durations(json& status, const std::string& name, const ipc::Histogram& histogram,
                   RunningDeployment::Detail detail) {
  const auto quantile = [&](double q) {
    const auto ns = histogram.quantile_ns(q);
    return ns ? json(*ns) : json();
  };
  status[name + "_p50_ns"] = quantile(0.5);
  status[name + "_p99_ns"] = quantile(0.99);
  if (detail == RunningDeployment::Detail::quantiles) return;
  json& sparse = status[name + "_histogram"] = json::array();
  for (std::size_t bucket = 0; bucket < histogram.counts.size(); ++bucket) {
    if (histogram.counts[bucket] == 0) continue;
    sparse.push_back(bucket);
    sparse.push_back(histogram.counts[bucket]);
  }
}

}  // namespace

// Whether it runs as its cores want it to: with their threads and their way to wait.
bool RunningDeployment::follows_cores(const RunningInstance& instance) const {
  const ipc::Participant& record = board_->participant(instance.launch);
  return record.cores_followed.load() == record.cores_version.load();
}

// What is not as it was assigned, in words; empty if all is. The kernel leaves CPUs out without an
// error, and anybody with the right to do so can change an affinity.
std::string RunningDeployment::degraded(const RunningInstance& instance) const {
  if (!instance.running || !board_ || !follows_cores(instance)) return "";
  const CoreAssignment& assigned = planned_.cores[instance.op];
  std::string text;
  if (const auto real = context_.launcher.cpus(instance.process); real && *real != assigned.cpus) {
    const CpuSet missing = without(assigned.cpus, *real);
    if (without(missing, instance.withheld).empty() && without(*real, assigned.cpus).empty())
      text = fmt::format("runs on {} only: its cpuset forbids {}", to_string(*real),
                         to_string(missing));
    else
      text = fmt::format("runs on {} instead of {}: somebody has changed its affinity or cpuset",
                         to_string(*real), to_string(assigned.cpus));
  }
  const auto threads = board_->participant(instance.launch).threads.load();
  if (threads != 0 && threads != static_cast<std::uint32_t>(assigned.threads))
    text += fmt::format("{}computes with {} threads instead of {}: its log says why",
                        text.empty() ? "" : "; ", threads, assigned.threads);
  return text;
}

// What a process that has just died leaves; before it is reaped, and its record released.
void RunningDeployment::remember(const RunningInstance& instance) {
  Past& past = past_[{instance.op, instance.seat}];
  past.counters.add(ipc::Counters::copy_of(*board_, instance.launch));
  // Somebody else's child may be gone already: then what we saw last counts.
  if (const auto usage = usage_of(instance.process.identity)) instance.cpu_ns = usage->cpu_ns;
  past.cpu_ns += std::exchange(instance.cpu_ns, 0);
}

void RunningDeployment::Past::add(const Past& other) {
  counters.add(other.counters);
  cpu_ns += other.cpu_ns;
  restarts += other.restarts;
}

// By all processes of its operator and seat; of the one that runs, without CPU time.
RunningDeployment::Past RunningDeployment::used_so_far(const RunningInstance& instance) const {
  const auto found = past_.find({instance.op, instance.seat});
  Past sum = found == past_.end() ? Past{} : found->second;
  if (board_ && instance.running)
    sum.counters.add(ipc::Counters::copy_of(*board_, instance.launch));
  if (!earlier_) return sum;
  for (const RunningInstance& other : earlier_->instances_)
    if (other.op == instance.op && earlier_->number_of(other) == number_of(instance)) {
      sum.add(earlier_->used_so_far(other));
      sum.cpu_ns += other.cpu_ns;
      sum.restarts += other.life.restarts();
    }
  return sum;
}

ipc::Counters RunningDeployment::clients_so_far() const {
  ipc::Counters sum = past_clients_;
  for (const auto& [launch, client] : clients_) sum.add(ipc::Counters::copy_of(*board_, launch));
  if (earlier_) sum.add(earlier_->clients_so_far());
  return sum;
}

std::uint64_t RunningDeployment::requests_done() const {
  return own_requests_done() + (earlier_ ? earlier_->requests_done() : 0);
}

// Slots that were given back, whatever their requests came to: a generation each.
std::uint64_t RunningDeployment::own_requests_done() const {
  std::uint64_t done = past_requests_;
  for (std::uint32_t slot = 0; board_ && slot < board_->layout().depth; ++slot) {
    const auto word = ipc::SlotWord::unpack(board_->slot(slot).word.load());
    done += std::max(word.generation, 1u) - 1;  // the first is 1
  }
  return done;
}

json RunningDeployment::status(Detail detail) const {
  static constexpr std::array phases{"planned",  "starting", "ready",
                                     "retiring", "stopping", "stopped"};
  const ipc::Counters clients = clients_so_far();
  json result = {{"name", name()},
                 {"model", planned_.plan.model},
                 {"split", planned_.plan.split},
                 {"phase", phases[static_cast<std::size_t>(phase_)]},
                 {"epoch", epoch_},
                 {"depth", planned_.deployment.depth},
                 {"in_use", handover_ ? handover_->slots_in_use() : 0},
                 {"requests_done", requests_done()},
                 {"requests_answered", clients.tasks_done},
                 {"request_ns", clients.busy_ns},
                 {"clients", clients_.size()},
                 {"arena_bytes", planned_.arena_bytes},
                 {"gpus", gpu_status()},
                 {"instances", json::array()}};
  // What is under way in an earlier epoch.
  if (earlier_)
    result["retiring"] = {
        {"epoch", earlier_->epoch_},
        {"in_use", earlier_->handover_ ? earlier_->handover_->slots_in_use() : 0}};
  add_durations(result, "request", clients.run, detail);
  for (const RunningInstance& instance : instances_)
    result["instances"].push_back(status(instance, detail));
  return result;
}

json RunningDeployment::status(const RunningInstance& instance, Detail detail) const {
  const PlannedOperator& op = planned_.plan.operators[instance.op];
  const CoreAssignment& cores = planned_.cores[instance.op];
  Past sum = used_so_far(instance);
  ProcessUsage usage;
  std::uint32_t in_flight = 0;
  if (board_ && instance.running) {
    usage = usage_of(instance.process.identity).value_or(usage);
    instance.cpu_ns = std::max(instance.cpu_ns, usage.cpu_ns);
    sum.cpu_ns += instance.cpu_ns;
    for (std::uint32_t slot = 0; slot < board_->layout().depth; ++slot)
      for (const std::int32_t task : op.tasks) {
        const auto word =
            ipc::TaskWord::unpack(board_->task(slot, static_cast<std::uint32_t>(task)).word.load());
        in_flight += word.state == ipc::TaskState::claimed && word.holder == instance.launch;
      }
  }
  json result = {{"operator", op.name},
                 {"instance", number_of(instance)},
                 {"backend", to_string(instance.backend)},
                 {"tasks", op.tasks.size()},
                 {"pid", instance.running ? instance.process.identity.pid : 0},
                 {"state", to_string(instance.life.state())},
                 {"replaces", instance.replaces},
                 {"cores", to_string(cores.cpus)},
                 {"threads", cores.threads},
                 {"restarts", sum.restarts + instance.life.restarts()},
                 {"last_end", instance.last_end},
                 {"log", attaches(instance) ? "" : instance.log.string()},
                 {"in_flight", in_flight},
                 {"tasks_done", sum.counters.tasks_done},
                 {"busy_ns", sum.counters.busy_ns},
                 {"wait_ns", sum.counters.wait_ns},
                 {"bytes_copied", sum.counters.bytes_copied},
                 {"cpu_ns", sum.cpu_ns},
                 {"memory_bytes", usage.memory_bytes},
                 {"shared_bytes", usage.shared_bytes}};
  if (op.gpu != PlannedTensor::none) {
    result["gpu"] = op.gpu;
    result["stream"] = ipc::to_string(stream_priority(planned_.deployment, planned_.plan, op));
  }
  if (board_ && instance.running) {
    if (const auto threads = board_->participant(instance.launch).threads.load(); threads != 0)
      result["threads"] = std::min<std::uint32_t>(threads, max_cpus);
    result["changing"] = !follows_cores(instance);
    result["degraded"] = degraded(instance);
  }
  add_durations(result, "run", sum.counters.run, detail);
  add_durations(result, "wait", sum.counters.wait, detail);
  return result;
}

}  // namespace opsplit::daemon
