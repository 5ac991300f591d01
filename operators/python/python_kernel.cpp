#include "operators/python/python_kernel.hpp"

#include <algorithm>

#include "operators/python/errors.hpp"

namespace opsplit::python {
namespace {

// More addresses than slots have places (64 at most) come where inputs must be converted.
constexpr std::size_t most_calls = 256;

// Unlike py::gil_scoped_acquire it does nothing but that: a hop is short.
class Gil {
 public:
  Gil() : state_(PyGILState_Ensure()) {}
  Gil(const Gil&) = delete;
  Gil& operator=(const Gil&) = delete;
  ~Gil() { PyGILState_Release(state_); }

 private:
  PyGILState_STATE state_;
};

}  // namespace

struct PythonKernel::Call {
  struct Held {
    py::object object;
    Tensor* tensor;
    std::string name;
    Py_ssize_t references = 0;  // ours, once all is made
  };
  std::vector<const void*> addresses;
  std::vector<Held> tensors;
  std::vector<std::pair<std::size_t, Tensor*>> varying;  // outputs, by position
  std::vector<py::object> owned;
  std::vector<PyObject*> arguments;  // the first is for the callee, which may use it for `self`

  ~Call() {
    for (const Held& held : tensors) held.tensor->drop_view();
  }
  [[nodiscard]] const Held* kept() const {
    for (const Held& held : tensors)
      if (held.tensor->is_kept(held.object.ptr(), held.references)) return &held;
    return nullptr;
  }
};

struct PythonKernel::Python {
  py::object function;
  py::tuple keyword_names;
  std::vector<py::object> keyword_values;
};

PythonKernel::PythonKernel(py::object function, Style style, const py::dict& keywords,
                           std::vector<Operand> inputs, std::vector<Operand> outputs,
                           std::shared_ptr<OperatorStream> stream)
    : style_(style),
      inputs_(std::move(inputs)),
      outputs_(std::move(outputs)),
      stream_(std::move(stream)),
      output_shapes_(outputs_.size()),
      python_(std::make_unique<Python>()) {
  python_->function = std::move(function);
  py::list names;
  if (style == Style::node) names.append("out");
  for (const auto& [name, value] : keywords) {
    names.append(name);
    python_->keyword_values.push_back(py::reinterpret_borrow<py::object>(value));
  }
  python_->keyword_names = py::tuple(names);
}

PythonKernel::~PythonKernel() {
  const Gil gil;
  calls_.clear();
  python_.reset();
}

Result<> PythonKernel::run(std::span<const operators::TensorView> inputs,
                           std::span<const operators::MutableTensorView> outputs) {
  bytes_copied_ = 0;
  const Gil gil;
  try {
    Call& prepared = call_for(inputs, outputs);
    for (const auto& [output, tensor] : prepared.varying) tensor->forget_size();
    auto done = call(prepared);
    for (const auto& [output, tensor] : prepared.varying)
      output_shapes_[output] = tensor->resized();
    if (auto kept = check_kept(prepared); done) done = kept;
    return done;
  } catch (const py::error_already_set& error) {  // of our own making: no memory, say
    return fail(ErrorCode::operator_failed, "{}", described(error));
  } catch (const std::exception& error) {
    return fail(ErrorCode::operator_failed, "{}", error.what());
  }
}

Result<> PythonKernel::call(Call& call) {
  const std::size_t keywords = python_->keyword_names.size();
  PyObject* result =
      PyObject_Vectorcall(python_->function.ptr(), call.arguments.data() + 1,
                          (call.arguments.size() - 1 - keywords) | PY_VECTORCALL_ARGUMENTS_OFFSET,
                          keywords == 0 ? nullptr : python_->keyword_names.ptr());
  if (result == Py_None) {
    Py_DECREF(result);
    return {};
  }
  if (result == nullptr) {
    const py::error_already_set error;
    const std::string text = described(error);
    report(error, text);
    return fail(ErrorCode::operator_failed, "{}", text);
  }
  const auto returned = py::reinterpret_steal<py::object>(result);
  if (!PyLong_CheckExact(result))
    return fail(
        ErrorCode::operator_failed,
        "it returned an object of type {}: whoever is given `out` writes there, and returns "
        "None",
        Py_TYPE(result)->tp_name);
  bytes_copied_ = returned.cast<std::uint64_t>();
  return {};
}

// What looks kept may only wait for the garbage collector.
Result<> PythonKernel::check_kept(Call& call) {
  if (call.kept() == nullptr) return {};
  py::module_::import("gc").attr("collect")();
  const Call::Held* kept = call.kept();
  if (kept == nullptr) return {};
  // Short, for there is room for 224 bytes on the board, and the node's name comes before it.
  auto error = fail(ErrorCode::operator_failed,
                    "{} is still in use after the call: keep a copy of it instead", kept->name);
  std::erase_if(calls_, [&](const auto& known) { return known.get() == &call; });
  return error;
}

// The client gets one line; where in the function it was is for the operator's log, once for each text.
void PythonKernel::report(const py::error_already_set& error, const std::string& text) {
  if (text == last_reported_) return;
  last_reported_ = text;
  try {
    py::module_::import("traceback")
        .attr("print_exception")(error.type(), error.value(), error.trace());
  } catch (const std::exception&) {
    return;  // nobody reads it, then
  }
}

PythonKernel::Call& PythonKernel::call_for(std::span<const operators::TensorView> inputs,
                                           std::span<const operators::MutableTensorView> outputs) {
  const auto is_for = [&](const std::unique_ptr<Call>& call) {
    auto address = call->addresses.begin();
    return std::ranges::all_of(inputs, [&](const auto& view) { return view.data == *address++; }) &&
           std::ranges::all_of(outputs, [&](const auto& view) { return view.data == *address++; });
  };
  if (const auto known = std::ranges::find_if(calls_, is_for); known != calls_.end())
    return **known;
  if (calls_.size() >= most_calls) calls_.clear();
  auto made = std::make_unique<Call>();
  fill(*made, inputs, outputs);
  for (Call::Held& held : made->tensors) held.references = Py_REFCNT(held.object.ptr());
  calls_.push_back(std::move(made));
  return *calls_.back();
}

void PythonKernel::fill(Call& call, std::span<const operators::TensorView> inputs,
                        std::span<const operators::MutableTensorView> outputs) const {
  const auto add = [&](const py::object& argument) {
    call.arguments.push_back(argument.ptr());
    call.owned.push_back(argument);
  };
  const auto tensor_at = [&](const std::byte* data, const Operand& operand, std::string name,
                             bool writable) -> py::object {
    call.addresses.push_back(data);
    if (!operand.present || data == nullptr) return py::none();
    auto tensor = std::make_unique<Tensor>(operand.type, const_cast<std::byte*>(data), writable,
                                           nullptr, stream_);
    tensor->keep_view();
    if (operand.varies) tensor->make_resizable(operand.name);
    Tensor* pointer = tensor.get();
    py::object object = py::cast(std::move(tensor));
    call.tensors.push_back({object, pointer, std::move(name)});
    return object;
  };
  py::tuple ins(inputs.size());
  py::tuple outs(outputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i)
    ins[i] = tensor_at(inputs[i].data, inputs_[i], fmt::format("input {}", i), false);
  for (std::size_t i = 0; i < outputs.size(); ++i)
    outs[i] = tensor_at(outputs[i].data, outputs_[i], fmt::format("output {}", i), true);
  for (std::size_t i = 0; i < outputs.size(); ++i)
    if (outputs_[i].varies) call.varying.emplace_back(i, &outs[i].cast<Tensor&>());
  call.arguments.push_back(nullptr);
  if (style_ == Style::task) {
    add(ins);
    add(outs);
    return;
  }
  for (const py::handle input : ins) add(py::reinterpret_borrow<py::object>(input));
  add(outs.size() == 1 ? py::object(outs[0]) : py::object(outs));
  for (const py::object& value : python_->keyword_values) add(value);
}

}  // namespace opsplit::python
