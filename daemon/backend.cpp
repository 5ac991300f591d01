#include "daemon/backend.hpp"

#include <fmt/ranges.h>
#include <unistd.h>

#include <array>
#include <boost/process/search_path.hpp>

namespace opsplit::daemon {
namespace {

constexpr std::array<std::string_view, 5> names = {"native", "attach", "onnxruntime", "pytorch",
                                                   "tensorflow"};

}  // namespace

std::string_view to_string(Backend backend) { return names[static_cast<std::size_t>(backend)]; }

std::optional<Backend> backend_from_string(std::string_view name) {
  for (std::size_t i = 0; i < names.size(); ++i)
    if (names[i] == name) return static_cast<Backend>(i);
  return std::nullopt;
}

std::string backend_names() {
  return fmt::format("{} or {}", fmt::join(names.begin(), names.end() - 1, ", "), names.back());
}

Result<std::filesystem::path> find_program(Backend backend, bool on_gpu,
                                           const std::filesystem::path& programs) {
  if (backend == Backend::native && !on_gpu) return programs / "opsplit-operator";
  const bool is_cuda = backend == Backend::native;
  const std::string name =
      fmt::format("opsplit-operator-{}", is_cuda ? "cuda" : to_string(backend));
  if (::access((programs / name).c_str(), X_OK) == 0) return programs / name;
  const auto found = boost::process::search_path(name);
  if (!found.empty()) return std::filesystem::path(found.native());
  if (is_cuda)
    return fail(ErrorCode::not_found,
                "there is no {} beside opsplitd or in its PATH: this opsplit is built without "
                "kernels for GPUs, which need the CUDA Toolkit, cuDNN and cuBLAS",
                name);
  return fail(ErrorCode::not_found,
              "backend {} is not installed: there is no {} beside opsplitd or in its PATH (`pip "
              "install` opsplit's Python package with {}, and start opsplitd from there)",
              to_string(backend), name, to_string(backend));
}

}  // namespace opsplit::daemon
