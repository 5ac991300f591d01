#include "ipc/roudi_files.hpp"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <sstream>

#include "base/system.hpp"
#include "ipc/iceoryx_runtime.hpp"

namespace opsplit::ipc {
namespace {

constexpr const char* management_segment = "/dev/shm/iceoryx_mgmt";

std::string describe(pid_t pid) {
  auto command = read_file(fmt::format("/proc/{}/comm", pid)).value_or("?");
  while (!command.empty() && command.back() == '\n') command.pop_back();
  return fmt::format("process {} ({})", pid, command);
}

// Who holds a flock() on this inode: /proc/locks has lines "1: FLOCK ADVISORY WRITE PID ..:INODE".
std::string flock_holder(std::uint64_t inode) {
  std::istringstream lines(read_file("/proc/locks").value_or(""));
  const std::string suffix = fmt::format(":{}", inode);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string number, kind, mode, access, file;
    pid_t pid = 0;
    if (fields >> number >> kind >> mode >> access >> pid >> file && kind == "FLOCK" &&
        file.ends_with(suffix) && pid > 0)
      return describe(pid);
  }
  return "a process";
}

Result<> refuse_if_flocked(const std::filesystem::path& path) {
  FileDescriptor file(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!file && errno == ENOENT) return {};
  struct stat info {};
  if (!file && errno == EACCES && ::lstat(path.c_str(), &info) == 0)
    return fail(ErrorCode::refused, "{} belongs to another user (uid {}), whose RouDi it is",
                path.native(), info.st_uid);
  if (!file) return fail_errno(errno, "{}", path.native());
  // A lock that nobody holds is a dead RouDi's. Holding it for a moment harms nobody.
  if (::flock(file.get(), LOCK_EX | LOCK_NB) == 0) return {};
  if (errno != EWOULDBLOCK) return fail_errno(errno, "{}", path.native());
  ::fstat(file.get(), &info);
  return fail(ErrorCode::refused,
              "another RouDi is running here: {} holds {}. There is one per host: stop it, or give "
              "opsplit a private /tmp and /dev/shm",
              flock_holder(info.st_ino), path.native());
}

}  // namespace

Result<std::string> group_name() {
  // Not the thread-safe variants: iceoryx itself calls these, too.
  if (::getpwuid(::geteuid()) == nullptr)
    return fail(ErrorCode::refused,
                "the user id {} has no name: iceoryx needs an entry in /etc/passwd", ::geteuid());
  const group* entry = ::getgrgid(::getegid());
  if (entry == nullptr)
    return fail(ErrorCode::refused,
                "the group id {} has no name: iceoryx needs an entry in /etc/group", ::getegid());
  return std::string(entry->gr_name);
}

std::vector<std::filesystem::path> segment_files(const std::string& group) {
  return {management_segment, "/dev/shm/" + group};
}

std::vector<std::filesystem::path> socket_and_lock_files() {
  const std::string own = fmt::format("/tmp/{}", broker_runtime_name);
  return {"/tmp/iox-unique-roudi.lock", "/tmp/roudi", "/tmp/roudi.lock", own, own + ".lock"};
}

std::vector<std::filesystem::path> runtime_files() {
  std::vector<std::filesystem::path> files;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/tmp", ignored)) {
    struct stat info {};
    if (entry.path().filename().native().starts_with(runtime_prefix) &&
        ::lstat(entry.path().c_str(), &info) == 0 && info.st_uid == ::geteuid())
      files.push_back(entry.path());
  }
  return files;
}

std::uint64_t management_segment_inode() {
  struct stat info {};
  return ::stat(management_segment, &info) == 0 ? info.st_ino : 0;
}

Result<> refuse_foreign_roudi(std::uint64_t our_last) {
  OPSPLIT_CHECK(refuse_if_flocked("/tmp/iox-unique-roudi.lock"));
  OPSPLIT_CHECK(refuse_if_flocked("/tmp/roudi.lock"));
  const auto inode = management_segment_inode();
  if (inode == 0 || inode == our_last) return {};
  if (const auto users = processes_that_map({management_segment}); !users.empty())
    return fail(ErrorCode::refused,
                "{} is in use by {}, and no opsplit broker made it: a RouDi with another /tmp runs "
                "here. Stop it, or give opsplit a private /dev/shm",
                management_segment, describe(users[0]));
  return {};
}

void remove_files(const std::vector<std::filesystem::path>& files) {
  for (const auto& file : files) ::unlink(file.c_str());
}

Result<FileDescriptor> take_over_from_dead_broker() {
  std::uint64_t last_segment = 0;  // of our own last broker
  if (const auto last = last_lock_holder(broker_lock_path)) {
    const auto mark = last->note.rfind("mgmt ");
    if (mark != std::string::npos)
      std::from_chars(last->note.data() + mark + 5, last->note.data() + last->note.size(),
                      last_segment);
  }
  auto lock = lock_exclusive(broker_lock_path, fmt::format("mgmt {}", last_segment));
  if (!lock) return within("another broker is running", std::move(lock).error());
  const auto alone = refuse_foreign_roudi(last_segment);
  const auto group = alone ? group_name() : tl::unexpected(alone.error());
  if (!group) {
    remove_files({broker_lock_path});
    return tl::unexpected(group.error());
  }
  remove_files(segment_files(*group));
  remove_files(socket_and_lock_files());
  remove_files(runtime_files());
  return lock;
}

}  // namespace opsplit::ipc
