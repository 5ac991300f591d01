#include "operators/python/python_cuda_kernel.hpp"

#include <utility>

namespace opsplit::python {

PythonCudaKernel::PythonCudaKernel(py::object function, PythonKernel::Style style,
                                   const py::dict& keywords,
                                   std::vector<PythonKernel::Operand> inputs,
                                   std::vector<PythonKernel::Operand> outputs,
                                   std::shared_ptr<OperatorStream> stream)
    : stream_(stream),
      kernel_(std::move(function), style, keywords, std::move(inputs), std::move(outputs),
              std::move(stream)) {}

Result<> PythonCudaKernel::launch(std::span<const operators::cuda::DeviceView> inputs,
                                  std::span<const operators::cuda::MutableDeviceView> outputs,
                                  std::byte*, operators::cuda::Stream) {
  reads_.clear();
  writes_.clear();
  for (const operators::cuda::DeviceView& input : inputs)
    reads_.push_back({input.type, Layout::row_major, static_cast<const std::byte*>(input.data)});
  for (const operators::cuda::MutableDeviceView& output : outputs)
    writes_.push_back({output.type, Layout::row_major, static_cast<std::byte*>(output.data)});
  const auto done = kernel_.run(reads_, writes_);
  // After an error, too: what was enqueued before it writes to places that are others' afterwards.
  const auto taken_back = stream_->take_back();
  return done ? taken_back : done;
}

}  // namespace opsplit::python
