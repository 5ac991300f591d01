// The GPU of a program in Python that runs an operator there.
//
// CUDA is in a module of its own, opsplit._cuda, which is imported once there is such an operator: it has an OpenGpu in
// a capsule, and nothing else.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "operators/cuda/gpu_site.hpp"
#include "operators/python/operator_stream.hpp"

namespace opsplit::python {

namespace py = pybind11;

// The capsule's name: modules of two versions do not meet.
inline constexpr const char* gpu_capsule = "opsplit " OPSPLIT_VERSION " OpenGpu";

// opsplit._cuda.gpu, for as long as the process. Without the GIL, which it takes. Error unsupported: it cannot be
// imported, or is another version's; the message says what to install.
Result<const operators::cuda::OpenGpu*> import_gpu();

// What an operator's process has of its GPU. It outlives the operator.
class OperatorGpu {
 public:
  OperatorGpu() = default;
  OperatorGpu(const OperatorGpu&) = delete;
  OperatorGpu& operator=(const OperatorGpu&) = delete;
  ~OperatorGpu();

  // Opens it, where that has not happened yet. Without the GIL.
  Result<operators::cuda::GpuSite> site(const operators::OperatorSpec& spec);
  // After that.
  [[nodiscard]] const std::shared_ptr<OperatorStream>& stream() const { return stream_; }

 private:
  operators::cuda::OpenedGpu opened_;
  std::shared_ptr<OperatorStream>
      stream_;  // closed before it: whoever has kept a tensor has it still
};

}  // namespace opsplit::python
