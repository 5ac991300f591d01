// A process on a GPU to which something happens; ipc/cuda_driver_test.cpp starts it.
//
//   gpu-victim write UUID SOCKET SLOT_BYTES   attaches, fills slot 0 with a kernel that does not end for
//                                             minutes, writes a line once it runs, and waits to be killed
//   gpu-victim fault UUID                     writes where it may not; exit code 0: it noticed, and its
//                                             context is lost
//   gpu-victim deadline UUID                  waits in vain for such a kernel; 0: until its deadline
//   gpu-victim attach UUID SOCKET SLOT_BYTES  attaches, writes a line, waits to be killed
#include <unistd.h>

#include <string>
#include <vector>

#include "ipc/cuda_driver.hpp"
#include "ipc/device_completion.hpp"
#include "ipc/device_memory.hpp"
#include "tests/ipc/gpu_kernels.hpp"

namespace opsplit::test {
namespace {

using ipc::DeviceCompletion;

constexpr std::uint64_t minutes = std::uint64_t{1}
                                  << 36;  // rounds: each takes some ns at the least

std::uintptr_t number(ipc::DeviceStream stream) { return static_cast<std::uintptr_t>(stream); }

Result<> write(ipc::DeviceDriver& driver, const std::string& socket, std::uint64_t slot_bytes) {
  OPSPLIT_TRY(const auto arena,
              ipc::DeviceArena::attach(driver, socket, {"gpu", 1}, {slot_bytes, 1},
                                       Clock::now() + std::chrono::seconds(20)));
  OPSPLIT_TRY(const auto stream, driver.create_stream(ipc::StreamPriority::normal));
  OPSPLIT_TRY(const auto look, driver.create_stream(ipc::StreamPriority::high));
  ipc::SystemFutex futex;
  OPSPLIT_TRY(auto looked, DeviceCompletion::create(driver, futex, look));
  const auto words = static_cast<std::uint32_t>(slot_bytes / sizeof(std::uint32_t));
  const auto first_word = [&]() -> Result<std::uint32_t> {
    std::uint32_t first = 0;
    OPSPLIT_CHECK(
        driver.copy_to_host(std::as_writable_bytes(std::span(&first, 1)), arena.slot(0), look));
    OPSPLIT_CHECK(looked.launched());
    OPSPLIT_CHECK(looked.wait(0, futex.now_ns() + 20'000'000'000));
    return first;
  };
  // The first copy to memory that is not pinned makes the driver's own pinned buffers, which may wait for all
  // that runs: not behind a kernel that does not end.
  OPSPLIT_CHECK(first_word());
  launch_counting(arena.slot(0), words, minutes, number(stream));
  OPSPLIT_CHECK(driver.last_error());
  for (std::uint32_t first = 0; first == 0;) {
    OPSPLIT_TRY(first, first_word());
  }
  fmt::print("runs\n");
  std::fflush(stdout);
  while (true) ::pause();
}

Result<> attach_only(ipc::DeviceDriver& driver, const std::string& socket,
                     std::uint64_t slot_bytes) {
  OPSPLIT_TRY(const auto arena,
              ipc::DeviceArena::attach(driver, socket, {"gpu", 1}, {slot_bytes, 1},
                                       Clock::now() + std::chrono::seconds(20)));
  fmt::print("attached\n");
  std::fflush(stdout);
  while (true) ::pause();
}

Result<> fault(ipc::DeviceDriver& driver) {
  OPSPLIT_TRY(const auto stream, driver.create_stream(ipc::StreamPriority::normal));
  ipc::SystemFutex futex;
  OPSPLIT_TRY(auto completion, DeviceCompletion::create(driver, futex, stream));
  launch_illegal_write(number(stream));
  auto waited = completion.launched();  // which may see it already
  if (waited) waited = completion.wait(0, futex.now_ns() + 20'000'000'000);
  if (waited) return fail(ErrorCode::system, "an illegal write was not noticed");
  if (!driver.lost()) return fail(ErrorCode::system, "not lost: {}", waited.error().message);
  if (driver.allocate(1)) return fail(ErrorCode::system, "lost, but it allocates");
  return {};
}

Result<> deadline(ipc::DeviceDriver& driver) {
  OPSPLIT_TRY(const auto memory, driver.allocate(4096));
  OPSPLIT_TRY(const auto stream, driver.create_stream(ipc::StreamPriority::normal));
  ipc::SystemFutex futex;
  OPSPLIT_TRY(auto completion, DeviceCompletion::create(driver, futex, stream));
  launch_counting(memory, 1024, minutes, number(stream));
  OPSPLIT_CHECK(completion.launched());
  const auto waited = completion.wait(0, futex.now_ns() + 200'000'000);
  if (waited || waited.error().code != ErrorCode::timed_out)
    return fail(ErrorCode::system, "{}", waited ? "complete" : waited.error().message);
  return {};
}

Result<> run(const std::vector<std::string>& arguments) {
  OPSPLIT_TRY(const auto uuid, ipc::parse_device_uuid(arguments.at(1)));
  OPSPLIT_TRY(const auto driver, ipc::open_cuda_device(to_string(uuid)));
  if (arguments[0] == "fault") return fault(*driver);
  if (arguments[0] == "deadline") return deadline(*driver);
  if (arguments[0] == "write") return write(*driver, arguments.at(2), std::stoull(arguments.at(3)));
  return attach_only(*driver, arguments.at(2), std::stoull(arguments.at(3)));
}

}  // namespace
}  // namespace opsplit::test

int main(int argc, char** argv) {
  const auto ended = opsplit::test::run({argv + 1, argv + argc});
  if (!ended) fmt::print(stderr, "{}\n", ended.error().message);
  std::fflush(stderr);
  // Not exit(): it may wait for what still runs.
  ::_exit(ended ? 0 : 1);
}
