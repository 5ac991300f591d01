// ONNX models, from the file to the plan: import, shapes, simplification, each split, the plan.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

#include "base/system.hpp"
#include "graph/model.hpp"
#include "graph/planner.hpp"
#include "graph/split.hpp"

using namespace opsplit;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const FileDescriptor file(::memfd_create("model", MFD_CLOEXEC));
  if (!file || ::write(file.get(), data, size) != static_cast<ssize_t>(size)) std::abort();
  const auto graph =
      graph::load_model(fmt::format("/proc/self/fd/{}", file.get()), {}, graph::infer_by_onnx);
  if (!graph) return 0;
  for (const char* name : {"fused", "by-type", "per-node", "stages:3"}) {
    const auto spec = graph::parse_split(name);
    if (!spec) std::abort();
    const auto plan = graph::make_plan(*graph, *spec, {});
    if (plan && !validate(*plan)) std::abort();
  }
  return 0;
}
