#include "operators/python/gpu.hpp"

#include "operators/python/errors.hpp"

namespace opsplit::python {

Result<const operators::cuda::OpenGpu*> import_gpu() {
  const py::gil_scoped_acquire gil;
  try {
    const py::object gpu = py::module_::import("opsplit._cuda").attr("gpu");
    void* const open = PyCapsule_GetPointer(gpu.ptr(), gpu_capsule);
    if (open == nullptr) throw py::error_already_set();
    return static_cast<const operators::cuda::OpenGpu*>(open);
  } catch (const py::error_already_set& error) {
    return fail(ErrorCode::unsupported,
                "opsplit's Python package cannot use a GPU ({}): build it again, or `pip install` "
                "it, on a machine with the CUDA Toolkit",
                described(error));
  }
}

OperatorGpu::~OperatorGpu() {
  if (stream_) stream_->close();
}

Result<operators::cuda::GpuSite> OperatorGpu::site(const operators::OperatorSpec& spec) {
  OPSPLIT_TRY(const operators::cuda::OpenGpu* open, import_gpu());
  OPSPLIT_TRY(const operators::cuda::GpuSite site, opened_.site(spec, *open));
  if (!stream_) stream_ = std::make_shared<OperatorStream>(site.driver, site.stream);
  return site;
}

}  // namespace opsplit::python
