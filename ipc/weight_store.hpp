// What all operators of a deployment read: the folder that opsplitd makes and removes,
// /dev/shm/opsplit.NAME.EPOCH, with the plan and each operator's part; and weights, as they are and
// as kernels want them packed. These lie in the user's cache, a folder on disk, and are mapped from
// there: packed once, by whichever operator comes first, they lie in memory once (the page cache is
// shared, too), however many operators, instances and deployments there are, and outlast them all.
// Without a cache, or where it has no room, they lie in the deployment's folder.
//
//   lock          held by opsplitd while it writes the deployment's folder
//   packed-HASH   header (below), the key, padding to 64 bytes, the data; read-only
//
// HASH is the content_hash() of the key. A file whose header, key or data are not what they should
// be (cut off by a full disk, never written by a machine that lost its power) is removed and made
// anew. That data are those that were written, their checksum says; that they are right, only that
// nobody else can write into the folder.
//
// A packed file gets its name only when it is complete, and until then it has none at all
// (O_TMPFILE): a writer that is killed leaves nothing. Of two writers of one key the first wins,
// and both use its file.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "base/error.hpp"
#include "base/system.hpp"

namespace opsplit::ipc {

struct PackedHeader {
  static constexpr std::uint64_t expected_magic = 0x32306b6361505350;  // "PSPack02"

  std::uint64_t magic;
  std::uint64_t key_bytes;    // the key follows this header
  std::uint64_t data_offset;  // a multiple of 64
  std::uint64_t data_bytes;
  std::array<char, 32> checksum;  // content_hash() of the data
};
static_assert(sizeof(PackedHeader) == 64);

inline constexpr std::size_t max_key_bytes = 4096;

class WeightStore {
 public:
  using Fill = std::function<Result<>(std::byte*)>;

  // Makes the folder (0700) and holds its lock until this object goes or remove() is called. What
  // a dead opsplitd left under that name is removed first. Errors: already_exists (a live one, or
  // something that is not a folder of ours), system.
  static Result<WeightStore> create(const std::filesystem::path& path,
                                    const std::filesystem::path& cache = {});
  // For operators. Error not_found.
  static Result<WeightStore> open(const std::filesystem::path& path,
                                  const std::filesystem::path& cache = {});
  // Removes the folder and all in it, live or not: for whoever made it. Who has files of it mapped
  // keeps them. Nothing to remove is no error.
  static Result<> remove(const std::filesystem::path& path);

  WeightStore(WeightStore&&) noexcept;
  WeightStore& operator=(WeightStore&&) noexcept;
  ~WeightStore();  // unmaps; the folder stays

  // The data that was packed under this key: if nobody has yet, `fill` writes it, to `bytes` bytes
  // of zeros at a 64-byte boundary. The span stays valid as long as this object; a second call
  // with the same key gives the same span. Thread safe, one call at a time; `fill` must not call
  // the store. Its error is passed on, and nothing is kept.
  // Errors: limit_exceeded (no room: bytes needed and found; key too long), refused (what has the
  // file's name cannot be replaced; another size under a known key), system.
  Result<std::span<const std::byte>> packed(std::string_view key, std::uint64_t bytes,
                                            const Fill& fill);
  // What is there under this key, whatever its size; nullopt: nothing that could be used.
  std::optional<std::span<const std::byte>> find(std::string_view key);

  // Where the data of a key that packed() or find() has given lies.
  struct Location {
    std::filesystem::path file;
    std::uint64_t offset = 0;
  };
  [[nodiscard]] Location location_of(std::string_view key) const;

  [[nodiscard]] const std::filesystem::path& path() const;

 private:
  struct State;
  explicit WeightStore(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// As long as the descriptor is open, prune_packed() leaves the file alone. Error not_found.
Result<FileDescriptor> hold_packed(const std::filesystem::path& file);
// Whether it still is there; if not, somebody has emptied the cache, and it is written again from what is
// held, which holds the new one then. The folder is made if need be.
Result<> restore_packed(FileDescriptor& held, const std::filesystem::path& file);
// Of all packed files in the folder.
std::uint64_t packed_bytes(const std::filesystem::path& folder);
// Removes those that nobody has used for longest until the rest fits. Who has them mapped keeps them.
void prune_packed(const std::filesystem::path& folder, std::uint64_t max_bytes);

}  // namespace opsplit::ipc
