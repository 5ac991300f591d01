#include "ipc/device_owner.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace opsplit::ipc {
namespace {

struct flock whole_file() {
  struct flock range {};
  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  return range;
}

// 0: nobody.
pid_t holder_of(const FileDescriptor& file) {
  auto range = whole_file();
  const bool held = ::fcntl(file.get(), F_GETLK, &range) == 0 && range.l_type != F_UNLCK;
  return held ? range.l_pid : 0;
}

}  // namespace

Result<FileDescriptor> hold_owner_lock(const std::filesystem::path& path) {
  ::unlink(path.c_str());
  FileDescriptor file(
      ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file) return fail_errno(errno, "{}", path.native());
  auto range = whole_file();
  if (::fcntl(file.get(), F_SETLK, &range) != 0)
    return fail_errno(errno, "{}: cannot lock", path.native());
  return file;
}

Result<DeviceOwner> DeviceOwner::watch(const std::filesystem::path& path, pid_t pid) {
  FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file && errno != ENOENT) return fail_errno(errno, "{}", path.native());
  if (!file || holder_of(file) != pid)
    return fail(ErrorCode::unavailable, "{}: process {} does not hold it", path.native(), pid);
  return DeviceOwner(std::move(file));
}

bool DeviceOwner::has_its_memory() const { return holder_of(file_) != 0; }

}  // namespace opsplit::ipc
