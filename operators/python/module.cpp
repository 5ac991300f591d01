// opsplit._core: what the Python package is made of. Its types are described in opsplit/_core.pyi.
#include <pybind11/pybind11.h>

#include "operators/python/client.hpp"
#include "operators/python/errors.hpp"
#include "operators/python/serve.hpp"
#include "operators/python/tensor.hpp"
#include "operators/python/test_kernel.hpp"

PYBIND11_MODULE(_core, module) {
  module.attr("__version__") = OPSPLIT_VERSION;
  opsplit::python::bind_errors(module);
  opsplit::python::bind_tensor(module);
  opsplit::python::bind_serve(module);
  opsplit::python::bind_client(module);
  opsplit::python::bind_test_kernel(module);
}
