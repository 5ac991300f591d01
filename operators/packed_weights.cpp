// HeapWeights: packed weights in memory of one's own.
#include <map>
#include <mutex>
#include <utility>

#include "operators/aligned_memory.hpp"
#include "operators/program.hpp"

namespace opsplit::operators {

struct HeapWeights::Impl {
  std::mutex mutex;
  std::map<std::string, AlignedMemory, std::less<>> entries;
};

HeapWeights::HeapWeights() : impl_(std::make_unique<Impl>()) {}
HeapWeights::~HeapWeights() = default;

Result<std::span<const std::byte>> HeapWeights::get(
    std::string_view key, std::uint64_t bytes, const std::function<Result<>(std::byte*)>& fill) {
  const std::lock_guard lock(impl_->mutex);
  auto found = impl_->entries.find(key);
  if (found == impl_->entries.end()) {
    AlignedMemory memory(bytes);
    OPSPLIT_CHECK(fill(memory.data()));
    found = impl_->entries.emplace(std::string(key), std::move(memory)).first;
  }
  if (found->second.size() != bytes)
    return fail(ErrorCode::invalid_input, "packed weights \"{}\" have {} bytes, not {}", key,
                found->second.size(), bytes);
  return std::span<const std::byte>(found->second.data(), bytes);
}

}  // namespace opsplit::operators
