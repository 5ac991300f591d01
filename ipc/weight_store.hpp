// The folder of a deployment, /dev/shm/opsplit.NAME.EPOCH: what all its operators read. opsplitd
// makes and removes it. In it lie the plan, each operator's part and its weights (written by
// graph/part.hpp), and weights as a kernel wants them packed, which this class keeps: packed once,
// by whichever operator comes first, they lie once in memory, however many operators, instances
// and restarts there are.
//
//   lock          held by opsplitd while it writes the folder
//   packed-HASH   header (below), the key, padding to 64 bytes, the data; read-only
//
// HASH is FNV-1a over 128 bits of the key. It needs to be the same in all processes and libraries
// (std::hash need not be) and nothing more: the key itself is compared, so that a collision is an
// error and not a wrong weight.
//
// A packed file gets its name only when it is complete, and until then it has none at all
// (O_TMPFILE): a writer that is killed leaves nothing. Of two writers of one key the first wins,
// and both use its file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "base/error.hpp"

namespace opsplit::ipc {

struct PackedHeader {
  static constexpr std::uint64_t expected_magic = 0x31306b6361505350;  // "PSPack01"

  std::uint64_t magic;
  std::uint64_t key_bytes;    // the key follows this header
  std::uint64_t data_offset;  // a multiple of 64
  std::uint64_t data_bytes;
};
static_assert(sizeof(PackedHeader) == 32);

inline constexpr std::size_t max_key_bytes = 4096;

class WeightStore {
 public:
  // Makes the folder (0700) and holds its lock until this object goes or remove() is called. What
  // a dead opsplitd left under that name is removed first. Errors: already_exists (a live one, or
  // something that is not a folder of ours), system.
  static Result<WeightStore> create(const std::filesystem::path& path);
  // For operators. Error not_found.
  static Result<WeightStore> open(const std::filesystem::path& path);
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
  // Errors: limit_exceeded (no room: bytes needed and found; key too long), refused (a file that
  // holds another key or size, or is damaged), system.
  Result<std::span<const std::byte>> packed(std::string_view key, std::uint64_t bytes,
                                            const std::function<Result<>(std::byte*)>& fill);

  [[nodiscard]] const std::filesystem::path& path() const;

 private:
  struct State;
  explicit WeightStore(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace opsplit::ipc
