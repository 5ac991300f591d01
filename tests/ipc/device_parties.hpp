// The processes of a deployment on the fake GPU: its device broker, operators, and what they compute.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ipc/device_broker.hpp"
#include "ipc/device_completion.hpp"
#include "ipc/device_memory.hpp"
#include "tests/ipc/fake_device.hpp"
#include "tests/ipc/fixture.hpp"

namespace opsplit::test {

// A fork of this process that runs `body` and ends with what it returns; killed and reaped at the end of
// its scope.
class Forked {
 public:
  explicit Forked(const std::function<int()>& body);
  Forked(const Forked&) = delete;
  Forked& operator=(const Forked&) = delete;
  ~Forked();

  [[nodiscard]] pid_t pid() const { return pid_; }
  void signal(int number) const;
  // Waits for its end: the exit status, or minus the number of the signal.
  int wait();

 private:
  pid_t pid_ = 0;
};

// The numbers of processes on the fake GPU.
enum Role : std::size_t { a_client, a_broker, a_victim, another, a_third };

// A private folder, removed with what is in it.
class SocketFolder {
 public:
  SocketFolder();
  ~SocketFolder();
  SocketFolder(const SocketFolder&) = delete;
  SocketFolder& operator=(const SocketFolder&) = delete;

  [[nodiscard]] std::filesystem::path socket() const { return path_ / "device"; }
  [[nodiscard]] std::vector<std::string> files() const;

 private:
  std::filesystem::path path_;
};

struct ArenaAddress {
  std::filesystem::path socket;
  ipc::ArenaId id{"digits", 1};
  ipc::DeviceArenaShape shape{256, 2};

  [[nodiscard]] Result<ipc::DeviceArena> attach(FakeDevice& device) const;
};

// DeviceBroker in a process of its own.
class FakeBroker {
 public:
  FakeBroker(FakeGpu& gpu, std::size_t process, const ArenaAddress& address);

  [[nodiscard]] pid_t pid() const { return process_->pid(); }
  // It serves. Else it has died, or could not start.
  [[nodiscard]] bool ready() const { return ready_; }
  // Asks it to end as soon as it can.
  void end() { process_->signal(SIGTERM); }
  int wait() { return process_->wait(); }
  // Kills it as the fake GPU does it; returns once it is dead. From any process.
  static void kill(pid_t broker);

 private:
  std::unique_ptr<Forked> process_;
  bool ready_ = false;
};

// What an operator, or a client, has on the device.
struct OnDevice {
  FakeDevice& device;
  ipc::DeviceArena arena;
  ipc::DeviceStream stream;
  ipc::DeviceCompletion completion;

  static Result<std::unique_ptr<OnDevice>> attach(FakeDevice& device, ipc::Futex& futex,
                                                  const ArenaAddress& address);
  ~OnDevice();

  // Waits until all that is on the stream is done and counts. A fake never takes long.
  Result<> complete();
  [[nodiscard]] ipc::DeviceAddress place(const Plan& plan, std::uint32_t slot,
                                         std::int32_t tensor) const;
  Result<> write(const Plan& plan, std::uint32_t slot, std::int32_t tensor,
                 const std::vector<float>& values);
  Result<std::vector<float>> read(const Plan& plan, std::uint32_t slot, std::int32_t tensor);
};

// How operators end.
enum OperatorEnd { has_served = 0, found_no_arena = 40, could_not_go_on = 41, epoch_was_lost = 50 };

struct Service {
  std::vector<std::uint32_t> operators;
  bool until_finished = false;  // waits for what others do; else it ends when it finds nothing
};
// An operator's process: attaches, claims, runs, completes, commits, detaches. `instead_of_death`: of the
// fake device. An epoch's loss is told with the number of commits after that.
int serve(ipc::TestDeployment& deployment, FakeGpu& gpu, std::size_t process,
          const ArenaAddress& address, ipc::LaunchNumber launch, const Service& service,
          const std::function<void(FakeDevice&)>& instead_of_death = nullptr);

}  // namespace opsplit::test
