#include "daemon/gpu_report.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace opsplit::daemon {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr auto first_name = "GPU-01000000-0000-0000-0000-000000000000";
constexpr auto second_name = "GPU-02000000-0000-0000-0000-000000000000";

ipc::CudaMachine machine_of(int devices) {
  ipc::CudaMachine machine{"12.8", "13.0", {}, {}};
  for (int i = 0; i < devices; ++i) {
    ipc::CudaDevice device;
    device.uuid.bytes[0] = static_cast<std::uint8_t>(i + 1);
    device.name = "NVIDIA A100";
    device.total_bytes = std::uint64_t{40} << 30;
    device.compute_major = 8;
    machine.devices.push_back(device);
    machine.peers.emplace_back(static_cast<std::size_t>(devices), true);
  }
  return machine;
}

TEST(GpuReport, WithoutAGpuOneLineSaysWhy) {
  const auto rows =
      gpu_report(fail(ErrorCode::unavailable, "no NVIDIA driver on this machine"), {});
  EXPECT_THAT(rows, ElementsAre(ElementsAre("GPU", "none: no NVIDIA driver on this machine", "")));
}

TEST(GpuReport, ADeviceIsNamedByItsUuid) {
  const auto rows = gpu_report(machine_of(1), {{}});
  EXPECT_THAT(
      rows,
      ElementsAre(
          ElementsAre("GPU driver", "CUDA 12.8, built with 13.0", ""),
          ElementsAre("GPU 0", first_name + std::string(": NVIDIA A100, 40960 MiB, sm 80"), ""),
          ElementsAre("  handles", "another process opens its memory", "")));
}

TEST(GpuReport, SaysWhyHandlesDoNotWork) {
  const auto rows = gpu_report(machine_of(1), {fail(ErrorCode::refused, "not in this container")});
  EXPECT_THAT(rows[2],
              ElementsAre("  handles", "do not work between processes", "not in this container"));
}

TEST(GpuReport, AnOldDeviceIsNamed) {
  auto machine = machine_of(1);
  machine.devices[0].compute_major = 7;
  EXPECT_THAT(gpu_report(machine, {{}})[1][2], HasSubstr("sm 80"));
}

TEST(GpuReport, PeersAreThoseThatEachReaches) {
  auto machine = machine_of(2);
  machine.peers[1][0] = false;
  const auto rows = gpu_report(machine, {{}, {}});
  ASSERT_EQ(rows.size(), 7u);
  EXPECT_THAT(rows[3], ElementsAre("  peers", "reaches " + std::string(second_name), ""));
  EXPECT_THAT(rows[6], ElementsAre("  peers", "reaches no other GPU", ""));
}

}  // namespace
}  // namespace opsplit::daemon
