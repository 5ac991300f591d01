#include "private_namespace.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "daemon/paths.hpp"

namespace opsplit::test {
namespace {

bool entered = false;

// Tells what this process starts that the lock is held for it: it may have been started without the lock's file.
constexpr const char* lock_is_held = "OPSPLIT_TESTS_LOCK_IS_HELD";

bool write_to(const char* path, const std::string& text) {
  std::ofstream file(path);
  file << text << std::flush;
  return file.good();
}

// Without privilege: a user namespace in which this user is still itself, by number and name.
bool unshare_with_user() {
  const auto uid = std::to_string(::geteuid());
  const auto gid = std::to_string(::getegid());
  if (::unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWIPC) != 0) return false;
  write_to("/proc/self/setgroups", "deny");
  return write_to("/proc/self/uid_map", uid + " " + uid + " 1") &&
         write_to("/proc/self/gid_map", gid + " " + gid + " 1");
}

// A program that lies in /tmp or /dev/shm would hide itself.
bool lies_elsewhere() {
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error).native();
  return !error && !program.starts_with("/tmp/") && !program.starts_with("/dev/shm/");
}

// The user's own must neither help a test nor be filled by it.
bool hide_cache() {
  const auto cache = daemon::cache_folder();
  if (!daemon::make_cache_folder(cache)) return true;  // opsplitd has none, either
  const auto options = "mode=0700,uid=" + std::to_string(::geteuid());
  return ::mount("tmpfs", cache.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, options.c_str()) == 0;
}

bool mount_private() {
  const unsigned long flags = MS_NOSUID | MS_NODEV;
  return ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::mount("tmpfs", "/tmp", "tmpfs", flags, "mode=1777") == 0 &&
         ::mount("tmpfs", "/dev/shm", "tmpfs", flags, "mode=1777") == 0 && hide_cache();
}

}  // namespace

bool enter_private_namespace() {
  entered = lies_elsewhere() &&
            (::unshare(CLONE_NEWNS | CLONE_NEWIPC) == 0 || unshare_with_user()) && mount_private();
  if (entered) return true;
  if (std::getenv(lock_is_held) != nullptr) return false;
  // Inherited: others wait until all that this test starts has ended.
  const int lock = ::open("/tmp/opsplit.tests.lock", O_RDWR | O_CREAT, 0666);
  if (lock < 0 || ::flock(lock, LOCK_EX) != 0) std::perror("/tmp/opsplit.tests.lock");
  ::setenv(lock_is_held, "1", 1);
  return false;
}

bool in_private_namespace() { return entered; }

}  // namespace opsplit::test
