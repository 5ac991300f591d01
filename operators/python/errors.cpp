#include "operators/python/errors.hpp"

#include <algorithm>
#include <array>

namespace opsplit::python {
namespace {

struct Kind {
  ErrorCode code;
  const char* name;
  PyObject** also;  // a built-in exception that it is, too; null: none
  const char* doc;
};
const std::array kinds{
    Kind{ErrorCode::invalid_input, "InvalidInput", &PyExc_ValueError,
         "An argument or a tensor is not what it must be."},
    Kind{ErrorCode::unsupported, "Unsupported", nullptr,
         "It is valid, but nothing that opsplit does."},
    Kind{ErrorCode::not_found, "NotFound", &PyExc_LookupError,
         "There is no such deployment, operator or tensor."},
    Kind{ErrorCode::already_exists, "AlreadyExists", nullptr, "The name is taken."},
    Kind{ErrorCode::refused, "Refused", &PyExc_PermissionError,
         "Permission, version or peer do not match."},
    Kind{ErrorCode::limit_exceeded, "LimitExceeded", nullptr,
         "It does not fit into a limit that the message names."},
    Kind{ErrorCode::unavailable, "Unavailable", &PyExc_ConnectionError,
         "It does not run, or was busy for too long: every slot is taken, say."},
    Kind{ErrorCode::operator_failed, "OperatorFailed", nullptr,
         "An operator failed at the request; the message names it and has its last words."},
    Kind{ErrorCode::epoch_lost, "EpochLost", &PyExc_ConnectionError,
         "The deployment ended under the request, and there is no next one."},
    Kind{ErrorCode::timed_out, "TimedOut", &PyExc_TimeoutError, "The caller's time is over."},
    Kind{ErrorCode::system, "SystemFailed", &PyExc_OSError, "A system call failed."},
};
std::array<PyObject*, kinds.size()> types{};  // as long as the process

}  // namespace

void bind_errors(py::module_& module) {
  const auto add = [&](const char* name, const char* doc, PyObject* bases) {
    PyObject* type =
        PyErr_NewExceptionWithDoc((std::string("opsplit.") + name).c_str(), doc, bases, nullptr);
    if (type == nullptr) throw py::error_already_set();
    module.add_object(name, type);
    return type;
  };
  const py::handle base = add("Error", "What went wrong in opsplit, in one line.", PyExc_Exception);
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    py::tuple bases = py::make_tuple(base);
    if (kinds[i].also != nullptr) bases = py::make_tuple(base, py::handle(*kinds[i].also));
    types[i] = add(kinds[i].name, kinds[i].doc, bases.ptr());
  }
}

void raise(const Error& error) {
  for (std::size_t i = 0; i < kinds.size(); ++i)
    if (kinds[i].code == error.code) PyErr_SetString(types[i], error.message.c_str());
  throw py::error_already_set();
}

std::string described(const py::error_already_set& error) {
  std::string text = py::str(error.type().attr("__name__"));
  try {
    if (const std::string message = py::str(error.value()); !message.empty())
      text += ": " + message;
  } catch (const py::error_already_set&) {
    text += ", which has no text";
  }
  std::ranges::replace(text, '\n', ' ');
  return text;
}

}  // namespace opsplit::python
