// From a deployment to what can be started: the model loaded, split and planned, the cores assigned.
// Takes seconds for a large model: opsplitd runs it on a thread of its own.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <string_view>

#include "base/plan.hpp"
#include "base/system.hpp"
#include "daemon/cores.hpp"
#include "daemon/deployment.hpp"
#include "graph/graph.hpp"

namespace opsplit::daemon {

// What the deployment file says of an operator, or the defaults.
OperatorSettings settings_of(const Deployment& deployment, std::string_view op);

// The file's own, which is another one where all operators are to attach.
Backend backend_in_file(const Deployment& deployment, std::string_view op);

// What `opsplit plan` shows; nothing is started or written.
struct Planned {
  Deployment deployment;
  graph::Graph graph;
  Plan plan;
  Topology topology;                            // that cores are assigned from
  std::vector<double> costs;                    // of each operator: estimated, later measured
  std::vector<CoreAssignment> cores;            // of each operator
  std::vector<std::set<std::string>> op_types;  // that each operator's nodes have, views aside
  // Of those, what opsplit has no kernels for. Such an operator runs on another backend: on ONNX Runtime
  // where the deployment file names none.
  std::vector<std::set<std::string>> foreign_types;
  std::uint64_t arena_bytes = 0;
  // Where the operators find weights; empty: in the deployment's folder.
  std::filesystem::path cache;         // as kernels want them
  std::filesystem::path weights_file;  // as they are
  // Keeps it, as long as operators may be restarted.
  std::shared_ptr<FileDescriptor> weights_held;
};

Result<Planned> plan_deployment(Deployment deployment);

// Whether our own kernels are to run nothing but what they can.
Result<> check_kernels(const Planned& planned);
// Whether all that opsplitd is to start is installed. `programs`: the folder of its own.
Result<> check_backends(const Deployment& deployment, const std::filesystem::path& programs);
// The same of what only the plan knows, and check_kernels(): the error says which ops ask for it.
Result<> check_backends(const Planned& planned, const std::filesystem::path& programs);

// Of all constants.
std::uint64_t weight_bytes(const graph::Graph& graph);

// Cores for each operator of the plan, by topology and costs, as `deployment` asks for them: the
// planned one, with other settings perhaps.
Result<std::vector<CoreAssignment>> assign_cores(const Planned& planned,
                                                 const Deployment& deployment);

// Plans, and writes the folder of the weight store: plan.json and the parts; the weights into the
// cache, a private folder on disk, if there is one. What is in the cache already is not made again: of
// a model that lies there, the file is only read to see that it still is the same. Checks first that
// /dev/shm has room: the error says how much is needed and found. The folder is removed again on any
// error.
// Operators that somebody else starts may not see the cache's folder: they have theirs in /dev/shm.
Result<Planned> prepare(Deployment deployment, const std::string& folder,
                        std::filesystem::path cache);

}  // namespace opsplit::daemon
