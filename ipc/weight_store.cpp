#include "ipc/weight_store.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "base/system.hpp"

namespace opsplit::ipc {
namespace {

__extension__ using Uint128 = unsigned __int128;

std::string file_name(std::string_view key) {
  Uint128 hash = Uint128{0x6c62272e07bb0142} << 64 | 0x62b821756295c58d;
  const Uint128 prime = Uint128{1} << 88 | 0x13b;
  for (const char c : key) hash = (hash ^ static_cast<unsigned char>(c)) * prime;
  return fmt::format("packed-{:016x}{:016x}", static_cast<std::uint64_t>(hash >> 64),
                     static_cast<std::uint64_t>(hash));
}

// Where the parts of a packed file lie; nullopt if that overflows.
struct PackedLayout {
  std::uint64_t data_offset = 0;
  std::uint64_t total = 0;

  static std::optional<PackedLayout> of(std::uint64_t key_bytes, std::uint64_t data_bytes) {
    PackedLayout layout;
    layout.data_offset = (sizeof(PackedHeader) + key_bytes + 63) / 64 * 64;
    if (__builtin_add_overflow(layout.data_offset, data_bytes, &layout.total) ||
        layout.total > std::uint64_t{1} << 62)
      return std::nullopt;
    return layout;
  }
};

class Mapping {
 public:
  static Result<Mapping> of(const FileDescriptor& file, std::uint64_t bytes, int protection) {
    void* address = ::mmap(nullptr, bytes, protection, MAP_SHARED, file.get(), 0);
    if (address == MAP_FAILED) return fail_errno(errno, "cannot map {} bytes", bytes);
    return Mapping(static_cast<std::byte*>(address), bytes);
  }
  Mapping(Mapping&& other) noexcept
      : address_(std::exchange(other.address_, nullptr)), bytes_(other.bytes_) {}
  Mapping& operator=(Mapping&&) = delete;
  ~Mapping() {
    if (address_ != nullptr) ::munmap(address_, bytes_);
  }
  [[nodiscard]] std::byte* data() const { return address_; }

 private:
  Mapping(std::byte* address, std::uint64_t bytes) : address_(address), bytes_(bytes) {}
  std::byte* address_;
  std::uint64_t bytes_;
};

struct Packed {
  Mapping mapping;
  std::span<const std::byte> data;
};

// A folder that is ours and no link to one elsewhere; nullopt: nothing has that name.
Result<std::optional<bool>> is_own_folder(const std::filesystem::path& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) return std::nullopt;
    return fail_errno(errno, "{}", path.native());
  }
  return S_ISDIR(info.st_mode) && info.st_uid == ::geteuid();
}

Result<> remove_folder(const std::filesystem::path& path) {
  OPSPLIT_TRY(const auto own, is_own_folder(path));
  if (!own) return {};
  if (!*own)
    return fail(ErrorCode::refused, "{} is not a folder of this user: left alone", path.native());
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) return fail(ErrorCode::system, "{}: {}", path.native(), error.message());
  return {};
}

// Maps a complete file after a look at what it says of itself. nullopt: there is none.
Result<std::optional<Packed>> map_packed(const std::filesystem::path& path, std::string_view key,
                                         std::uint64_t bytes, const PackedLayout& layout) {
  FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file && errno == ENOENT) return std::nullopt;
  if (!file) return fail_errno(errno, "{}", path.native());
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return fail_errno(errno, "{}", path.native());
  const auto damaged = [&path](const char* why) {
    return fail(ErrorCode::refused, "{}: {}", path.native(), why);
  };
  if (!S_ISREG(info.st_mode) || static_cast<std::uint64_t>(info.st_size) != layout.total)
    return damaged("packed for another size, or damaged");
  OPSPLIT_TRY(Mapping mapping, Mapping::of(file, layout.total, PROT_READ));
  PackedHeader header;
  std::memcpy(&header, mapping.data(), sizeof(header));
  if (header.magic != PackedHeader::expected_magic || header.key_bytes != key.size() ||
      header.data_offset != layout.data_offset || header.data_bytes != bytes)
    return damaged("not a packed weight of this key and size");
  if (std::memcmp(mapping.data() + sizeof(header), key.data(), key.size()) != 0)
    return damaged("holds another key of the same hash");
  const std::span<const std::byte> data(mapping.data() + layout.data_offset, bytes);
  return Packed{std::move(mapping), data};
}

Result<> write_packed(const std::filesystem::path& folder, const std::filesystem::path& path,
                      std::string_view key, std::uint64_t bytes, const PackedLayout& layout,
                      const std::function<Result<>(std::byte*)>& fill) {
  FileDescriptor file(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0400));
  if (!file) return fail_errno(errno, "{}: cannot make a file without a name", folder.native());
  // All pages now: later a full tmpfs would answer with SIGBUS.
  const int error = ::posix_fallocate(file.get(), 0, static_cast<off_t>(layout.total));
  if (error == ENOSPC || error == EFBIG)
    return fail(ErrorCode::limit_exceeded, "{}: packed weights need {} bytes, {} are free",
                folder.native(), layout.total, free_bytes(folder).value_or(0));
  if (error != 0) return fail_errno(error, "{}: {} bytes", folder.native(), layout.total);
  {
    OPSPLIT_TRY(const Mapping mapping, Mapping::of(file, layout.total, PROT_READ | PROT_WRITE));
    const PackedHeader header{PackedHeader::expected_magic, key.size(), layout.data_offset, bytes};
    std::memcpy(mapping.data(), &header, sizeof(header));
    std::memcpy(mapping.data() + sizeof(header), key.data(), key.size());
    OPSPLIT_CHECK(fill(mapping.data() + layout.data_offset));
  }
  const auto source = fmt::format("/proc/self/fd/{}", file.get());
  if (::linkat(AT_FDCWD, source.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) != 0 &&
      errno != EEXIST)
    return fail_errno(errno, "{}", path.native());
  return {};
}

Result<Packed> map_or_write(const std::filesystem::path& folder, std::string_view key,
                            std::uint64_t bytes, const std::function<Result<>(std::byte*)>& fill) {
  const auto layout = PackedLayout::of(key.size(), bytes);
  if (!layout) return fail(ErrorCode::limit_exceeded, "packed weights of {} bytes", bytes);
  const auto path = folder / file_name(key);
  OPSPLIT_TRY(auto found, map_packed(path, key, bytes, *layout));
  if (found) return std::move(*found);
  OPSPLIT_CHECK(write_packed(folder, path, key, bytes, *layout, fill));
  OPSPLIT_TRY(auto written, map_packed(path, key, bytes, *layout));
  if (!written) return fail(ErrorCode::not_found, "{} was removed meanwhile", path.native());
  return std::move(*written);
}

}  // namespace

struct WeightStore::State {
  std::filesystem::path path;
  FileDescriptor lock;  // of whoever created it
  std::mutex mutex;
  std::map<std::string, Packed, std::less<>> mapped;
};

WeightStore::WeightStore(std::unique_ptr<State> state) : state_(std::move(state)) {}
WeightStore::WeightStore(WeightStore&&) noexcept = default;
WeightStore& WeightStore::operator=(WeightStore&&) noexcept = default;
WeightStore::~WeightStore() = default;

const std::filesystem::path& WeightStore::path() const { return state_->path; }

Result<WeightStore> WeightStore::create(const std::filesystem::path& path) {
  OPSPLIT_TRY(const auto own, is_own_folder(path));
  if (own && !*own)
    return fail(ErrorCode::already_exists, "{} exists and is not a folder of this user",
                path.native());
  if (own) {
    OPSPLIT_TRY(const auto holder, lock_holder(path / "lock"));
    if (holder)
      return fail(ErrorCode::already_exists, "{} is in use by process {}", path.native(),
                  holder->process.pid);
    OPSPLIT_CHECK(remove_folder(path));
  }
  if (::mkdir(path.c_str(), 0700) != 0) return fail_errno(errno, "{}", path.native());
  auto state = std::make_unique<State>();
  state->path = path;
  OPSPLIT_TRY(state->lock, lock_exclusive(path / "lock"));
  return WeightStore(std::move(state));
}

Result<WeightStore> WeightStore::open(const std::filesystem::path& path) {
  OPSPLIT_TRY(const auto own, is_own_folder(path));
  if (!own || !*own)
    return fail(ErrorCode::not_found, "{} is not a folder of this user", path.native());
  auto state = std::make_unique<State>();
  state->path = path;
  return WeightStore(std::move(state));
}

Result<> WeightStore::remove(const std::filesystem::path& path) { return remove_folder(path); }

Result<std::span<const std::byte>> WeightStore::packed(
    std::string_view key, std::uint64_t bytes, const std::function<Result<>(std::byte*)>& fill) {
  if (key.size() > max_key_bytes)
    return fail(ErrorCode::limit_exceeded, "a key of {} bytes: at most {}", key.size(),
                max_key_bytes);
  const std::lock_guard guard(state_->mutex);
  if (const auto known = state_->mapped.find(key); known != state_->mapped.end()) {
    if (known->second.data.size() != bytes)
      return fail(ErrorCode::refused, "{}: packed with {} bytes, not {}", key,
                  known->second.data.size(), bytes);
    return known->second.data;
  }
  OPSPLIT_TRY(auto packed, map_or_write(state_->path, key, bytes, fill));
  const auto data = packed.data;
  state_->mapped.emplace(key, std::move(packed));
  return data;
}

}  // namespace opsplit::ipc
