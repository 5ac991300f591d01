// Between our errors and Python's exceptions. All of it needs the GIL.
#pragma once

#include <pybind11/pybind11.h>

#include "base/error.hpp"

namespace opsplit::python {

namespace py = pybind11;

// opsplit.Error and a subclass for each ErrorCode.
void bind_errors(py::module_& module);

[[noreturn]] void raise(const Error& error);

template <class T>
T value_or_raise(Result<T> result) {
  if (!result) raise(result.error());
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

// "ValueError: the text", in one line.
std::string described(const py::error_already_set& error);

}  // namespace opsplit::python
