#include "daemon/gpu_report.hpp"

namespace opsplit::daemon {

std::vector<std::vector<std::string>> gpu_report(const Result<ipc::CudaMachine>& machine,
                                                 const std::vector<Result<>>& handles) {
  // Most machines have none: no reason to advise anything.
  if (!machine) return {{"GPU", "none: " + machine.error().message, ""}};
  std::vector<std::vector<std::string>> rows = {
      {"GPU driver",
       fmt::format("CUDA {}, built with {}", machine->driver_version, machine->runtime_version),
       ""}};
  for (std::size_t i = 0; i < machine->devices.size(); ++i) {
    const ipc::CudaDevice& device = machine->devices[i];
    rows.push_back(
        {fmt::format("GPU {}", i),
         fmt::format("{}: {}, {} MiB, sm {}{}", to_string(device.uuid), device.name,
                     device.total_bytes >> 20, device.compute_major, device.compute_minor),
         device.compute_major < 8 ? "opsplit's kernels need sm 80 or later" : ""});
    rows.push_back(
        {"  handles",
         handles[i] ? "another process opens its memory" : "do not work between processes",
         handles[i] ? "" : handles[i].error().message});
    std::string peers;
    for (std::size_t other = 0; other < machine->devices.size(); ++other)
      if (other != i && machine->peers[i][other])
        peers += " " + to_string(machine->devices[other].uuid);
    if (machine->devices.size() > 1)
      rows.push_back({"  peers", peers.empty() ? "reaches no other GPU" : "reaches" + peers, ""});
  }
  return rows;
}

}  // namespace opsplit::daemon
