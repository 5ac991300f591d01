#include "operators/python/test_kernel.hpp"

#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "operators/python/errors.hpp"
#include "operators/python/gpu.hpp"
#include "operators/python/python_cuda_kernel.hpp"
#include "operators/python/python_kernel.hpp"

namespace opsplit::python {
namespace {

using Tensors = std::vector<Tensor*>;

std::vector<PythonKernel::Operand> operands_of(const Tensors& tensors, bool varies) {
  std::vector<PythonKernel::Operand> result;
  for (const Tensor* tensor : tensors)
    result.push_back(
        tensor == nullptr
            ? PythonKernel::Operand{.type = {}, .present = false}
            : PythonKernel::Operand{.type = tensor->type(), .varies = varies, .name = "y"});
  return result;
}

PythonKernel::Style style_of(const std::string& style) {
  return style == "task" ? PythonKernel::Style::task : PythonKernel::Style::node;
}

class TestKernel {
 public:
  TestKernel(py::object function, const std::string& style, const py::dict& keywords,
             const Tensors& inputs, const Tensors& outputs, bool varies)
      : kernel_(std::move(function), style_of(style), keywords, operands_of(inputs, false),
                operands_of(outputs, varies)) {}

  std::uint64_t run(const Tensors& inputs, const Tensors& outputs) {
    std::vector<operators::TensorView> in;
    std::vector<operators::MutableTensorView> out;
    for (const Tensor* tensor : inputs)
      if (tensor == nullptr)
        in.push_back({});
      else
        in.push_back({tensor->type(), Layout::row_major, tensor->data()});
    for (const Tensor* tensor : outputs)
      out.push_back({tensor->type(), Layout::row_major, tensor->data()});
    Result<> done;
    {
      const py::gil_scoped_release no_gil;
      done = kernel_.run(in, out);
    }
    value_or_raise(std::move(done));
    return kernel_.bytes_copied();
  }

  [[nodiscard]] py::object output_shape(std::size_t output) const {
    const auto shape = kernel_.output_shape(output);
    return shape ? py::object(tuple_of(*shape)) : py::none();
  }

 private:
  PythonKernel kernel_;
};

// On the GPU of opsplit._cuda that has this name. The tensors only say types and addresses there.
class TestCudaKernel {
 public:
  TestCudaKernel(py::object function, const std::string& style, const py::dict& keywords,
                 const Tensors& inputs, const Tensors& outputs, const std::string& gpu,
                 std::uintptr_t stream)
      : driver_(open(gpu)),
        stream_(std::make_shared<OperatorStream>(*driver_, ipc::DeviceStream{stream})),
        kernel_(std::move(function), style_of(style), keywords, operands_of(inputs, false),
                operands_of(outputs, false), stream_) {}
  TestCudaKernel(const TestCudaKernel&) = delete;
  TestCudaKernel& operator=(const TestCudaKernel&) = delete;
  ~TestCudaKernel() { stream_->close(); }

  std::uint64_t run(const Tensors& inputs, const Tensors& outputs) {
    std::vector<operators::cuda::DeviceView> in;
    std::vector<operators::cuda::MutableDeviceView> out;
    for (const Tensor* tensor : inputs)
      if (tensor == nullptr)
        in.push_back({});
      else
        in.push_back({tensor->type(), tensor->data()});
    for (const Tensor* tensor : outputs) out.push_back({tensor->type(), tensor->data()});
    Result<> done;
    {
      const py::gil_scoped_release no_gil;
      done = kernel_.launch(in, out, nullptr, nullptr);
    }
    value_or_raise(std::move(done));
    return kernel_.bytes_copied();
  }

 private:
  static std::unique_ptr<ipc::DeviceDriver> open(const std::string& gpu) {
    Result<std::unique_ptr<ipc::DeviceDriver>> driver;
    {
      const py::gil_scoped_release no_gil;
      const auto imported = import_gpu();
      driver = imported
                   ? (*imported)->driver(gpu)
                   : Result<std::unique_ptr<ipc::DeviceDriver>>(tl::unexpected(imported.error()));
    }
    return value_or_raise(std::move(driver));
  }

  std::unique_ptr<ipc::DeviceDriver> driver_;
  std::shared_ptr<OperatorStream> stream_;
  PythonCudaKernel kernel_;
};

}  // namespace

void bind_test_kernel(py::module_& module) {
  py::class_<TestKernel>(module, "TestKernel", "A kernel as an operator runs it, for unit tests.")
      .def(py::init<py::object, const std::string&, const py::dict&, const Tensors&, const Tensors&,
                    bool>(),
           py::arg("function"), py::arg("style"), py::arg("keywords"), py::arg("inputs"),
           py::arg("outputs"), py::arg("varies") = false)
      .def("run", &TestKernel::run, py::arg("inputs"), py::arg("outputs"),
           "The bytes that it copied. Raises OperatorFailed.")
      .def("output_shape", &TestKernel::output_shape, py::arg("output"),
           "Of an output that varies, after run().");
  py::class_<TestCudaKernel>(module, "TestCudaKernel", "The same of an operator on a GPU.")
      .def(py::init<py::object, const std::string&, const py::dict&, const Tensors&, const Tensors&,
                    const std::string&, std::uintptr_t>(),
           py::arg("function"), py::arg("style"), py::arg("keywords"), py::arg("inputs"),
           py::arg("outputs"), py::arg("gpu"), py::arg("stream"))
      .def("run", &TestCudaKernel::run, py::arg("inputs"), py::arg("outputs"),
           "The bytes that it copied. Raises OperatorFailed.");
}

}  // namespace opsplit::python
