#include "operators/python/serve.hpp"

#include <pybind11/stl.h>

#include <map>
#include <string>
#include <variant>
#include <vector>

#include "operators/kernels/kernel_spec.hpp"
#include "operators/operator_main.hpp"
#include "operators/python/errors.hpp"
#include "operators/python/python_kernel.hpp"

namespace opsplit::python {
namespace {

using Kernels = std::unique_ptr<operators::Kernel>;

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

py::object node_of(const operators::KernelSpec& spec) {
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
                        operands(spec.inputs), operands(spec.outputs));
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
Result<Kernels> guarded(Make make) {
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

// prepare(node) -> (function, keywords)
Result<Kernels> make_node_kernel(const py::object& prepare, const operators::KernelSpec& spec) {
  return guarded([&]() -> Kernels {
    const auto [function, keywords] =
        prepare(node_of(spec)).cast<std::pair<py::object, py::dict>>();
    return std::make_unique<PythonKernel>(function, PythonKernel::Style::node, keywords,
                                          operands(spec.inputs), operands(spec.outputs));
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

// make((name, function that gives the model, inputs, outputs, threads, nodes)) -> function
Result<Kernels> make_task_kernel(const py::object& make, const operators::TaskSpec& spec) {
  return guarded([&]() -> Kernels {
    const ModelFunction model(spec);
    const auto described = [](const std::vector<operators::NamedType>& tensors) {
      py::tuple result(tensors.size());
      for (std::size_t i = 0; i < tensors.size(); ++i)
        result[i] = py::make_tuple(tensors[i].name, numpy_dtype(tensors[i].type.dtype),
                                   tuple_of(tensors[i].type.shape), tensors[i].varies);
      return result;
    };
    py::tuple nodes(spec.nodes.size());
    for (std::size_t i = 0; i < spec.nodes.size(); ++i) nodes[i] = node_of(spec.nodes[i]);
    const py::object function =
        make(py::make_tuple(spec.name, model.function(), described(spec.inputs),
                            described(spec.outputs), spec.threads, nodes));
    return std::make_unique<PythonKernel>(function, PythonKernel::Style::task, py::dict(),
                                          operands(spec.inputs), operands(spec.outputs));
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

int operator_main(const std::vector<std::string>& arguments,
                  const std::map<std::string, py::object>& prepare) {
  operators::CustomKernels custom;
  for (const auto& [op_type, prepare_one] : prepare)
    custom.emplace(op_type, [&prepare_one = prepare_one](const operators::KernelSpec& spec) {
      return make_node_kernel(prepare_one, spec);
    });
  return serve(arguments, operators::kind_of(custom));
}

int backend_main(const std::vector<std::string>& arguments, const py::object& make) {
  const operators::MakeTaskKernel make_kernel = [&make](const operators::TaskSpec& spec) {
    return make_task_kernel(make, spec);
  };
  return serve(arguments, {[&make_kernel](const operators::OperatorSpec& spec) {
                             return operators::make_backend_operator(spec, make_kernel);
                           },
                           {"*"}});
}

// A kernel outside any process of opsplit, for unit tests of it.
class TestKernel {
 public:
  TestKernel(py::object function, const std::string& style, const py::dict& keywords,
             const std::vector<Tensor*>& inputs, const std::vector<Tensor*>& outputs, bool varies)
      : kernel_(std::move(function),
                style == "task" ? PythonKernel::Style::task : PythonKernel::Style::node, keywords,
                operands_of(inputs, false), operands_of(outputs, varies)) {}

  std::uint64_t run(const std::vector<Tensor*>& inputs, const std::vector<Tensor*>& outputs) {
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
  static std::vector<PythonKernel::Operand> operands_of(const std::vector<Tensor*>& tensors,
                                                        bool varies) {
    std::vector<PythonKernel::Operand> result;
    for (const Tensor* tensor : tensors)
      result.push_back(
          tensor == nullptr
              ? PythonKernel::Operand{.type = {}, .present = false}
              : PythonKernel::Operand{.type = tensor->type(), .varies = varies, .name = "y"});
    return result;
  }

  PythonKernel kernel_;
};

}  // namespace

void bind_serve(py::module_& module) {
  module.def("operator_main", &operator_main, py::arg("argv"), py::arg("operators"));
  module.def("backend_main", &backend_main, py::arg("argv"), py::arg("make_task"));
  py::class_<TestKernel>(module, "TestKernel", "A kernel as an operator runs it, for unit tests.")
      .def(py::init<py::object, const std::string&, const py::dict&, const std::vector<Tensor*>&,
                    const std::vector<Tensor*>&, bool>(),
           py::arg("function"), py::arg("style"), py::arg("keywords"), py::arg("inputs"),
           py::arg("outputs"), py::arg("varies") = false)
      .def("run", &TestKernel::run, py::arg("inputs"), py::arg("outputs"),
           "The bytes that it copied. Raises OperatorFailed.")
      .def("output_shape", &TestKernel::output_shape, py::arg("output"),
           "Of an output that varies, after run().");
}

}  // namespace opsplit::python
