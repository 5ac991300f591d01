#include "graph/stored_graph.hpp"

#include <algorithm>

#include "base/content_hash.hpp"

namespace opsplit::graph {

WeightsBlock::WeightsBlock(Graph& graph) : graph_(graph) {
  constexpr std::uint64_t alignment = 64;
  std::string all;
  for (std::size_t i = 0; i < graph.values.size(); ++i) {
    const auto& constant = graph.values[i].constant;
    if (!constant || constant->type.dtype == int64 || constant->type.dtype == int32) continue;
    entries_.push_back({static_cast<ValueId>(i), bytes_, content_hash(constant->bytes)});
    all += fmt::format("{} bytes {}\n", constant->bytes.size(), entries_.back().hash);
    bytes_ += (constant->bytes.size() + alignment - 1) / alignment * alignment;
  }
  hash_ = content_hash(std::as_bytes(std::span(all)));
}

void WeightsBlock::write(std::byte* to) const {
  for (const Entry& entry : entries_)
    std::ranges::copy(graph_.value(entry.value).constant->bytes, to + entry.offset);
}

void WeightsBlock::stored_in(const std::string& file, std::uint64_t offset) {
  for (const Entry& entry : entries_)
    graph_.value(entry.value).constant->stored =
        std::make_shared<StoredBytes>(StoredBytes{file, offset + entry.offset, entry.hash});
}

}  // namespace opsplit::graph
