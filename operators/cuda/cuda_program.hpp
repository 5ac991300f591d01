// A task's nodes, compiled for a GPU: fused, with constants uploaded and intermediate memory planned once;
// run() then only enqueues.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "graph/graph.hpp"
#include "operators/cuda/cuda_kernel.hpp"
#include "operators/cuda/gpu.hpp"
#include "operators/program.hpp"

namespace opsplit::operators::cuda {

// The constants that programs of one process read, each in device memory once, as long as this.
class DeviceConstants {
 public:
  explicit DeviceConstants(Gpu& gpu) : gpu_(gpu) {}
  Result<const std::byte*> get(const graph::Constant& constant);

 private:
  struct Uploaded {
    std::shared_ptr<const void> owner;  // while it lives, the address means these bytes
    std::shared_ptr<std::byte> memory;
  };
  Gpu& gpu_;
  std::map<std::pair<const std::byte*, std::size_t>, Uploaded> uploaded_;
};

// Somebody else's kernels, by the ONNX op that they stand in for, as CustomKernels on the CPU: nothing is fused
// into one or with it, and an error keeps the operator from starting.
using CustomCudaKernels =
    std::map<std::string, std::function<Result<std::unique_ptr<CudaKernel>>(const KernelSpec&)>,
             std::less<>>;

// Nodes that only the CPU's kernels do not take are foreign to a graph, and not to a GPU: they get their names
// back.
void adopt_foreign_nodes(graph::Graph& part);

class CudaProgram {
 public:
  // As Program::compile, of a part whose nodes have been adopted; all edges are row-major. `gpu` and `constants`
  // outlive the program, the part and `custom` need not. An error names the node that has no kernel, or whose
  // attributes or types none supports.
  static Result<std::unique_ptr<CudaProgram>> compile(const graph::Graph& part,
                                                      std::span<const std::string> nodes,
                                                      std::vector<EdgeTensor> inputs,
                                                      std::vector<EdgeTensor> outputs, Gpu& gpu,
                                                      DeviceConstants& constants,
                                                      const CustomCudaKernels& custom = {});
  // The same of one kernel of somebody else's that runs all of the task: its inputs and outputs are the edges in
  // their order.
  static Result<std::unique_ptr<CudaProgram>> wrap(const graph::Graph& part,
                                                   std::vector<EdgeTensor> inputs,
                                                   std::vector<EdgeTensor> outputs,
                                                   std::unique_ptr<CudaKernel> kernel);
  virtual ~CudaProgram() = default;

  // Device memory that a run needs to compute in: what lies between its steps, and what they themselves
  // need. Constants are apart. Programs of which one runs at a time can share it.
  [[nodiscard]] virtual std::uint64_t workspace_bytes() const = 0;
  // What run() launches, one after the other: a step may enqueue several kernels.
  [[nodiscard]] virtual std::size_t steps() const = 0;

  // Enqueues, and never waits. Views in the order of the edges given to compile(), 256-byte aligned or,
  // more slowly, as their elements need; `workspace` has workspace_bytes() bytes, 256-byte aligned, that
  // nobody else uses until the work has run. One run's work has to end before the next one's begins:
  // enqueue on one stream. After an error nothing is known of the outputs, nor of what still runs.
  virtual Result<> run(std::span<const DeviceView> inputs,
                       std::span<const MutableDeviceView> outputs, std::byte* workspace,
                       Stream stream) = 0;

  // Of the last run: what its kernels have copied.
  [[nodiscard]] virtual std::uint64_t bytes_copied() const = 0;
};

}  // namespace opsplit::operators::cuda
