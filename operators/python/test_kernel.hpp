// Kernels outside any process of opsplit, for unit tests in Python of what they are made from.
#pragma once

#include <pybind11/pybind11.h>

namespace opsplit::python {

namespace py = pybind11;

void bind_test_kernel(py::module_& module);

}  // namespace opsplit::python
