#include "ipc/device_owner.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <csignal>

#include "tests/ipc/device_parties.hpp"

namespace opsplit::ipc {
namespace {

using test::Forked;
using test::SocketFolder;

struct Pipe {
  Pipe() {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    out = FileDescriptor(ends[0]);
    in = FileDescriptor(ends[1]);
  }
  FileDescriptor out, in;
};

// Holds the lock in a process of its own, which has said so when this returns.
std::unique_ptr<Forked> hold(const std::filesystem::path& path) {
  Pipe ready;
  auto owner = std::make_unique<Forked>([&] {
    const auto lock = hold_owner_lock(path);
    if (!lock || ::write(ready.in.get(), "r", 1) != 1) return 1;
    while (true) ::pause();
  });
  ready.in.reset();
  char byte = 0;
  EXPECT_EQ(::read(ready.out.get(), &byte, 1), 1);
  return owner;
}

TEST(DeviceOwner, HasItsMemoryUntilItsDeath) {
  const SocketFolder folder;
  const auto owner = hold(folder.socket());
  const auto watched = DeviceOwner::watch(folder.socket(), owner->pid());
  ASSERT_TRUE(watched) << watched.error().message;
  EXPECT_TRUE(watched->has_its_memory());
  owner->signal(SIGKILL);
  owner->wait();
  EXPECT_FALSE(watched->has_its_memory());
}

TEST(DeviceOwner, IsNotTakenForItsSuccessor) {
  const SocketFolder folder;
  const auto first = hold(folder.socket());
  const auto watched = DeviceOwner::watch(folder.socket(), first->pid());
  ASSERT_TRUE(watched);
  const pid_t pid = first->pid();
  first->signal(SIGKILL);
  first->wait();
  const auto second = hold(folder.socket());
  EXPECT_FALSE(watched->has_its_memory());
  EXPECT_FALSE(DeviceOwner::watch(folder.socket(), pid));
  EXPECT_TRUE(DeviceOwner::watch(folder.socket(), second->pid()));
}

TEST(DeviceOwner, WhoHasNoLockIsNone) {
  const SocketFolder folder;
  const auto missing = DeviceOwner::watch(folder.socket(), ::getpid());
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::unavailable);
  const FileDescriptor file(::open(folder.socket().c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  EXPECT_FALSE(DeviceOwner::watch(folder.socket(), ::getpid()));
}

// What the kernel promises, as far as that can be seen without a GPU: when a process that ends releases a
// file of its, the owner's lock has been dropped. A pipe's end stands for the driver's file, before and
// behind the lock in the order of descriptors.
TEST(DeviceOwner, LosesItsLockBeforeTheKernelReleasesAnyFileOfIts) {
  for (int round = 0; round < 50; ++round) {
    const SocketFolder folder;
    Pipe ready, before;
    Pipe behind;
    Forked owner([&] {
      // The order of descriptors: before.in, the lock, behind.in.
      const auto lock = hold_owner_lock(folder.socket());
      const FileDescriptor last(::fcntl(behind.in.get(), F_DUPFD_CLOEXEC, 100));
      behind.in.reset();
      before.out.reset();
      behind.out.reset();
      if (!lock || ::write(ready.in.get(), "r", 1) != 1) return 1;
      while (true) ::pause();
    });
    ready.in.reset();
    before.in.reset();
    behind.in.reset();
    char byte = 0;
    ASSERT_EQ(::read(ready.out.get(), &byte, 1), 1);
    const auto watched = DeviceOwner::watch(folder.socket(), owner.pid());
    ASSERT_TRUE(watched);
    owner.signal(SIGKILL);
    // Not its pidfd: the moment when the first of the two is released.
    pollfd released[] = {{before.out.get(), POLLIN, 0}, {behind.out.get(), POLLIN, 0}};
    ASSERT_GT(::poll(released, 2, 20'000), 0);
    ASSERT_FALSE(watched->has_its_memory()) << "round " << round;
    owner.wait();
  }
}

}  // namespace
}  // namespace opsplit::ipc
