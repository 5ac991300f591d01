#include "daemon/metrics.hpp"

#include <prometheus/text_serializer.h>

#include <functional>
#include <limits>
#include <utility>

namespace opsplit::daemon {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

// 1.024 us to 17 s, each twice the one before: where buckets of ours begin, so that counts are exact.
constexpr int first_bound = 10, last_bound = 34;

double seconds(std::uint64_t ns) { return static_cast<double>(ns) / 1e9; }

ClientMetric value(MetricType type, double number, Labels labels) {
  ClientMetric metric;
  metric.label = std::move(labels);
  (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = number;
  return metric;
}

ClientMetric histogram(const ipc::Histogram& durations, std::uint64_t sum_ns, Labels labels) {
  ClientMetric metric;
  metric.label = std::move(labels);
  metric.histogram.sample_count = durations.count();
  metric.histogram.sample_sum = seconds(sum_ns);
  for (int bound = first_bound; bound <= last_bound; ++bound) {
    const std::uint64_t ns = std::uint64_t{1} << bound;
    metric.histogram.bucket.push_back({durations.count_below(ns), seconds(ns)});
  }
  metric.histogram.bucket.push_back(
      {metric.histogram.sample_count, std::numeric_limits<double>::infinity()});
  return metric;
}

class Families {
 public:
  explicit Families(const Snapshot& snapshot) : snapshot_(snapshot) {}
  std::vector<MetricFamily> take() { return std::move(families_); }

  void add(const char* name, const char* help, double number, Labels labels = {}) {
    begin(name, help, MetricType::Gauge)
        .push_back(value(MetricType::Gauge, number, std::move(labels)));
  }

  using OfDeployment = std::function<double(const DeploymentSnapshot&)>;
  void add_deployments(const char* name, const char* help, MetricType type,
                       const OfDeployment& number) {
    auto& metrics = begin(name, help, type);
    for (const DeploymentSnapshot& deployment : snapshot_.deployments)
      metrics.push_back(value(type, number(deployment), labels_of(deployment)));
  }
  void add_requests(const char* name, const char* help) {
    auto& metrics = begin(name, help, MetricType::Histogram);
    for (const DeploymentSnapshot& deployment : snapshot_.deployments)
      metrics.push_back(
          histogram(deployment.requests, deployment.request_ns, labels_of(deployment)));
  }

  using OfInstance = std::function<double(const InstanceSnapshot&)>;
  void add_instances(const char* name, const char* help, MetricType type,
                     const OfInstance& number) {
    each_instance(begin(name, help, type), [&](const InstanceSnapshot& instance, Labels labels) {
      return value(type, number(instance), std::move(labels));
    });
  }
  void add_durations(const char* name, const char* help,
                     ipc::Histogram InstanceSnapshot::*durations,
                     std::uint64_t InstanceSnapshot::*sum_ns) {
    each_instance(begin(name, help, MetricType::Histogram),
                  [&](const InstanceSnapshot& instance, Labels labels) {
                    return histogram(instance.*durations, instance.*sum_ns, std::move(labels));
                  });
  }
  void add_states(const char* name, const char* help) {
    each_instance(begin(name, help, MetricType::Gauge),
                  [](const InstanceSnapshot& instance, Labels labels) {
                    labels.push_back({"state", instance.state});
                    return value(MetricType::Gauge, 1, std::move(labels));
                  });
  }

 private:
  std::vector<ClientMetric>& begin(const char* name, const char* help, MetricType type) {
    return families_.emplace_back(MetricFamily{name, help, type, {}}).metric;
  }
  static Labels labels_of(const DeploymentSnapshot& deployment) {
    return {{"deployment", deployment.name}};
  }
  template <class Make>
  void each_instance(std::vector<ClientMetric>& metrics, Make make) {
    for (const DeploymentSnapshot& deployment : snapshot_.deployments)
      for (const InstanceSnapshot& instance : deployment.instances) {
        Labels labels = labels_of(deployment);
        labels.push_back({"operator", instance.op});
        labels.push_back({"replica", std::to_string(instance.instance)});
        metrics.push_back(make(instance, std::move(labels)));
      }
  }

  const Snapshot& snapshot_;
  std::vector<MetricFamily> families_;
};

}  // namespace

std::vector<MetricFamily> metric_families(const Snapshot& snapshot) {
  using D = DeploymentSnapshot;
  using I = InstanceSnapshot;
  const auto as_double = [](auto member) {
    return [member](const auto& of) { return static_cast<double>(of.*member); };
  };
  Families all(snapshot);
  all.add("opsplit_build_info", "The version that runs.", 1, {{"version", OPSPLIT_VERSION}});
  all.add("opsplit_broker_up", "Whether the broker runs.", snapshot.broker ? 1 : 0);

  all.add_deployments("opsplit_deployment_ready", "Whether it takes requests.", MetricType::Gauge,
                      [](const D& d) { return d.phase == "ready" ? 1 : 0; });
  all.add_deployments("opsplit_requests_total",
                      "Requests that ended: answered, failed, cancelled, or of clients that died.",
                      MetricType::Counter, as_double(&D::requests_done));
  all.add_deployments("opsplit_requests_in_flight", "Slots that requests hold.", MetricType::Gauge,
                      as_double(&D::in_use));
  all.add_deployments("opsplit_slots", "Slots: requests that can be in flight at most.",
                      MetricType::Gauge, as_double(&D::depth));
  all.add_deployments("opsplit_clients", "Clients that are attached.", MetricType::Gauge,
                      as_double(&D::clients));
  all.add_requests("opsplit_request_seconds",
                   "Answered requests, from the submit to the last commit.");

  all.add_instances("opsplit_operator_up", "Whether the instance is ready.", MetricType::Gauge,
                    [](const I& i) { return i.state == "ready" ? 1 : 0; });
  all.add_states("opsplit_operator_state", "1 for the state that the instance is in.");
  all.add_instances("opsplit_operator_tasks_total", "Tasks done.", MetricType::Counter,
                    as_double(&I::tasks_done));
  all.add_durations("opsplit_operator_run_seconds", "Tasks, from claim to commit.", &I::run,
                    &I::busy_ns);
  all.add_durations("opsplit_operator_wait_seconds",
                    "Tasks, from the moment they could run to their claim.", &I::wait, &I::wait_ns);
  all.add_instances("opsplit_operator_cpu_seconds_total", "CPU time, spinning included.",
                    MetricType::Counter, [](const I& i) { return seconds(i.cpu_ns); });
  all.add_instances("opsplit_operator_resident_memory_bytes",
                    "Resident memory, without what is shared in /dev/shm.", MetricType::Gauge,
                    as_double(&I::memory_bytes));
  all.add_instances("opsplit_operator_copied_bytes_total", "Bytes that tasks had to copy.",
                    MetricType::Counter, as_double(&I::bytes_copied));
  all.add_instances("opsplit_operator_restarts_total", "Restarts after a death.",
                    MetricType::Counter, as_double(&I::restarts));
  return all.take();
}

std::string metrics_text(const Snapshot& snapshot) {
  return prometheus::TextSerializer().Serialize(metric_families(snapshot));
}

}  // namespace opsplit::daemon
