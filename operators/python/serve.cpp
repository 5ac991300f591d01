#include "operators/python/serve.hpp"

#include <pybind11/stl.h>

#include <map>
#include <string>
#include <variant>
#include <vector>

#include "ipc/session.hpp"
#include "operators/cuda/gpu_operator.hpp"
#include "operators/kernels/kernel_spec.hpp"
#include "operators/operator_main.hpp"
#include "operators/python/errors.hpp"
#include "operators/python/gpu.hpp"
#include "operators/python/python_cuda_kernel.hpp"
#include "operators/python/python_kernel.hpp"

namespace opsplit::python {
namespace {

using OnStream = std::shared_ptr<OperatorStream>;

// A constant of the model, which lives as long as somebody looks at it.
py::object array_of(const graph::Constant& constant) {
  auto tensor = std::make_unique<Tensor>(
      constant.type, const_cast<std::byte*>(constant.bytes.data()), false, constant.owner);
  py::object object = py::cast(std::move(tensor));
  // NumPy has no bfloat16, the tensor does.
  return constant.type.dtype == bfloat16 ? object : Tensor::numpy(object);
}

// (name, dtype, shape, constant or None), or None where it is absent.
py::object operand_of(const operators::Operand& operand) {
  if (!operand.present) return py::none();
  return py::make_tuple(
      operand.name, numpy_dtype(operand.type.dtype), tuple_of(operand.type.shape),
      operand.constant == nullptr ? py::object(py::none()) : array_of(*operand.constant));
}

// (number, stream) of the GPU, or None.
py::object gpu_of(const OnStream& stream) {
  if (!stream) return py::none();
  return py::make_tuple(stream->device(), static_cast<std::uintptr_t>(stream->number()));
}

py::object node_of(const operators::KernelSpec& spec, const OnStream& stream) {
  py::dict attributes;
  const std::map<std::string, graph::Attribute, std::less<>>
      none;  // what is in a bundle is nobody's
  for (const auto& [name, value] : graph::is_bundle(*spec.node) ? none : spec.node->attributes)
    attributes[py::str(name)] = std::visit(
        [](const auto& known) -> py::object {
          if constexpr (std::is_same_v<std::decay_t<decltype(known)>, graph::Constant>)
            return array_of(known);
          else
            return py::cast(known);
        },
        value);
  const auto operands = [](const std::vector<operators::Operand>& all) {
    py::tuple result(all.size());
    for (std::size_t i = 0; i < all.size(); ++i) result[i] = operand_of(all[i]);
    return result;
  };
  // A bundle is nothing that a table of ops has, even if it is named after one.
  const std::string_view op_type =
      graph::is_bundle(*spec.node) ? spec.node->op_type : graph::named_op_type(*spec.node);
  return py::make_tuple(spec.node->name, py::str(std::string(op_type)), spec.opset, attributes,
                        operands(spec.inputs), operands(spec.outputs), gpu_of(stream));
}

std::vector<PythonKernel::Operand> operands(const std::vector<operators::Operand>& all) {
  std::vector<PythonKernel::Operand> result;
  for (const operators::Operand& operand : all) result.push_back({operand.type, operand.present});
  return result;
}

std::vector<PythonKernel::Operand> operands(const std::vector<operators::NamedType>& all) {
  std::vector<PythonKernel::Operand> result;
  for (const operators::NamedType& named : all)
    result.push_back({.type = named.type, .varies = named.varies, .name = named.name});
  return result;
}

// Calls what makes a kernel, with the GIL; an exception is why there is none.
template <class Make>
auto guarded(Make make) -> Result<decltype(make())> {
  const py::gil_scoped_acquire gil;
  try {
    return make();
  } catch (const py::error_already_set& error) {
    PyErr_Clear();
    return fail(ErrorCode::invalid_input, "its kernel was not made: {}", described(error));
  } catch (const std::exception& error) {  // what came back is not what must
    return fail(ErrorCode::invalid_input, "its kernel was not made: {}", error.what());
  }
}

// On the CPU, or, where a kernel is to be for a GPU, on the stream there.
template <class Kernel>
std::unique_ptr<Kernel> kernel_of(const py::object& function, PythonKernel::Style style,
                                  const py::dict& keywords,
                                  std::vector<PythonKernel::Operand> inputs,
                                  std::vector<PythonKernel::Operand> outputs,
                                  const OnStream& stream) {
  return std::make_unique<Kernel>(function, style, keywords, std::move(inputs), std::move(outputs),
                                  stream);
}

// prepare(node) -> (function, keywords)
template <class Kernel>
auto make_node_kernel(const py::object& prepare, const operators::KernelSpec& spec,
                      const OnStream& stream) {
  return guarded([&] {
    const auto [function, keywords] =
        prepare(node_of(spec, stream)).cast<std::pair<py::object, py::dict>>();
    return kernel_of<Kernel>(function, PythonKernel::Style::node, keywords, operands(spec.inputs),
                             operands(spec.outputs), stream);
  });
}

// A function that gives the task's model for as long as this lives; whoever keeps it longer gets an exception.
class ModelFunction {
 public:
  explicit ModelFunction(const operators::TaskSpec& spec)
      : spec_(std::make_shared<const operators::TaskSpec*>(&spec)) {}
  ModelFunction(const ModelFunction&) = delete;
  ModelFunction& operator=(const ModelFunction&) = delete;
  ~ModelFunction() { *spec_ = nullptr; }

  [[nodiscard]] py::cpp_function function() const {
    return py::cpp_function([spec = spec_] {
      if (*spec == nullptr)
        raise({ErrorCode::unavailable,
               "a task's model is there until its callable is made: take it before"});
      return py::bytes(value_or_raise((*spec)->model()));
    });
  }

 private:
  std::shared_ptr<const operators::TaskSpec*> spec_;
};

// make((name, function that gives the model, inputs, outputs, threads, nodes, gpu)) -> function
template <class Kernel>
auto make_task_kernel(const py::object& make, const operators::TaskSpec& spec,
                      const OnStream& stream) {
  return guarded([&] {
    const ModelFunction model(spec);
    const auto described = [](const std::vector<operators::NamedType>& tensors) {
      py::tuple result(tensors.size());
      for (std::size_t i = 0; i < tensors.size(); ++i)
        result[i] = py::make_tuple(tensors[i].name, numpy_dtype(tensors[i].type.dtype),
                                   tuple_of(tensors[i].type.shape), tensors[i].varies);
      return result;
    };
    py::tuple nodes(spec.nodes.size());
    for (std::size_t i = 0; i < spec.nodes.size(); ++i) nodes[i] = node_of(spec.nodes[i], stream);
    const py::object function =
        make(py::make_tuple(spec.name, model.function(), described(spec.inputs),
                            described(spec.outputs), spec.threads, nodes, gpu_of(stream)));
    return kernel_of<Kernel>(function, PythonKernel::Style::task, py::dict(), operands(spec.inputs),
                             operands(spec.outputs), stream);
  });
}

// With the GIL given up for as long as it serves: kernels take it.
int serve(std::vector<std::string> arguments, const operators::OperatorKind& kind) {
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const py::gil_scoped_release no_gil;
  return operators::operator_main(static_cast<int>(arguments.size()), argv.data(), kind);
}

bool has_gpu(const operators::OperatorSpec& spec) {
  return spec.attachment != nullptr && spec.attachment->gpu.has_value();
}

int operator_main(const std::vector<std::string>& arguments,
                  const std::map<std::string, py::object>& prepare, bool gpu) {
  operators::CustomKernels custom;
  for (const auto& [op_type, prepare_one] : prepare)
    custom.emplace(op_type, [&prepare_one = prepare_one](const operators::KernelSpec& spec) {
      return make_node_kernel<PythonKernel>(prepare_one, spec, nullptr);
    });
  operators::OperatorKind kind = operators::kind_of(custom);
  kind.runs_on.gpu = gpu;
  OperatorGpu its_gpu;
  kind.make =
      [&, on_cpus = kind.make](
          const operators::OperatorSpec& spec) -> Result<std::unique_ptr<operators::Operator>> {
    if (!has_gpu(spec)) return on_cpus(spec);
    OPSPLIT_TRY(const operators::cuda::GpuSite site, its_gpu.site(spec));
    operators::cuda::CustomCudaKernels on_gpu;
    for (const auto& [op_type, prepare_one] : prepare)
      on_gpu.emplace(op_type, [&](const operators::KernelSpec& node) {
        return make_node_kernel<PythonCudaKernel>(prepare_one, node, its_gpu.stream());
      });
    return operators::cuda::make_gpu_operator(spec, site, on_gpu);
  };
  return serve(arguments, kind);
}

int backend_main(const std::vector<std::string>& arguments, const py::object& make, bool gpu) {
  OperatorGpu its_gpu;
  const auto make_operator =
      [&](const operators::OperatorSpec& spec) -> Result<std::unique_ptr<operators::Operator>> {
    if (!has_gpu(spec))
      return operators::make_backend_operator(spec, [&](const operators::TaskSpec& task) {
        return make_task_kernel<PythonKernel>(make, task, nullptr);
      });
    OPSPLIT_TRY(const operators::cuda::GpuSite site, its_gpu.site(spec));
    return operators::cuda::make_gpu_backend_operator(
        spec, site, [&](const operators::TaskSpec& task) {
          return make_task_kernel<PythonCudaKernel>(make, task, its_gpu.stream());
        });
  };
  return serve(arguments, {make_operator, {"*"}, /*for_threads=*/true, {.gpu = gpu}});
}

}  // namespace

void bind_serve(py::module_& module) {
  module.def("operator_main", &operator_main, py::arg("argv"), py::arg("operators"),
             py::arg("gpu"));
  module.def("backend_main", &backend_main, py::arg("argv"), py::arg("make_task"), py::arg("gpu"));
}

}  // namespace opsplit::python
