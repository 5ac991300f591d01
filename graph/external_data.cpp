#include "graph/external_data.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
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

}  // namespace

Result<MappedFile> map_file(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return fail_errno(errno, "fstat");
  if (!S_ISREG(status.st_mode)) return fail(ErrorCode::invalid_input, "not a regular file");
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size == 0) return MappedFile{};
  void* memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (memory == MAP_FAILED) return fail_errno(errno, "mapping {} bytes", size);
  std::shared_ptr<const void> owner(memory, [size](void* block) { ::munmap(block, size); });
  return MappedFile{{static_cast<const std::byte*>(memory), size}, std::move(owner)};
}

Result<MappedFile> ExternalData::file(const std::string& location) {
  if (const auto known = mapped_.find(location); known != mapped_.end()) return known->second;
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
  auto mapped = map_file(at.get());
  if (!mapped)
    return within(fmt::format("external data '{}'", location), std::move(mapped).error());
  mapped_.emplace(location, *mapped);
  return mapped;
}

}  // namespace opsplit::graph
