#include "base/system.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <thread>

namespace opsplit {
namespace {

using testing::HasSubstr;

Deadline in_milliseconds(int count) { return Clock::now() + std::chrono::milliseconds(count); }

// A child that waits for its end.
struct Child {
  Child() : pid(::fork()) {
    if (pid == 0)
      while (true) ::pause();
  }
  ~Child() {
    if (pid > 0) end();
  }
  void end() {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    pid = 0;
  }
  pid_t pid;
};

struct LockTest : testing::Test {
  LockTest() { std::filesystem::remove(path); }
  ~LockTest() override { std::filesystem::remove(path); }
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / fmt::format("opsplit.lock_test.{}", ::getpid());
};

TEST(PollTimeout, RoundsUpAndNeverOverflows) {
  EXPECT_EQ(poll_timeout(Deadline::min()), 0);
  EXPECT_EQ(poll_timeout(Clock::now()), 0);
  EXPECT_GE(poll_timeout(Clock::now() + std::chrono::microseconds(500)), 0);
  EXPECT_EQ(poll_timeout(Clock::now() + std::chrono::microseconds(1500)), 2);
  EXPECT_EQ(poll_timeout(Deadline::max()), std::numeric_limits<int>::max());
}

TEST(FileDescriptor, ClosesOnceAndMoves) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  FileDescriptor reader(ends[0]), writer(ends[1]);
  FileDescriptor moved(std::move(writer));
  EXPECT_FALSE(writer);
  EXPECT_EQ(moved.get(), ends[1]);
  moved = std::move(reader);  // closes the writer
  EXPECT_EQ(::fcntl(ends[1], F_GETFD), -1);
  EXPECT_EQ(moved.release(), ends[0]);
  EXPECT_EQ(::close(ends[0]), 0);
  moved.reset();
}

TEST(ProcessIdentity, IsStableAndTellsProcessesApart) {
  const auto self = own_identity();
  EXPECT_EQ(self.pid, ::getpid());
  EXPECT_NE(self.start_time, 0u);
  EXPECT_NE(self.boot_id, 0u);
  EXPECT_EQ(identify(::getpid()), self);
  const Child child;
  const auto other = identify(child.pid);
  ASSERT_TRUE(other);
  EXPECT_GE(other->start_time, self.start_time);
  EXPECT_EQ(other->boot_id, self.boot_id);
}

TEST(ProcessIdentity, HoldsTheTimeOfItsStart) {
  const auto now_in_ticks = [] {
    timespec now{};
    ::clock_gettime(CLOCK_BOOTTIME, &now);
    return static_cast<std::uint64_t>(now.tv_sec * ::sysconf(_SC_CLK_TCK) +
                                      now.tv_nsec / (1'000'000'000 / ::sysconf(_SC_CLK_TCK)));
  };
  const std::uint64_t before = now_in_ticks();
  const Child child;
  const auto identity = identify(child.pid);
  ASSERT_TRUE(identity);
  EXPECT_GE(identity->start_time, before);
  EXPECT_LE(identity->start_time, now_in_ticks());
}

TEST(ProcessUsage, CountsTimePrivateAndSharedMemory) {
  constexpr std::size_t bytes = 16 << 20;
  const auto before = usage_of(own_identity());
  ASSERT_TRUE(before);
  const auto touch = [](int flags) {
    void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
    std::memset(memory, 1, bytes);
    return memory;
  };
  void* of_its_own = touch(MAP_PRIVATE);
  void* shared = touch(MAP_SHARED);
  while (std::clock() < CLOCKS_PER_SEC / 20) continue;  // 50 ms of work
  const auto after = usage_of(own_identity());
  ::munmap(of_its_own, bytes);
  ::munmap(shared, bytes);
  ASSERT_TRUE(after);
  // The kernel's counts lag behind by some pages per thread.
  EXPECT_GE(after->memory_bytes, before->memory_bytes + bytes / 2);
  EXPECT_LE(after->memory_bytes, before->memory_bytes + bytes + bytes / 2);
  EXPECT_GE(after->shared_bytes, before->shared_bytes + bytes / 2);
  EXPECT_GE(after->cpu_ns, 20'000'000u);
}

TEST(CpuTime, IsThatOfAllThreads) {
  const auto before = cpu_time_of(own_identity().pid);
  ASSERT_TRUE(before);
  EXPECT_TRUE(before->ready) << "it runs while it asks";
  std::atomic<bool> counted{false};
  std::jthread other([&] {
    while (thread_cpu_ns() < 30'000'000) {
    }
    counted = true;
    counted.notify_one();
    counted.wait(true);  // what it ran goes with it
  });
  counted.wait(false);
  const auto after = cpu_time_of(own_identity().pid);
  counted = false;
  counted.notify_one();
  ASSERT_TRUE(after);
  EXPECT_GE(after->ran_ns, before->ran_ns + 30'000'000);
  EXPECT_GE(after->waited_ns, before->waited_ns);
}

TEST(CpuTime, OfAProcessThatSleepsStandsStill) {
  CpuTime time{.ready = true};
  pid_t pid = 0;
  {
    const Child child;
    pid = child.pid;
    for (const Deadline give_up = in_milliseconds(10'000); time.ready && Clock::now() < give_up;)
      time = cpu_time_of(pid).value();
    EXPECT_FALSE(time.ready);
    EXPECT_EQ(cpu_time_of(pid).value().ran_ns, time.ran_ns);
  }
  EXPECT_FALSE(cpu_time_of(pid)) << "it is gone";
}

TEST(ProcessUsage, IsOfExactlyThisProcess) {
  Child child;
  ProcessIdentity identity = identify(child.pid).value();
  EXPECT_TRUE(usage_of(identity));
  ::kill(child.pid, SIGKILL);
  siginfo_t info{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child.pid), &info, WEXITED | WNOWAIT), 0);
  EXPECT_TRUE(usage_of(identity)) << "a zombie";
  ++identity.start_time;
  EXPECT_EQ(usage_of(identity).error().code, ErrorCode::not_found);
  --identity.start_time;
  child.end();
  EXPECT_EQ(usage_of(identity).error().code, ErrorCode::not_found);
}

TEST(ProcessIdentity, IsReadPastAHostileName) {
  const pid_t child = ::fork();
  if (child == 0) {
    std::ofstream("/proc/self/comm") << ") R 1 (9 9";
    while (true) ::pause();
  }
  std::string name;
  for (int i = 0; i < 1000 && name.find(')') == std::string::npos; ++i) {
    name = read_file(fmt::format("/proc/{}/comm", child)).value();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  const auto identity = identify(child);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ASSERT_TRUE(identity);
  EXPECT_GE(identity->start_time, own_identity().start_time);
  EXPECT_LT(identity->start_time, own_identity().start_time + 100'000);
}

TEST(ProcessIdentity, OfNobodyIsAnError) {
  EXPECT_EQ(identify(-1).error().code, ErrorCode::not_found);
  EXPECT_EQ(identify(0).error().code, ErrorCode::not_found);
  Child child;
  const auto identity = identify(child.pid).value();
  child.end();
  EXPECT_EQ(identify(identity.pid).error().code, ErrorCode::not_found);
  EXPECT_EQ(open_pidfd(identity).error().code, ErrorCode::not_found);
}

TEST(Pidfd, SaysWhenAProcessEnds) {
  Child child;
  const auto identity = identify(child.pid).value();
  const auto pidfd = open_pidfd(identity);
  ASSERT_TRUE(pidfd);
  EXPECT_FALSE(has_ended(*pidfd));
  EXPECT_FALSE(has_ended(*pidfd, in_milliseconds(20)));
  ::kill(child.pid, SIGKILL);
  EXPECT_TRUE(has_ended(*pidfd, in_milliseconds(5000)));  // a zombie has ended
  child.end();
  EXPECT_TRUE(has_ended(*pidfd));
}

TEST(Pidfd, IsNotOpenedForAnotherProcessWithThatPid) {
  const Child child;
  auto earlier = identify(child.pid).value();
  --earlier.start_time;
  EXPECT_EQ(open_pidfd(earlier).error().code, ErrorCode::not_found);
}

TEST_F(LockTest, IsHeldOnceAndNamesItsHolder) {
  EXPECT_FALSE(lock_holder(path).value());
  auto lock = lock_exclusive(path, "a note with spaces");
  ASSERT_TRUE(lock);
  const auto holder = lock_holder(path).value();
  ASSERT_TRUE(holder);
  EXPECT_EQ(holder->process, own_identity());
  EXPECT_EQ(holder->note, "a note with spaces");
  const auto second = lock_exclusive(path);  // also from the same process
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::refused);
  EXPECT_THAT(second.error().message, HasSubstr(std::to_string(::getpid())));
  ASSERT_TRUE(write_lock_note(*lock, "short"));
  EXPECT_EQ(lock_holder(path).value()->note, "short");
  lock->reset();
  EXPECT_FALSE(lock_holder(path).value());
  EXPECT_EQ(last_lock_holder(path).value().note, "short");
  EXPECT_TRUE(lock_exclusive(path));
}

TEST_F(LockTest, EndsWithItsHolder) {
  const pid_t child = ::fork();
  if (child == 0) {
    const auto lock = lock_exclusive(path);
    while (lock) ::pause();
    ::_exit(1);
  }
  const auto deadline = in_milliseconds(5000);
  const auto holder = [&] { return lock_holder(path).value_or(std::nullopt); };
  while ((!holder() || holder()->process.pid == 0) && Clock::now() < deadline)
    std::this_thread::yield();
  EXPECT_THAT(lock_exclusive(path).error().message, HasSubstr(std::to_string(child)));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_FALSE(lock_holder(path).value());
  EXPECT_TRUE(lock_exclusive(path));
}

TEST_F(LockTest, IsNotInheritedByPrograms) {
  const auto lock = lock_exclusive(path);
  ASSERT_TRUE(lock);
  EXPECT_NE(::fcntl(lock->get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST_F(LockTest, OnAFileThatItsHolderRemovesIsTakenOnTheNewOne) {
  // Each holder removes the file as the last thing it does with it.
  std::atomic<int> holders{0}, most{0}, taken{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int round = 0; round < 500;) {
        const auto lock = lock_exclusive(path);
        if (!lock) continue;
        ++round;
        ++taken;
        const int now = ++holders;
        for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) continue;
        --holders;
        std::filesystem::remove(path);
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(taken, 2000);
  EXPECT_EQ(most, 1);
}

TEST_F(LockTest, FollowsNoLink) {
  const auto target = path.native() + ".target";
  std::ofstream(target) << "precious";
  std::filesystem::create_symlink(target, path);
  EXPECT_FALSE(lock_exclusive(path));
  EXPECT_EQ(std::filesystem::file_size(target), 8u);
  std::filesystem::remove(target);
}

TEST_F(LockTest, NoteOfAnotherFormatIsAnError) {
  for (const std::string text : {"", "x", "12", "12 x 3", "99999999999999999999 1 1"}) {
    std::ofstream(path) << text;
    EXPECT_FALSE(last_lock_holder(path)) << text;
  }
  const auto lock = lock_exclusive(path);
  ASSERT_TRUE(lock);
  ASSERT_EQ(::ftruncate(lock->get(), 0), 0);  // as between taking it and writing the note
  EXPECT_EQ(lock_holder(path).value()->process.pid, 0);
  EXPECT_THAT(lock_exclusive(path).error().message, HasSubstr("another process"));
}

TEST(Files, AreReadWholeUpToALimit) {
  EXPECT_GT(read_file("/proc/self/maps").value().size(), 100u);
  EXPECT_EQ(read_file("/proc/self/maps", 10).error().code, ErrorCode::limit_exceeded);
  EXPECT_EQ(read_file("/nowhere").error().code, ErrorCode::not_found);
  EXPECT_EQ(read_file("/").error().code, ErrorCode::invalid_input);
  EXPECT_GT(free_bytes("/dev/shm").value(), 0u);
  EXPECT_FALSE(free_bytes("/nowhere"));
}

}  // namespace
}  // namespace opsplit
