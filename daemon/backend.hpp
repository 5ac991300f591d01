// What computes an operator's tasks.
#pragma once

#include <filesystem>
#include <optional>
#include <string_view>

#include "base/error.hpp"

namespace opsplit::daemon {

enum class Backend {
  native,       // opsplit-operator: our own kernels
  attach,       // whoever attaches; opsplitd starts nobody
  onnxruntime,  // opsplit-operator-onnxruntime, of the Python package
  pytorch,      // opsplit-operator-pytorch, of it as well
  tensorflow,   // opsplit-operator-tensorflow
};

std::string_view to_string(Backend backend);
std::optional<Backend> backend_from_string(std::string_view name);
// "native, attach, onnxruntime, pytorch or tensorflow"
std::string backend_names();

// Whether an operator on a GPU can have it; opsplitd starts opsplit-operator-cuda where it is native.
constexpr bool runs_on_gpu(Backend backend) {
  return backend == Backend::native || backend == Backend::attach || backend == Backend::pytorch;
}

// The program that opsplitd starts for it: beside its own programs, or in PATH. Error not_found: it is not
// installed, and what to do. Not for `attach`; on a GPU for those that run there.
Result<std::filesystem::path> find_program(Backend backend, bool on_gpu,
                                           const std::filesystem::path& programs);

}  // namespace opsplit::daemon
