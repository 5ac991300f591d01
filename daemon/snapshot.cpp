#include "daemon/snapshot.hpp"

#include <nlohmann/json.hpp>

namespace opsplit::daemon {
namespace {

using nlohmann::json;

std::uint64_t number(const json& object, const char* key) {
  return object.value(key, std::uint64_t{0});
}

ipc::Histogram histogram(const json& object, const char* key) {
  ipc::Histogram result;
  const json sparse = object.value(key, json::array());  // bucket, count, bucket, count ...
  for (std::size_t i = 0; i + 1 < sparse.size(); i += 2)
    result.counts.at(sparse.at(i).get<std::size_t>()) = sparse.at(i + 1).get<std::uint64_t>();
  return result;
}

InstanceSnapshot instance(const json& entry) {
  InstanceSnapshot result;
  result.op = entry.value("operator", "");
  result.instance = number(entry, "instance");
  result.state = entry.value("state", "");
  result.cores = entry.value("cores", "");
  result.restarts = number(entry, "restarts");
  result.in_flight = number(entry, "in_flight");
  result.tasks_done = number(entry, "tasks_done");
  result.bytes_copied = number(entry, "bytes_copied");
  result.cpu_ns = number(entry, "cpu_ns");
  result.memory_bytes = number(entry, "memory_bytes");
  result.busy_ns = number(entry, "busy_ns");
  result.wait_ns = number(entry, "wait_ns");
  result.run = histogram(entry, "run_histogram");
  result.wait = histogram(entry, "wait_histogram");
  return result;
}

DeploymentSnapshot deployment(const json& entry) {
  DeploymentSnapshot result;
  result.name = entry.value("name", "");
  result.phase = entry.value("phase", "");
  result.depth = number(entry, "depth");
  result.in_use = number(entry, "in_use");
  result.clients = number(entry, "clients");
  result.requests_done = number(entry, "requests_done");
  result.request_ns = number(entry, "request_ns");
  result.requests = histogram(entry, "request_histogram");
  for (const json& one : entry.value("instances", json::array()))
    result.instances.push_back(instance(one));
  return result;
}

}  // namespace

Result<Snapshot> snapshot_of(const json& reply) try {
  Snapshot result;
  result.time_ns = number(reply, "time_ns");
  result.broker = number(reply, "broker") != 0;
  for (const json& entry : reply.value("deployments", json::array()))
    result.deployments.push_back(deployment(entry));
  return result;
} catch (const std::exception& error) {
  return fail(ErrorCode::invalid_input, "opsplitd's answer is not understood: {}", error.what());
}

}  // namespace opsplit::daemon
