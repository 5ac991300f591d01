#include "ipc/arena.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "ipc/iceoryx_runtime.hpp"

namespace opsplit::ipc {
namespace {

// The pages that lie wholly inside `bytes`: the segment's mapping is shared with other chunks.
void advise(std::span<std::byte> bytes, int advice) {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<std::uintptr_t>(bytes.data());
  const auto begin = (address + page - 1) & ~(page - 1);
  const auto end = (address + bytes.size()) & ~(page - 1);
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, advice);
}

}  // namespace

Result<> check_deployment_name(std::string_view name) {
  const bool valid = !name.empty() && name.size() <= 64 && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  });
  if (!valid)
    return fail(ErrorCode::invalid_input,
                "deployment name '{}': must be 1 to 64 letters, digits, '_' or '-'",
                name.substr(0, 64));
  return {};
}

Arena::Arena(std::unique_ptr<TakenChunk> chunk, std::span<std::byte> bytes)
    : chunk_(std::move(chunk)), bytes_(bytes) {}
Arena::Arena(Arena&&) noexcept = default;
Arena& Arena::operator=(Arena&&) noexcept = default;
Arena::~Arena() = default;

void Arena::discard() { advise(bytes_, MADV_REMOVE); }

Result<Arena> Arena::attach(std::string_view runtime_name, const ArenaId& id, std::uint64_t bytes,
                            Deadline deadline) {
  OPSPLIT_CHECK(check_deployment_name(id.deployment));
  OPSPLIT_TRY(auto chunk, TakenChunk::take(runtime_name, id, deadline));
  const auto payload = chunk->payload();
  if (payload.size() < bytes)
    return fail(ErrorCode::refused, "arena of {} (epoch {}): {} bytes, this plan needs {}",
                id.deployment, id.epoch, payload.size(), bytes);
  advise(payload, MADV_DONTFORK);
  return Arena(std::move(chunk), payload.first(bytes));
}

}  // namespace opsplit::ipc
