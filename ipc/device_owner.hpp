// Whether the process that owns device memory still has it.
//
// CUDA promises nothing of memory whose owner has ended, and not that those who use it get an error. So
// whoever has used it must know afterwards that the owner still had it then. Its pidfd says too late that
// it has not: the driver gives memory back when the kernel releases the owner's files, before that. A
// classic POSIX lock says so in time: the kernel drops it while it closes the files of a process that ends,
// and releases none of them before all are closed. While the lock is held, the memory is there.
//
// The lock's file is made anew by each owner, so that nobody takes a successor's for it.
#pragma once

#include <filesystem>

#include "base/error.hpp"
#include "base/system.hpp"

namespace opsplit::ipc {

// The owner's side. Takes the lock; it is held until the process ends, or the descriptor is closed, or
// another descriptor of this file is closed in this process: open it nowhere else. What an earlier owner
// left there is replaced. One owner at a time may call it, which a MessageListener sees to.
Result<FileDescriptor> hold_owner_lock(const std::filesystem::path& path);

// Others' side. Thread safe.
class DeviceOwner {
 public:
  // Error unavailable: the process `pid` is not the owner (any more).
  static Result<DeviceOwner> watch(const std::filesystem::path& path, pid_t pid);
  // One system call. False for good once it is false; also if the kernel does not answer.
  [[nodiscard]] bool has_its_memory() const;

 private:
  explicit DeviceOwner(FileDescriptor file) : file_(std::move(file)) {}

  FileDescriptor file_;
};

}  // namespace opsplit::ipc
