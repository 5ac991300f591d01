// gpu-hop: what it costs to hand a tensor from an operator on a GPU to the next one there: in place, as opsplit does
// it, and beside it, in the same run, by copies through pinned host memory that both share.
//
// Two processes, each with a context of its own, pass a tensor to and fro in an arena of opsplit-device-broker. A turn
// is all that a task is: see that it is one's turn, (copy the tensor from the host,) launch a kernel that counts in
// the tensor's first word, (copy the tensor to the host,) wait for the event, check that the memory was there, and
// pass the turn on by a word in shared memory. `kernel` is the same without anybody to pass it to: the rest is the
// hop. A count that does not come out right is an error.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/system.hpp"
#include "bench/crew.hpp"
#include "ipc/cuda_driver.hpp"
#include "ipc/device_completion.hpp"
#include "ipc/device_memory.hpp"
#include "tests/ipc/gpu_kernels.hpp"

namespace opsplit::bench {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::uint64_t, 6> sizes{1 << 10, 1 << 14, 1 << 18, 1 << 22, 1 << 26, 1 << 30};
constexpr std::uint64_t largest = sizes.back();
constexpr std::uint64_t bytes_per_phase = std::uint64_t{8} << 30;  // that the host's copies move
constexpr std::uint32_t most_laps = 1000, warm_laps = 3;
constexpr std::uint64_t turn_limit_ns =
    60'000'000'000;  // the first one waits for the other's context

enum class Way { kernel, in_place, by_host };

std::uint32_t laps_of(std::uint64_t bytes) {
  return static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(bytes_per_phase / bytes / 4, 2, most_laps));
}

// A lap is a turn of each. All in nanoseconds, of one turn.
struct Figure {
  double median_ns, p99_ns;
};

struct Table {
  std::array<char, 128> device, error;
  std::array<std::array<Figure, 3>, sizes.size()> figures;
  alignas(64) std::atomic<std::uint32_t> turns;  // passed so far: whose turn it is
  std::atomic<std::uint32_t> failed;
};

void put(std::array<char, 128>& into, const std::string& text) {
  std::strncpy(into.data(), text.c_str(), into.size() - 1);
}

class Party {
 public:
  static Result<std::unique_ptr<Party>> open(std::uint32_t index, const fs::path& socket,
                                             std::span<std::byte> host, Table& table) {
    OPSPLIT_TRY(const auto uuid, ipc::parse_device_uuid(table.device.data()));
    OPSPLIT_TRY(auto driver, ipc::open_cuda_device(to_string(uuid)));
    const Deadline deadline = Clock::now() + std::chrono::seconds(30);
    const auto attach = [&] {
      return ipc::DeviceArena::attach(*driver, socket, {"gpu-hop", 1}, {largest, 2}, deadline);
    };
    auto arena = attach();
    for (; !arena && arena.error().code == ErrorCode::unavailable && Clock::now() < deadline;
         arena = attach())
      ::usleep(20'000);  // it does not listen yet
    if (!arena) return tl::unexpected(arena.error());
    OPSPLIT_CHECK(driver->register_host(host));
    OPSPLIT_TRY(const auto stream, driver->create_stream(ipc::StreamPriority::normal));
    OPSPLIT_TRY(auto completion, ipc::DeviceCompletion::create(*driver, system_futex, stream));
    return std::unique_ptr<Party>(new Party(index, std::move(driver), std::move(*arena), stream,
                                            std::move(completion), host, table));
  }

  Result<> run() {
    for (std::size_t i = 0; i < sizes.size(); ++i)
      for (const Way way : {Way::kernel, Way::in_place, Way::by_host}) OPSPLIT_CHECK(phase(i, way));
    return {};
  }

 private:
  Party(std::uint32_t index, std::unique_ptr<ipc::DeviceDriver> driver, ipc::DeviceArena arena,
        ipc::DeviceStream stream, ipc::DeviceCompletion completion, std::span<std::byte> host,
        Table& table)
      : index_(index),
        driver_(std::move(driver)),
        arena_(std::move(arena)),
        stream_(stream),
        completion_(std::move(completion)),
        host_(host),
        table_(table) {}

  Result<> phase(std::size_t size, Way way) {
    const std::uint64_t bytes = sizes[size];
    const std::uint32_t laps = warm_laps + laps_of(bytes);
    const std::uint32_t first = base_;
    std::vector<double> turns;
    if (index_ == 0) OPSPLIT_CHECK(write_count(0, way));
    for (std::uint32_t lap = 0; lap < laps; ++lap) {
      const std::uint64_t begun = system_futex.now_ns();
      if (way != Way::kernel)
        OPSPLIT_CHECK(await(first + 2 * lap + index_));
      else if (index_ != 0)
        break;
      OPSPLIT_CHECK(turn(bytes, way));
      if (way == Way::kernel) {
        if (lap >= warm_laps) turns.push_back(static_cast<double>(system_futex.now_ns() - begun));
        continue;
      }
      table_.turns.fetch_add(1);
      if (index_ != 0) continue;
      OPSPLIT_CHECK(await(first + 2 * lap + 2));  // the lap ends when it is our turn again
      if (lap >= warm_laps) turns.push_back(static_cast<double>(system_futex.now_ns() - begun) / 2);
    }
    const std::uint32_t end = first + (way == Way::kernel ? 0 : 2 * laps);
    if (index_ == 0) {
      std::ranges::sort(turns);
      table_.figures[size][static_cast<std::size_t>(way)] = {turns[turns.size() / 2],
                                                             turns[turns.size() * 99 / 100]};
      OPSPLIT_TRY(const std::uint32_t count, read_count(way));
      const std::uint32_t expected = way == Way::kernel ? laps : 2 * laps;
      if (count != expected)
        return fail(ErrorCode::system, "{} bytes: {} turns were counted, {} were taken", bytes,
                    count, expected);
    }
    // Nobody begins the next phase before the other one has ended this one.
    if (index_ == 0) table_.turns.fetch_add(1);
    OPSPLIT_CHECK(await(end + 1));
    if (index_ == 1) table_.turns.fetch_add(1);
    base_ = end + 2;
    return await(base_);
  }

  Result<> await(std::uint32_t turn) {
    const std::uint64_t deadline = system_futex.now_ns() + turn_limit_ns;
    for (std::uint32_t looks = 0; table_.turns.load() < turn; ++looks) {
      ipc::spin_pause();
      if (looks % 1024 != 0) continue;
      if (table_.failed.load() != 0)
        return fail(ErrorCode::unavailable, "the other one has failed");
      if (system_futex.now_ns() > deadline)
        return fail(ErrorCode::timed_out, "the other one did not take its turn");
    }
    return {};
  }

  Result<> turn(std::uint64_t bytes, Way way) {
    const ipc::DeviceAddress at = arena_.slot(way == Way::by_host ? index_ : 0);
    const auto host = host_.first(bytes);
    if (way == Way::by_host) OPSPLIT_CHECK(driver_->copy_to_device(at, host, stream_));
    test::launch_increment(at, static_cast<std::uintptr_t>(stream_));
    if (way == Way::by_host) OPSPLIT_CHECK(driver_->copy_to_host(host, at, stream_));
    return complete();
  }

  Result<> complete() {
    OPSPLIT_CHECK(completion_.launched());
    OPSPLIT_CHECK(completion_.wait(turn_limit_ns, system_futex.now_ns() + turn_limit_ns));
    return arena_.check();
  }

  // Where the count lies between turns.
  Result<> write_count(std::uint32_t count, Way way) {
    if (way == Way::by_host) {
      std::memcpy(host_.data(), &count, sizeof count);
      return {};
    }
    OPSPLIT_CHECK(
        driver_->copy_to_device(arena_.slot(0), std::as_bytes(std::span(&count, 1)), stream_));
    return complete();
  }
  Result<std::uint32_t> read_count(Way way) {
    std::uint32_t count = 0;
    if (way == Way::by_host) {
      std::memcpy(&count, host_.data(), sizeof count);
      return count;
    }
    OPSPLIT_CHECK(driver_->copy_to_host(std::as_writable_bytes(std::span(&count, 1)),
                                        arena_.slot(0), stream_));
    OPSPLIT_CHECK(complete());
    return count;
  }

  const std::uint32_t index_;
  // Turns before this phase. The table may have one more already: the other one's first.
  std::uint32_t base_ = 0;
  std::unique_ptr<ipc::DeviceDriver> driver_;
  ipc::DeviceArena arena_;
  const ipc::DeviceStream stream_;
  ipc::DeviceCompletion completion_;
  const std::span<std::byte> host_;
  Table& table_;
};

std::string size_text(std::uint64_t bytes) {
  constexpr std::array units{"B", "KiB", "MiB", "GiB"};
  std::size_t unit = 0;
  for (; bytes >= 1024; bytes /= 1024) ++unit;
  return fmt::format("{} {}", bytes, units[unit]);
}

nlohmann::json report(const Table& table) {
  nlohmann::json rows = nlohmann::json::array();
  fmt::print("us per turn on {}, median (p99)\n{:>9}{:>20}{:>20}{:>20}{:>12}{:>12}\n",
             table.device.data(), "tensor", "kernel alone", "in place", "by host", "hop",
             "hop by host");
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const auto& [kernel, in_place, by_host] = table.figures[i];
    const auto text = [](const Figure& figure) {
      return fmt::format("{:.1f} ({:.1f})", figure.median_ns / 1e3, figure.p99_ns / 1e3);
    };
    const double hop = in_place.median_ns - kernel.median_ns;
    const double host_hop = by_host.median_ns - kernel.median_ns;
    fmt::print("{:>9}{:>20}{:>20}{:>20}{:>12.1f}{:>12.1f}\n", size_text(sizes[i]), text(kernel),
               text(in_place), text(by_host), hop / 1e3, host_hop / 1e3);
    rows.push_back({{"bytes", sizes[i]},
                    {"kernel_us", kernel.median_ns / 1e3},
                    {"in_place_us", in_place.median_ns / 1e3},
                    {"by_host_us", by_host.median_ns / 1e3},
                    {"hop_us", hop / 1e3},
                    {"hop_by_host_us", host_hop / 1e3}});
  }
  return {{"device", table.device.data()}, {"hops", rows}};
}

// CUDA can't be used on both sides of a fork: all that calls it is a child.
int in_child(Table& table, const std::function<Result<>()>& body) {
  const auto done = body();
  if (done) return 0;
  if (table.failed.exchange(1) == 0) put(table.error, done.error().message);
  return 1;
}

// Until all have ended, or one has failed.
Result<> wait_for(std::span<const Process> processes, const Table& table) {
  const auto failed = [](const Process& process) {
    return process.has_ended() && !process.has_ended_well();
  };
  while (!std::ranges::all_of(processes, &Process::has_ended_well)) {
    // Looked for before the table: whoever says why it fails does so before it ends.
    const auto it = std::ranges::find_if(processes, failed);
    if (table.failed.load() != 0) return fail(ErrorCode::system, "{}", table.error.data());
    if (it != processes.end()) return fail(ErrorCode::system, "process {} has crashed", it->pid());
    ::usleep(1000);
  }
  return {};
}

// The first GPU. Error: there is none.
Result<> find_device(Table& table) {
  const Process finder(-1, SIGKILL, [&] {
    return in_child(table, [&]() -> Result<> {
      OPSPLIT_TRY(const auto machine, ipc::cuda_machine());
      put(table.device, to_string(machine.devices[0].uuid));
      return {};
    });
  });
  return wait_for({&finder, 1}, table);
}

Result<> run(const fs::path& programs, const fs::path& json_file, Table& table) {
  auto* host = static_cast<std::byte*>(map_shared(largest));
  std::string name =
      (fs::temp_directory_path() / "opsplit.gpu-hop.").native() + std::string(6, 'X');
  if (::mkdtemp(name.data()) == nullptr) return fail_errno(errno, "{}", name);
  const fs::path folder = name;
  const auto ran = [&]() -> Result<> {
    const Process broker(-1, SIGTERM, [&] {
      const std::string program = programs / "opsplit-device-broker", socket = folder / "device";
      const std::string bytes = std::to_string(largest);
      ::execl(program.c_str(), program.c_str(), "--socket", socket.c_str(), "--device",
              table.device.data(), "--deployment", "gpu-hop", "--epoch", "1", "--slot-bytes",
              bytes.c_str(), "--depth", "2", nullptr);
      std::perror(program.c_str());
      return 1;
    });
    std::vector<Process> parties;
    for (std::uint32_t index = 0; index < 2; ++index)
      parties.emplace_back(-1, SIGKILL, [&, index] {
        return in_child(table, [&]() -> Result<> {
          OPSPLIT_TRY(const auto party,
                      Party::open(index, folder / "device", {host, largest}, table));
          return party->run();
        });
      });
    return wait_for(parties, table);
  }();
  std::error_code ignored;
  fs::remove_all(folder, ignored);
  OPSPLIT_CHECK(ran);
  const nlohmann::json result = report(table);
  if (json_file.empty()) return {};
  std::ofstream(json_file) << result.dump(2) << '\n';
  return {};
}

}  // namespace
}  // namespace opsplit::bench

int main(int argc, char** argv) {
  CLI::App app("gpu-hop: what it costs to hand a tensor to the next operator on a GPU.");
  std::filesystem::path json;
  app.add_option("--json", json, "Write the figures to this file, too");
  CLI11_PARSE(app, argc, argv);
  using namespace opsplit::bench;
  const auto programs = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  const Shared<Table> table;
  const auto found = find_device(*table);
  if (!found && table->failed.load() != 0) {
    fmt::print("skipped: {}\n", found.error().message);
    return 77;
  }
  const auto ran = found ? run(programs, json, *table) : found;
  if (ran) return 0;
  fmt::print(stderr, "gpu-hop: {}\n", ran.error().message);
  return 1;
}
