// Processes that run operators, from Python: main() of opsplit.main() and opsplit.run_backend().
#pragma once

#include <pybind11/pybind11.h>

namespace opsplit::python {

namespace py = pybind11;

void bind_serve(py::module_& module);

}  // namespace opsplit::python
