// System calls that several parts of opsplit need, wrapped once: file descriptors, the identity of
// a process, file locks that name their holder. Errors hold errno's text. Everything in here may be
// called from any thread; objects are not to be shared between threads without a lock.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace opsplit {

// CLOCK_MONOTONIC: a deadline never moves when somebody sets the clock.
using Clock = std::chrono::steady_clock;
using Deadline = Clock::time_point;

// CPU time of the calling thread: CLOCK_THREAD_CPUTIME_ID.
std::uint64_t thread_cpu_ns();

// Milliseconds from now to the deadline as poll() wants them: rounded up, so that a caller never
// spins through the last millisecond; 0 once it has passed.
int poll_timeout(Deadline deadline);

// Owns a file descriptor.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(other.release()) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor() { reset(); }

  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] int release();  // the caller owns it from now on
  void reset();
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// A pid alone names a process only until it is used again; with the start time, for this boot.
struct ProcessIdentity {
  pid_t pid = 0;
  std::uint64_t start_time = 0;  // clock ticks after boot: field 22 of /proc/PID/stat
  std::uint64_t boot_id = 0;     // digest of /proc/sys/kernel/random/boot_id

  friend bool operator==(const ProcessIdentity&, const ProcessIdentity&) = default;
};

std::uint64_t boot_id();
// Error not_found: no such process. A zombie still has an identity: it has ended, but its pid is
// not free yet.
Result<ProcessIdentity> identify(pid_t pid);
ProcessIdentity own_identity();

// A pidfd of exactly this process: not_found if it is gone, whoever has its pid now.
Result<FileDescriptor> open_pidfd(const ProcessIdentity& process);
// Whether the process behind a pidfd has ended (zombies have); waits until the deadline at most.
bool has_ended(const FileDescriptor& pidfd, Deadline deadline = Deadline::min());

// What a process has used, as the kernel counts it. The pages of tmpfs, iceoryx's and /dev/shm's among
// them, are shared; those of its libraries are in memory_bytes of every process that uses them.
struct ProcessUsage {
  std::uint64_t cpu_ns = 0;  // of all its threads, in the kernel and out of it; in steps of 10 ms
  std::uint64_t memory_bytes = 0;  // resident: RssAnon + RssFile
  std::uint64_t shared_bytes = 0;  // resident: RssShmem
};
// Of exactly this process; a zombie still has its time. Error not_found: it is gone.
Result<ProcessUsage> usage_of(const ProcessIdentity& process);

// What a process's threads have had of the CPUs so far, all of them together.
struct CpuTime {
  std::uint64_t ran_ns = 0;
  std::uint64_t waited_ns = 0;  // ready to run while others ran; without a wait that still lasts
  bool ready = false;           // a thread runs just now, or could
};
Result<CpuTime> cpu_time_of(pid_t pid);
// Of the time that has passed, what the process could use: all but what it waited for a CPU.
std::uint64_t usable_ns(std::uint64_t passed_ns, const CpuTime& before, const CpuTime& now);

// Who holds the lock of a file, as the holder itself wrote into it.
struct LockHolder {
  ProcessIdentity process;
  std::string note;  // what the holder wants others to know
};

// Takes the file's lock (made if missing, mode 0600) or fails with `refused`, naming the holder's
// pid. The lock lasts as long as the descriptor; it is close-on-exec and ends with the process,
// however that ends. The file stays: whoever unlinks it must hold the lock.
// An open file description lock, not flock(): asking who holds it does not take it.
Result<FileDescriptor> lock_exclusive(const std::filesystem::path& path,
                                      std::string_view note = {});
// Replaces the note of a lock that the caller holds.
Result<> write_lock_note(const FileDescriptor& lock, std::string_view note);
// nullopt: nobody holds it. A pid of 0: somebody has just taken it and not written yet. Never blocks
// or disturbs the holder.
Result<std::optional<LockHolder>> lock_holder(const std::filesystem::path& path);
// What the last holder wrote, whether it is still there or not.
Result<LockHolder> last_lock_holder(const std::filesystem::path& path);

// A folder of this user's alone: what lies there, nobody else has put there. Error refused: another's,
// open to others, or no folder.
Result<> check_private_folder(const std::filesystem::path& folder);
// The same; made if missing.
Result<> make_private_folder(const std::filesystem::path& folder);

// Bytes that may still be written to the file system that holds `path`.
Result<std::uint64_t> free_bytes(const std::filesystem::path& path);

// The whole file, or limit_exceeded if it is longer than `limit`. Right for files of /proc, too.
Result<std::string> read_file(const std::filesystem::path& path, std::size_t limit = 1u << 20);

// Processes that have one of these files mapped, as far as we may look. By device and inode: in another
// namespace's /dev/shm other files have the same names, and the same inodes.
std::vector<pid_t> processes_that_map(const std::vector<std::filesystem::path>& files);

}  // namespace opsplit
