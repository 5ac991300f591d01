// A task's nodes, compiled for this machine: fused, with layouts chosen, weights packed and
// intermediate memory planned once; run() then only computes.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.hpp"
#include "operators/kernel.hpp"

namespace opsplit::operators {

// Where packed weights lie: in the weight store that all instances share, or on the heap in tests.
// The same key always stands for the same bytes.
class PackedWeights {
 public:
  virtual ~PackedWeights() = default;
  // The bytes under `key`: as an earlier call, here or in another process, filled them, or as
  // `fill` writes them now. 64-byte aligned, read-only, valid as long as this object.
  virtual Result<std::span<const std::byte>> get(
      std::string_view key, std::uint64_t bytes,
      const std::function<Result<>(std::byte*)>& fill) = 0;
};

class HeapWeights final : public PackedWeights {
 public:
  HeapWeights();
  ~HeapWeights() override;
  Result<std::span<const std::byte>> get(std::string_view key, std::uint64_t bytes,
                                         const std::function<Result<>(std::byte*)>& fill) override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct KernelSpec;  // operators/kernels/kernel_spec.hpp

// Somebody else's kernels, by the ONNX op that they stand in for. Each is made for a node with concrete
// types; all its tensors are row-major, and nothing is fused into it or with it. An error keeps the
// operator from starting. Views are never run, whoever has a kernel for them.
using CustomKernels =
    std::map<std::string, std::function<Result<std::unique_ptr<Kernel>>(const KernelSpec&)>,
             std::less<>>;

struct CompileOptions {
  int threads = 1;
  PackedWeights* packed_weights = nullptr;  // not owned, outlives the program
  std::optional<Layout> image_layout = {};  // inside the task; by default what this CPU prefers
  const CustomKernels* custom = nullptr;    // instead of ours; not owned, for the time of the call
};

// A tensor at the edge of a task: a value of the part, and the layout that it has in its place.
struct EdgeTensor {
  std::string value;
  Layout layout = Layout::row_major;
};

// What a run and its caller tell each other.
struct RunContext {
  // Memory to compute in, 64-byte aligned, that others use before and after: hot in the caches. Where
  // it is too small, a program uses its own.
  std::span<std::byte> workspace = {};
  // The slot that the request is in; none: it is only tried, and all tensors lie in the host's memory.
  std::optional<std::uint32_t> slot = {};
  // How long whoever waits for a device may stay awake for it.
  std::uint64_t spin_ns = 0;
  // Set where nothing can be said of what was written, nor run again in this process: it must not commit,
  // and end.
  bool lost = false;
  // Called when the last kernel is about to run: the outputs will be there soon.
  std::function<void()> last_step_begins = {};
  // Inputs or outputs that could not be used where they lie: they came in another layout than agreed,
  // an output is a copy of something that lies elsewhere, or a custom kernel needs them row-major.
  std::uint64_t bytes_copied = 0;
  // The sizes of outputs that vary, this time: of each output, nothing for the others. Empty: none varies.
  std::vector<std::optional<Shape>> output_shapes = {};
  // Inputs or outputs in their agreed layout that the kernels computed in another one.
  std::uint64_t bytes_converted = 0;
};

class Program {
 public:
  // `nodes` are names of nodes of `part`, in execution order, the views between them included. The
  // part need not outlive the program. An error names the node that has no kernel, or whose
  // attributes or types none supports.
  static Result<std::unique_ptr<Program>> compile(const graph::Graph& part,
                                                  std::span<const std::string> nodes,
                                                  std::vector<EdgeTensor> inputs,
                                                  std::vector<EdgeTensor> outputs,
                                                  const CompileOptions& options);
  // The same of one kernel of somebody else's that runs all of the task: its inputs and outputs are the
  // edges in their order, row-major.
  static Result<std::unique_ptr<Program>> wrap(const graph::Graph& part,
                                               std::vector<EdgeTensor> inputs,
                                               std::vector<EdgeTensor> outputs,
                                               std::unique_ptr<Kernel> kernel,
                                               const CompileOptions& options);
  virtual ~Program() = default;

  // Views in the order of the edges given to compile(). An input may come in another layout than
  // agreed: it is converted, and counted in the report. Outputs are written in the agreed layout.
  // Not thread safe.
  virtual Result<> run(std::span<const TensorView> inputs,
                       std::span<const MutableTensorView> outputs, RunContext& context) = 0;
};

}  // namespace opsplit::operators
