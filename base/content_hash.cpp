#include "base/content_hash.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <memory>
#include <vector>

#include "base/system.hpp"

namespace opsplit {
namespace {

constexpr std::size_t chunk_bytes = 256 << 10;  // stays in the core's cache

std::string text_of(const XXH128_hash_t& hash) {
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace

std::string content_hash(std::span<const std::byte> bytes) {
  return text_of(XXH3_128bits(bytes.data(), bytes.size()));
}

Result<std::string> content_hash_of(const std::filesystem::path& file) {
  const FileDescriptor opened(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!opened) return fail_errno(errno, "{}", file.native());
  struct stat info {};
  if (::fstat(opened.get(), &info) != 0) return fail_errno(errno, "{}", file.native());
  if (!S_ISREG(info.st_mode))
    return fail(ErrorCode::invalid_input, "{}: not a regular file", file.native());
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(),
                                                                       XXH3_freeState);
  XXH3_128bits_reset(state.get());
  std::vector<std::byte> chunk(chunk_bytes);
  while (true) {
    const ssize_t count = ::read(opened.get(), chunk.data(), chunk.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno(errno, "{}", file.native());
    if (count == 0) return text_of(XXH3_128bits_digest(state.get()));
    XXH3_128bits_update(state.get(), chunk.data(), static_cast<std::size_t>(count));
  }
}

}  // namespace opsplit
