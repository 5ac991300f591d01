// What an operator host runs: the tasks of one operator.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/plan.hpp"
#include "operators/kernel.hpp"
#include "operators/kernels/kernel_spec.hpp"
#include "operators/program.hpp"
#include "operators/thread_placement.hpp"

namespace opsplit::ipc {
struct Attachment;
}

namespace opsplit::operators {

class Operator {
 public:
  virtual ~Operator() = default;

  // Once, before it runs what lies in slots: the host's arena, which lives longer.
  virtual Result<> use_arena(std::span<std::byte> /*arena*/) { return {}; }

  // Whether it may fail on made-up inputs although it can run: it has nodes of which opsplit knows nothing but the
  // sizes that the model declares.
  [[nodiscard]] virtual bool is_picky(std::size_t /*task*/) const { return false; }

  // Runs a task, by its position in PlannedOperator::tasks. Inputs and outputs are those of the
  // PlannedTask, in its order; inputs may be in any layout that their headers say, outputs are to be
  // written in the layout of their views. Only called from one thread. An error fails the request,
  // not the operator, unless it says that the process is lost. It should say when its last step begins, and
  // must count what it copies, and give the sizes of outputs that vary. Views of what lies on a GPU only have
  // no data: it is found by context.slot.
  virtual Result<> run(std::size_t task, std::span<const TensorView> inputs,
                       std::span<const MutableTensorView> outputs, RunContext& context) = 0;
};

// After a run of the task: the sizes of output `index`, which varies. Error: nobody has said them.
Result<Shape> varying_shape(const Plan& plan, const PlannedTask& task, std::size_t index,
                            const RunContext& context);

// What an operator is made from.
struct OperatorSpec {
  const Plan& plan;
  const PlannedOperator& op;
  std::filesystem::path part;            // its ONNX model
  std::filesystem::path weights_folder;  // of the files that it refers to
  int threads;
  PackedWeights& packed_weights;
  ThreadPlacement& placement;  // to be spread for tasks on several threads; outlives the operator
  const ipc::Attachment* attachment = nullptr;  // what opsplitd said, for whoever runs on a GPU
};

// Every task compiled into a Program of our own kernels, but where there are custom ones.
Result<std::unique_ptr<Operator>> make_native_operator(const OperatorSpec& spec,
                                                       const CustomKernels& custom = {});

struct NamedType {
  std::string name;
  TensorType type;
  bool varies = false;  // PlannedTensor::varies
};

// A task as whoever runs all of it sees it.
struct TaskSpec {
  std::string name;
  // Makes a serialized ONNX model of just this task, weights included: up to 2 GiB, so only for who reads it.
  std::function<Result<std::string>()> model = {};
  // The same as nodes, views included, in the order of execution; their operands are known by name.
  std::vector<KernelSpec> nodes = {};
  std::vector<NamedType> inputs = {}, outputs = {};
  int threads = 1;
};

// Whether opsplit knows nothing of some of its nodes but the sizes that the model declares (Operator::is_picky()).
bool has_unknown_nodes(const graph::Graph& part, const PlannedTask& task);
// Calls `use` with the description, which lives that long; its error says which task it was.
Result<> describe_task(const OperatorSpec& spec, const graph::Graph& part, const PlannedTask& task,
                       int threads, const std::function<Result<>(const TaskSpec&)>& use);

// Called for each task; an error keeps the operator from starting. Model, nodes and constants are there for the
// time of the call, a constant's bytes as long as its owner. The kernel gets the task's inputs and outputs in
// the order of the spec, row-major.
using MakeTaskKernel = std::function<Result<std::unique_ptr<Kernel>>(const TaskSpec&)>;

// Every task run by one kernel of somebody else's.
Result<std::unique_ptr<Operator>> make_backend_operator(const OperatorSpec& spec,
                                                        const MakeTaskKernel& make);

}  // namespace opsplit::operators
