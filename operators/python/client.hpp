// The client library for Python; opsplit/_client.py makes it comfortable.
#pragma once

#include <pybind11/pybind11.h>

namespace opsplit::python {

namespace py = pybind11;

void bind_client(py::module_& module);

}  // namespace opsplit::python
