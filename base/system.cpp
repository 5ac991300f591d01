#include "base/system.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <limits>
#include <set>
#include <sstream>
#include <utility>

namespace opsplit {
namespace {

// The holder's line in a lock file: "PID START_TIME BOOT_ID NOTE\n".
Result<LockHolder> parse_holder(const std::filesystem::path& path, std::string_view text) {
  text = text.substr(0, text.find('\n'));
  LockHolder holder;
  const auto number = [&text](auto& value) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    if (text.starts_with(' ')) text.remove_prefix(1);
    return error == std::errc{};
  };
  if (!number(holder.process.pid) || !number(holder.process.start_time) ||
      !number(holder.process.boot_id))
    return fail(ErrorCode::invalid_input, "{}: does not name a lock holder", path.native());
  holder.note = text;
  return holder;
}

struct flock whole_file() {
  struct flock range {};
  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  return range;
}

Result<bool> is_locked(const std::filesystem::path& path, const FileDescriptor& file) {
  auto range = whole_file();
  if (::fcntl(file.get(), F_OFD_GETLK, &range) != 0)
    return fail_errno(errno, "{}: cannot read its lock", path.native());
  return range.l_type != F_UNLCK;
}

// Whether the path still names the file that was opened: its last holder may have removed it.
bool still_named(const std::filesystem::path& path, const FileDescriptor& file) {
  struct stat named {
  }, opened{};
  return ::stat(path.c_str(), &named) == 0 && ::fstat(file.get(), &opened) == 0 &&
         named.st_dev == opened.st_dev && named.st_ino == opened.st_ino;
}

// Fields of /proc/PID/stat; times in clock ticks.
struct ProcessStat {
  std::uint64_t user_ticks = 0;    // field 14
  std::uint64_t system_ticks = 0;  // field 15
  std::uint64_t start_time = 0;    // field 22: after boot
};

Result<ProcessStat> stat_of(pid_t pid) {
  const auto text = read_file(fmt::format("/proc/{}/stat", pid));
  if (!text) return fail(ErrorCode::not_found, "no process has the pid {}", pid);
  // The second field, the command in brackets, may hold anything, brackets and spaces too.
  std::string_view rest = *text;
  rest.remove_prefix(std::min(rest.size(), rest.rfind(')') + 1));
  ProcessStat stat;
  for (int field = 3; field <= 22; ++field) {
    rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
    const std::size_t length = std::min(rest.find(' '), rest.size());
    std::uint64_t* value = field == 14   ? &stat.user_ticks
                           : field == 15 ? &stat.system_ticks
                           : field == 22 ? &stat.start_time
                                         : nullptr;
    if (value != nullptr &&
        std::from_chars(rest.data(), rest.data() + length, *value).ec != std::errc{})
      return fail(ErrorCode::system, "/proc/{}/stat: field {} is no number", pid, field);
    rest.remove_prefix(length);
  }
  return stat;
}

// A line of /proc/PID/status, in bytes; 0 if it is not there (a zombie has no memory).
std::uint64_t kilobytes(std::string_view status, std::string_view key) {
  const auto found = status.find(key);
  if (found == std::string_view::npos) return 0;
  status.remove_prefix(found + key.size());
  status.remove_prefix(std::min(status.find_first_not_of(" \t"), status.size()));
  std::uint64_t value = 0;
  std::from_chars(status.data(), status.data() + status.size(), value);
  return value << 10;
}

}  // namespace

std::uint64_t thread_cpu_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}

int poll_timeout(Deadline deadline) {
  const auto now = Clock::now();
  if (deadline <= now) return 0;  // not a difference first: Deadline::min() would overflow it
  const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(deadline - now).count();
  return static_cast<int>(std::min<std::int64_t>(milliseconds, std::numeric_limits<int>::max()));
}

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = other.release();
  }
  return *this;
}

int FileDescriptor::release() { return std::exchange(fd_, -1); }

void FileDescriptor::reset() {
  if (fd_ >= 0) ::close(release());
}

std::uint64_t boot_id() {
  static const std::uint64_t id = [] {
    std::uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
    for (const char c : read_file("/proc/sys/kernel/random/boot_id").value_or(""))
      hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    return hash;
  }();
  return id;
}

Result<ProcessIdentity> identify(pid_t pid) {
  OPSPLIT_TRY(const ProcessStat stat, stat_of(pid));
  return ProcessIdentity{pid, stat.start_time, boot_id()};
}

Result<ProcessUsage> usage_of(const ProcessIdentity& process) {
  const auto status = read_file(fmt::format("/proc/{}/status", process.pid));
  // Last, so that its start time speaks for both.
  const auto stat = stat_of(process.pid);
  if (!status || !stat || stat->start_time != process.start_time)
    return fail(ErrorCode::not_found, "process {} has ended", process.pid);
  static const auto ticks_per_second = static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK));
  return ProcessUsage{(stat->user_ticks + stat->system_ticks) * (1'000'000'000 / ticks_per_second),
                      kilobytes(*status, "RssAnon:") + kilobytes(*status, "RssFile:"),
                      kilobytes(*status, "RssShmem:")};
}

Result<CpuTime> cpu_time_of(pid_t pid) {
  CpuTime time;
  std::error_code error;
  auto thread = std::filesystem::directory_iterator(fmt::format("/proc/{}/task", pid), error);
  for (; !error && thread != std::filesystem::directory_iterator(); thread.increment(error)) {
    // In this order: what one that is found asleep has run is all in the figures that are read then.
    const auto stat = read_file(thread->path() / "stat");
    const auto schedstat = read_file(thread->path() / "schedstat");
    std::uint64_t ran = 0, waited = 0;
    if (!schedstat || !stat || !(std::istringstream(*schedstat) >> ran >> waited))
      continue;  // it has ended meanwhile
    time.ran_ns += ran;
    time.waited_ns += waited;
    time.ready = time.ready || stat->find(") R ") != std::string::npos;
  }
  if (error) return fail_errno(error.value(), "/proc/{}/task", pid);
  return time;
}

// A wait that lasts is not in the kernel's figures yet, so that of one that is ready only what it ran
// counts.
std::uint64_t usable_ns(std::uint64_t passed_ns, const CpuTime& before, const CpuTime& now) {
  const auto grown = [passed_ns](std::uint64_t from, std::uint64_t to) {
    return std::min(passed_ns, to - std::min(to, from));
  };
  return now.ready ? grown(before.ran_ns, now.ran_ns)
                   : passed_ns - grown(before.waited_ns, now.waited_ns);
}

ProcessIdentity own_identity() {
  return identify(::getpid()).value_or(ProcessIdentity{::getpid(), 0, boot_id()});
}

Result<FileDescriptor> open_pidfd(const ProcessIdentity& process) {
  // Not pidfd_open(): the header of glibc 2.36 lacks extern "C".
  FileDescriptor pidfd(static_cast<int>(::syscall(SYS_pidfd_open, process.pid, 0)));
  if (!pidfd && errno != ESRCH && errno != EINVAL)
    return fail_errno(errno, "pidfd_open of process {}", process.pid);
  // The pid cannot be used again while its identity is read, if the pidfd's process is the one
  // that is meant: so the order is first the pidfd, then the identity.
  if (!pidfd || identify(process.pid) != process)
    return fail(ErrorCode::not_found, "process {} has ended", process.pid);
  return pidfd;
}

bool has_ended(const FileDescriptor& pidfd, Deadline deadline) {
  pollfd wait{pidfd.get(), POLLIN, 0};
  while (true) {
    const int ready = ::poll(&wait, 1, poll_timeout(deadline));
    if (ready > 0) return true;
    if (ready == 0 && Clock::now() >= deadline) return false;
    if (ready < 0 && errno != EINTR) return false;
  }
}

Result<FileDescriptor> lock_exclusive(const std::filesystem::path& path, std::string_view note) {
  while (true) {
    FileDescriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file) return fail_errno(errno, "{}: cannot open the lock", path.native());
    auto range = whole_file();
    if (::fcntl(file.get(), F_OFD_SETLK, &range) == 0) {
      if (!still_named(path, file)) continue;
      OPSPLIT_CHECK(write_lock_note(file, note));
      return file;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EACCES)
      return fail_errno(errno, "{}: cannot lock", path.native());
    const auto holder = last_lock_holder(path);
    if (!holder) return fail(ErrorCode::refused, "{} is held by another process", path.native());
    return fail(ErrorCode::refused, "{} is held by process {}", path.native(), holder->process.pid);
  }
}

Result<> write_lock_note(const FileDescriptor& lock, std::string_view note) {
  const auto self = own_identity();
  const auto line = fmt::format("{} {} {} {}\n", self.pid, self.start_time, self.boot_id, note);
  // One write, then the rest cut off: a reader between the two still finds a whole first line.
  if (::pwrite(lock.get(), line.data(), line.size(), 0) != static_cast<ssize_t>(line.size()) ||
      ::ftruncate(lock.get(), static_cast<off_t>(line.size())) != 0)
    return fail_errno(errno, "cannot write the holder into a lock file");
  return {};
}

Result<std::optional<LockHolder>> lock_holder(const std::filesystem::path& path) {
  FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file && errno == ENOENT) return std::nullopt;
  if (!file) return fail_errno(errno, "{}", path.native());
  OPSPLIT_TRY(const bool locked, is_locked(path, file));
  if (!locked || !still_named(path, file)) return std::nullopt;
  return last_lock_holder(path).value_or(LockHolder{});
}

Result<LockHolder> last_lock_holder(const std::filesystem::path& path) {
  OPSPLIT_TRY(const std::string text, read_file(path, 4096));
  return parse_holder(path, text);
}

Result<> check_private_folder(const std::filesystem::path& folder) {
  struct stat info {};
  if (::lstat(folder.c_str(), &info) != 0) return fail_errno(errno, "{}", folder.native());
  if (!S_ISDIR(info.st_mode) || info.st_uid != ::geteuid() || (info.st_mode & 077) != 0)
    return fail(ErrorCode::refused, "{}: must be a folder of this user with mode 0700",
                folder.native());
  return {};
}

Result<> make_private_folder(const std::filesystem::path& folder) {
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
    return fail_errno(errno, "{}", folder.native());
  return check_private_folder(folder);
}

Result<std::uint64_t> free_bytes(const std::filesystem::path& path) {
  struct statvfs room {};
  if (::statvfs(path.c_str(), &room) != 0) return fail_errno(errno, "{}", path.native());
  return std::uint64_t{room.f_bavail} * room.f_frsize;
}

Result<std::string> read_file(const std::filesystem::path& path, std::size_t limit) {
  // Never waits for the writer of a FIFO.
  FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file && errno == ENOENT)
    return fail(ErrorCode::not_found, "{}: no such file", path.native());
  struct stat info {};
  if (!file || ::fstat(file.get(), &info) != 0) return fail_errno(errno, "{}", path.native());
  if (!S_ISREG(info.st_mode))
    return fail(ErrorCode::invalid_input, "{}: not a plain file", path.native());
  std::string content;
  std::array<char, 4096> block;
  while (true) {
    const ssize_t count = ::read(file.get(), block.data(), block.size());
    if (count == 0) return content;
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno(errno, "{}", path.native());
    content.append(block.data(), static_cast<std::size_t>(count));
    if (content.size() > limit)
      return fail(ErrorCode::limit_exceeded, "{}: longer than {} bytes", path.native(), limit);
  }
}

std::vector<pid_t> processes_that_map(const std::vector<std::filesystem::path>& files) {
  std::set<std::string> wanted;  // "00:1a 5", as a line of /proc/PID/maps says it
  for (const auto& file : files) {
    struct stat info {};
    if (::lstat(file.c_str(), &info) == 0 && S_ISREG(info.st_mode))
      wanted.insert(
          fmt::format("{:02x}:{:02x} {}", major(info.st_dev), minor(info.st_dev), info.st_ino));
  }
  std::vector<pid_t> found;
  std::error_code ignored;
  for (const auto& process : std::filesystem::directory_iterator("/proc", ignored)) {
    const std::string name = process.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream maps(process.path() / "maps");
    std::string range, access, offset, device, inode, rest;
    while (maps >> range >> access >> offset >> device >> inode && std::getline(maps, rest))
      if (wanted.contains(device + " " + inode)) {
        found.push_back(static_cast<pid_t>(std::stol(name)));
        break;
      }
  }
  return found;
}

}  // namespace opsplit
