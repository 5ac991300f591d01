#include "graph/external_data.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>
#include <vector>

#include "graph/names.hpp"

namespace opsplit::graph {
namespace {

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

// The parts of a relative path, or an error if it could lead out of the folder it starts in.
Result<std::vector<std::string>> components(const std::string& location) {
  std::vector<std::string> parts;
  if (location.empty() || !is_printable(location))
    return fail(ErrorCode::refused, "external data without a usable file name");
  if (location.front() == '/')
    return fail(ErrorCode::refused,
                "external data '{}': an absolute path; weights must lie in the model's folder",
                location);
  std::size_t begin = 0;
  while (begin <= location.size()) {
    const std::size_t end = std::min(location.find('/', begin), location.size());
    std::string part = location.substr(begin, end - begin);
    if (part == "..")
      return fail(ErrorCode::refused,
                  "external data '{}': leaves the model's folder; weights must lie in it",
                  location);
    if (!part.empty() && part != ".") parts.push_back(std::move(part));
    begin = end + 1;
  }
  if (parts.empty()) return fail(ErrorCode::refused, "external data '{}': names no file", location);
  return parts;
}

constexpr std::align_val_t data_alignment{64};

Result<std::size_t> size_of(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return fail_errno(errno, "fstat");
  if (!S_ISREG(status.st_mode)) return fail(ErrorCode::invalid_input, "not a regular file");
  return static_cast<std::size_t>(status.st_size);
}

}  // namespace

Result<FileBytes> read_whole(int fd) {
  OPSPLIT_TRY(const std::size_t size, size_of(fd));
  void* memory = ::operator new(size, data_alignment, std::nothrow);
  if (memory == nullptr)
    return fail(ErrorCode::limit_exceeded, "{} bytes do not fit into memory", size);
  std::shared_ptr<const void> owner(memory,
                                    [](void* block) { ::operator delete(block, data_alignment); });
  auto* bytes = static_cast<std::byte*>(memory);
  for (std::size_t at = 0; at < size;) {
    const ssize_t count = ::pread(fd, bytes + at, size - at, static_cast<off_t>(at));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno(errno, "reading {} bytes", size);
    if (count == 0) return fail(ErrorCode::invalid_input, "became shorter while it was read");
    at += static_cast<std::size_t>(count);
  }
  return FileBytes{{bytes, size}, std::move(owner)};
}

namespace {

Result<FileBytes> map_file(int fd) {
  OPSPLIT_TRY(const std::size_t size, size_of(fd));
  if (size == 0) return FileBytes{};
  void* memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (memory == MAP_FAILED) return fail_errno(errno, "mapping {} bytes", size);
  std::shared_ptr<const void> owner(memory, [size](void* block) { ::munmap(block, size); });
  return FileBytes{{static_cast<const std::byte*>(memory), size}, std::move(owner)};
}

}  // namespace

Result<FileBytes> ExternalData::file(const std::string& location) {
  if (const auto known = files_.find(location); known != files_.end()) return known->second;
  OPSPLIT_TRY(const auto parts, components(location));

  const std::string start = folder_.empty() ? "." : folder_.string();
  Fd at(::open(start.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (at.get() < 0) return fail_errno(errno, "folder '{}'", start);
  // Component by component, so that no symbolic link is followed on the way either. (openat2's
  // RESOLVE_BENEATH would do, but container runtimes of today still filter it.)
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const int kind = i + 1 < parts.size() ? O_DIRECTORY : O_NONBLOCK;  // never wait for a FIFO
    Fd next(::openat(at.get(), parts[i].c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | kind));
    if (next.get() < 0 && (errno == ELOOP || errno == ENOTDIR))
      return fail(
          ErrorCode::refused,
          "external data '{}': '{}' is a symbolic link or no folder; links are not followed",
          location, parts[i]);
    if (next.get() < 0) return fail_errno(errno, "external data '{}'", location);
    at = std::move(next);
  }
  auto bytes = weights_ == Weights::mapped ? map_file(at.get()) : read_whole(at.get());
  if (!bytes) return within(fmt::format("external data '{}'", location), std::move(bytes).error());
  files_.emplace(location, *bytes);
  return bytes;
}

}  // namespace opsplit::graph
