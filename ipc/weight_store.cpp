#include "ipc/weight_store.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <map>
#include <mutex>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "base/content_hash.hpp"
#include "base/system.hpp"

namespace opsplit::ipc {
namespace {

// At most so many bytes are read rather than mapped: a mapping costs a page and a page fault.
constexpr std::uint64_t small_bytes = 64 << 10;
// The time of the last use need not be known better than that.
constexpr std::int64_t seconds_between_touches = 3600;
constexpr std::string_view prefix = "packed-";

std::string file_name(std::string_view key) {
  return fmt::format("{}{}", prefix, content_hash(std::as_bytes(std::span(key))));
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

using Bytes = std::shared_ptr<std::byte>;

Result<Bytes> map(const FileDescriptor& file, std::uint64_t bytes, int protection) {
  void* address = ::mmap(nullptr, bytes, protection, MAP_SHARED, file.get(), 0);
  if (address == MAP_FAILED) return fail_errno(errno, "cannot map {} bytes", bytes);
  return Bytes(static_cast<std::byte*>(address),
               [bytes](void* mapped) { ::munmap(mapped, bytes); });
}

Result<Bytes> read(const FileDescriptor& file, std::uint64_t bytes) {
  constexpr std::align_val_t alignment{64};
  Bytes memory(static_cast<std::byte*>(::operator new(bytes, alignment)),
               [](void* block) { ::operator delete(block, alignment); });
  if (::pread(file.get(), memory.get(), bytes, 0) != static_cast<ssize_t>(bytes))
    return fail_errno(errno, "cannot read {} bytes", bytes);
  return memory;
}

struct Packed {
  Bytes file;
  std::span<const std::byte> data;
  WeightStore::Location location;
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

std::array<char, 32> checksum_of(std::span<const std::byte> data) {
  std::array<char, 32> checksum{};
  content_hash(data).copy(checksum.data(), checksum.size());
  return checksum;
}

// The file, if it is what it should be: its size must go with its header, and its header with the key
// and the data.
Result<Packed> open_packed(const std::filesystem::path& path, std::string_view key,
                           std::optional<std::uint64_t> bytes) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file && errno == ENOENT) return fail(ErrorCode::not_found, "{}", path.native());
  if (!file) return fail_errno(errno, "{}", path.native());
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return fail_errno(errno, "{}", path.native());
  PackedHeader header;
  if (!S_ISREG(info.st_mode) ||
      ::pread(file.get(), &header, sizeof(header), 0) != static_cast<ssize_t>(sizeof(header)) ||
      header.magic != PackedHeader::expected_magic)
    return fail(ErrorCode::refused, "{}: not a file of packed weights", path.native());
  const auto layout = PackedLayout::of(key.size(), header.data_bytes);
  if (!layout || layout->total != static_cast<std::uint64_t>(info.st_size) ||
      header.key_bytes != key.size() || header.data_offset != layout->data_offset ||
      header.data_bytes != bytes.value_or(header.data_bytes))
    return fail(ErrorCode::refused, "{}: of another key or size, or cut off", path.native());
  OPSPLIT_TRY(const Bytes whole, layout->total <= small_bytes
                                     ? read(file, layout->total)
                                     : map(file, layout->total, PROT_READ));
  const std::span<const std::byte> data(whole.get() + layout->data_offset, header.data_bytes);
  if (std::memcmp(whole.get() + sizeof(header), key.data(), key.size()) != 0 ||
      checksum_of(data) != header.checksum)
    return fail(ErrorCode::refused, "{}: damaged", path.native());
  if (info.st_mtime + seconds_between_touches < ::time(nullptr)) ::futimens(file.get(), nullptr);
  return Packed{whole, data, {path, layout->data_offset}};
}

Result<Packed> write_packed(const std::filesystem::path& path, std::string_view key,
                            std::uint64_t bytes, const PackedLayout& layout,
                            const WeightStore::Fill& fill) {
  const auto folder = path.parent_path();
  FileDescriptor file(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0400));
  if (!file) return fail_errno(errno, "{}: cannot make a file without a name", folder.native());
  // All pages now: later a full file system would answer with SIGBUS.
  const int error = ::posix_fallocate(file.get(), 0, static_cast<off_t>(layout.total));
  if (error == ENOSPC || error == EFBIG || error == EDQUOT)
    return fail(ErrorCode::limit_exceeded, "{}: packed weights need {} bytes, {} are free",
                folder.native(), layout.total, free_bytes(folder).value_or(0));
  if (error != 0) return fail_errno(error, "{}: {} bytes", folder.native(), layout.total);
  OPSPLIT_TRY(const Bytes whole, map(file, layout.total, PROT_READ | PROT_WRITE));
  const std::span<std::byte> data(whole.get() + layout.data_offset, bytes);
  OPSPLIT_CHECK(fill(data.data()));
  const PackedHeader header{PackedHeader::expected_magic, key.size(), layout.data_offset, bytes,
                            checksum_of(data)};
  std::memcpy(whole.get(), &header, sizeof(header));
  std::memcpy(whole.get() + sizeof(header), key.data(), key.size());
  ::mprotect(whole.get(), layout.total, PROT_READ);
  const auto source = fmt::format("/proc/self/fd/{}", file.get());
  if (::linkat(AT_FDCWD, source.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) == 0)
    return Packed{whole, data, {path, layout.data_offset}};
  if (errno != EEXIST) return fail_errno(errno, "{}", path.native());
  return open_packed(path, key, bytes);  // somebody else was faster
}

Result<Packed> open_or_write(const std::filesystem::path& folder, std::string_view key,
                             std::uint64_t bytes, const WeightStore::Fill& fill) {
  const auto layout = PackedLayout::of(key.size(), bytes);
  if (!layout) return fail(ErrorCode::limit_exceeded, "packed weights of {} bytes", bytes);
  const auto path = folder / file_name(key);
  auto found = open_packed(path, key, bytes);
  if (found) return found;
  if (found.error().code != ErrorCode::not_found) ::unlink(path.c_str());
  return write_packed(path, key, bytes, *layout, fill);
}

}  // namespace

struct WeightStore::State {
  std::filesystem::path path;
  std::filesystem::path cache;  // empty: none
  FileDescriptor lock;          // of whoever created it
  std::mutex mutex;
  std::map<std::string, Packed, std::less<>> known;

  Result<Packed> get(std::string_view key, std::uint64_t bytes, const Fill& fill) const {
    // The error of `fill` is passed on as it is: elsewhere it would fail as well.
    Result<> filled;
    const auto remember = [&](std::byte* data) { return filled = fill(data); };
    if (!cache.empty())
      if (auto packed = open_or_write(cache, key, bytes, remember); packed || !filled)
        return packed;
    return open_or_write(path, key, bytes, fill);
  }
};

WeightStore::WeightStore(std::unique_ptr<State> state) : state_(std::move(state)) {}
WeightStore::WeightStore(WeightStore&&) noexcept = default;
WeightStore& WeightStore::operator=(WeightStore&&) noexcept = default;
WeightStore::~WeightStore() = default;

const std::filesystem::path& WeightStore::path() const { return state_->path; }

Result<WeightStore> WeightStore::create(const std::filesystem::path& path,
                                        const std::filesystem::path& cache) {
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
  state->cache = cache;
  OPSPLIT_TRY(state->lock, lock_exclusive(path / "lock"));
  return WeightStore(std::move(state));
}

Result<WeightStore> WeightStore::open(const std::filesystem::path& path,
                                      const std::filesystem::path& cache) {
  OPSPLIT_TRY(const auto own, is_own_folder(path));
  if (!own || !*own)
    return fail(ErrorCode::not_found, "{} is not a folder of this user", path.native());
  auto state = std::make_unique<State>();
  state->path = path;
  state->cache = cache;
  return WeightStore(std::move(state));
}

Result<> WeightStore::remove(const std::filesystem::path& path) { return remove_folder(path); }

Result<std::span<const std::byte>> WeightStore::packed(std::string_view key, std::uint64_t bytes,
                                                       const Fill& fill) {
  if (key.size() > max_key_bytes)
    return fail(ErrorCode::limit_exceeded, "a key of {} bytes: at most {}", key.size(),
                max_key_bytes);
  const std::lock_guard guard(state_->mutex);
  auto known = state_->known.find(key);
  if (known == state_->known.end()) {
    OPSPLIT_TRY(auto packed, state_->get(key, bytes, fill));
    known = state_->known.emplace(key, std::move(packed)).first;
  }
  if (known->second.data.size() != bytes)
    return fail(ErrorCode::refused, "{}: packed with {} bytes, not {}", key,
                known->second.data.size(), bytes);
  return known->second.data;
}

std::optional<std::span<const std::byte>> WeightStore::find(std::string_view key) {
  const std::lock_guard guard(state_->mutex);
  for (const auto& folder : {state_->cache, state_->path}) {
    if (folder.empty() || state_->known.contains(key)) continue;
    if (auto packed = open_packed(folder / file_name(key), key, std::nullopt))
      state_->known.emplace(key, std::move(*packed));
  }
  const auto known = state_->known.find(key);
  return known == state_->known.end() ? std::nullopt : std::optional(known->second.data);
}

WeightStore::Location WeightStore::location_of(std::string_view key) const {
  const std::lock_guard guard(state_->mutex);
  return state_->known.find(key)->second.location;
}

Result<FileDescriptor> hold_packed(const std::filesystem::path& file) {
  FileDescriptor held(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat info {};
  // Between open() and flock() it may have been removed.
  if (!held || ::flock(held.get(), LOCK_SH | LOCK_NB) != 0 || ::fstat(held.get(), &info) != 0 ||
      info.st_nlink == 0)
    return fail(ErrorCode::not_found, "{}", file.native());
  return held;
}

Result<> restore_packed(FileDescriptor& held, const std::filesystem::path& file) {
  struct stat mine {
  }, there{};
  if (::fstat(held.get(), &mine) != 0) return fail_errno(errno, "{}", file.native());
  if (::lstat(file.c_str(), &there) == 0 && there.st_ino == mine.st_ino &&
      there.st_dev == mine.st_dev)
    return {};
  OPSPLIT_CHECK(make_private_folder(file.parent_path()));
  const std::filesystem::path next = file.native() + ".restored";
  std::error_code error;
  std::filesystem::copy_file(fmt::format("/proc/self/fd/{}", held.get()), next,
                             std::filesystem::copy_options::overwrite_existing, error);
  if (!error) std::filesystem::rename(next, file, error);
  if (error) return fail_errno(error.value(), "{}", file.native());
  OPSPLIT_TRY(held, hold_packed(file));
  return {};
}

namespace {

struct PackedFile {
  std::filesystem::path path;
  std::uint64_t bytes = 0;  // on disk
  timespec used{};
};

std::vector<PackedFile> packed_files(const std::filesystem::path& folder) {
  std::vector<PackedFile> files;
  std::error_code ignored;
  std::filesystem::directory_iterator entry(folder, ignored);
  for (; entry != std::filesystem::directory_iterator(); entry.increment(ignored)) {
    const auto& path = entry->path();
    struct stat info {};
    if (path.filename().native().starts_with(prefix) && ::lstat(path.c_str(), &info) == 0 &&
        S_ISREG(info.st_mode))
      files.push_back({path, static_cast<std::uint64_t>(info.st_blocks) * 512, info.st_mtim});
  }
  return files;
}

}  // namespace

std::uint64_t packed_bytes(const std::filesystem::path& folder) {
  std::uint64_t sum = 0;
  for (const PackedFile& file : packed_files(folder)) sum += file.bytes;
  return sum;
}

void prune_packed(const std::filesystem::path& folder, std::uint64_t max_bytes) {
  auto files = packed_files(folder);
  std::uint64_t sum = 0;
  for (const PackedFile& file : files) sum += file.bytes;
  std::ranges::sort(files, {}, [](const PackedFile& file) {
    return std::pair(file.used.tv_sec, file.used.tv_nsec);
  });
  for (const PackedFile& file : files) {
    if (sum <= max_bytes) return;
    const FileDescriptor opened(::open(file.path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!opened || ::flock(opened.get(), LOCK_EX | LOCK_NB) != 0) continue;  // held
    if (::unlink(file.path.c_str()) == 0) sum -= file.bytes;
  }
}

}  // namespace opsplit::ipc
