#include "tests/ipc/device_parties.hpp"

#include <fcntl.h>
#include <sched.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdlib>
#include <utility>

#include "ipc/message_server.hpp"
#include "tests/ipc/other_process.hpp"

namespace opsplit::test {
namespace {

FakeDevice* broker_device = nullptr;

// In the broker's process. `ready` is closed once it serves, after a byte, or with its end.
int be_broker(FakeGpu& gpu, std::size_t process, const ArenaAddress& address,
              FileDescriptor ready) {
  spdlog::set_level(spdlog::level::off);
  const FileDescriptor end = ipc::catch_end_signals();
  FakeDevice device(gpu, process);
  // The kernel drops the lock with the first file of it that the process closes.
  device.on_death = [file = ipc::owner_lock_path(address.socket)] {
    ::close(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  };
  const auto broker = ipc::DeviceBroker::start(device, address.socket, address.id, address.shape);
  if (!broker) return 1;
  broker_device = &device;
  std::signal(SIGUSR1, [](int) { broker_device->die(); });
  if (::write(ready.get(), "r", 1) != 1) return 2;
  ready.reset();
  return (*broker)->run(end) ? 0 : 3;
}

}  // namespace

Forked::Forked(const std::function<int()>& body) {
  pid_ = ::fork();
  if (pid_ != 0) return;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::_exit(body());
}

Forked::~Forked() {
  if (pid_ <= 0) return;
  signal(SIGKILL);
  wait();
}

void Forked::signal(int number) const { ::kill(pid_, number); }

int Forked::wait() {
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) continue;
  pid_ = 0;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

SocketFolder::SocketFolder() {
  std::string name = "/tmp/opsplit.device." + std::string(6, 'X');
  path_ = ::mkdtemp(name.data());
}

SocketFolder::~SocketFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::vector<std::string> SocketFolder::files() const { return names_in(path_); }

Result<ipc::DeviceArena> ArenaAddress::attach(FakeDevice& device) const {
  return ipc::DeviceArena::attach(device, socket, id, shape, in_seconds(20));
}

FakeBroker::FakeBroker(FakeGpu& gpu, std::size_t process, const ArenaAddress& address) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return;
  const FileDescriptor read_end(ends[0]);
  FileDescriptor write_end(ends[1]);
  process_ = std::make_unique<Forked>(
      [&] { return be_broker(gpu, process, address, std::move(write_end)); });
  write_end.reset();
  char byte = 0;
  ready_ = ::read(read_end.get(), &byte, 1) == 1;
}

void FakeBroker::kill(pid_t broker) {
  const auto process = identify(broker);
  if (!process) return;
  const auto pidfd = open_pidfd(*process);
  ::kill(broker, SIGUSR1);
  if (pidfd) has_ended(*pidfd, in_seconds(20));
}

Result<std::unique_ptr<OnDevice>> OnDevice::attach(FakeDevice& device, ipc::Futex& futex,
                                                   const ArenaAddress& address) {
  OPSPLIT_TRY(auto arena, address.attach(device));
  OPSPLIT_TRY(const auto stream, device.create_stream(ipc::StreamPriority::normal));
  OPSPLIT_TRY(auto completion, ipc::DeviceCompletion::create(device, futex, stream));
  return std::unique_ptr<OnDevice>(
      new OnDevice{device, std::move(arena), stream, std::move(completion)});
}

OnDevice::~OnDevice() { static_cast<void>(device.destroy_stream(stream)); }

Result<> OnDevice::complete() {
  OPSPLIT_CHECK(completion.launched());
  OPSPLIT_CHECK(completion.wait(0, ~std::uint64_t{0}));
  device.step("check");
  return arena.check();
}

ipc::DeviceAddress OnDevice::place(const Plan& plan, std::uint32_t slot,
                                   std::int32_t tensor) const {
  return arena.slot(slot) + plan.tensors[static_cast<std::size_t>(tensor)].offset;
}

Result<> OnDevice::write(const Plan& plan, std::uint32_t slot, std::int32_t tensor,
                         const std::vector<float>& values) {
  OPSPLIT_CHECK(
      device.copy_to_device(place(plan, slot, tensor), std::as_bytes(std::span(values)), stream));
  return complete();
}

Result<std::vector<float>> OnDevice::read(const Plan& plan, std::uint32_t slot,
                                          std::int32_t tensor) {
  std::vector<float> values(4);
  OPSPLIT_CHECK(device.copy_to_host(std::as_writable_bytes(std::span(values)),
                                    place(plan, slot, tensor), stream));
  OPSPLIT_CHECK(complete());
  return values;
}

int serve(ipc::TestDeployment& deployment, FakeGpu& gpu, std::size_t process,
          const ArenaAddress& address, ipc::LaunchNumber launch, const Service& service,
          const std::function<void(FakeDevice&)>& instead_of_death) {
  const auto board = ipc::Board::open(deployment.name, deployment.layout, 1);
  if (!board) return could_not_go_on;
  ipc::FakeFutex futex;
  const Plan& plan = deployment.plan;
  ipc::Handover handover(*board, plan, futex);
  FakeDevice device(gpu, process);
  int commits = 0;
  if (instead_of_death)
    device.instead_of_death = [&](FakeDevice& here) {
      instead_of_death(here);
      commits = 0;
    };
  auto on_device = OnDevice::attach(device, futex, address);
  if (!on_device)
    return on_device.error().code == ErrorCode::epoch_lost ? epoch_was_lost : found_no_arena;
  OnDevice& on = **on_device;
  while (true) {
    std::optional<ipc::Claim> claim;
    for (const std::uint32_t op : service.operators)
      if (!claim) claim = handover.find_work(op, launch);
    if (!claim) {
      bool finished = true;
      for (std::uint32_t slot = 0; slot < deployment.layout.depth; ++slot)
        if (ipc::SlotWord::unpack(board->slot(slot).word.load()).state == ipc::SlotState::running)
          for (std::uint32_t task = 0; task < plan.tasks.size(); ++task) {
            const auto word = ipc::TaskWord::unpack(board->task(slot, task).word.load());
            finished = finished && word.state == ipc::TaskState::done;
          }
      if (finished || !service.until_finished) return has_served;
      ::sched_yield();
      continue;
    }
    const PlannedTask& task = plan.tasks[claim->task];
    FakeDevice::Kernel kernel;
    for (const std::int32_t input : task.inputs)
      kernel.inputs.push_back(on.place(plan, claim->slot, input));
    kernel.output = on.place(plan, claim->slot, task.outputs[0]);
    kernel.count = 4;
    kernel.constant = static_cast<float>(claim->task + 1);
    if (!device.launch(kernel, on.stream)) return could_not_go_on;
    if (const auto complete = on.complete(); !complete)
      return complete.error().code == ErrorCode::epoch_lost ? epoch_was_lost + commits
                                                            : could_not_go_on;
    device.step("commit");
    handover.commit(*claim, launch, ipc::TaskState::done);
    ++commits;
    device.step("next claim");
  }
}

}  // namespace opsplit::test
