#include "ipc/tensor_header.hpp"

#include <algorithm>
#include <bit>

namespace opsplit::ipc {

TensorHeader TensorHeader::of(const TensorType& type, Layout layout, std::uint64_t bytes,
                              std::uint32_t generation) {
  TensorHeader header;
  header.dtype_code = static_cast<std::uint8_t>(type.dtype.code);
  header.dtype_bits = type.dtype.bits;
  header.dtype_lanes = type.dtype.lanes;
  header.rank = static_cast<std::uint8_t>(type.shape.rank());
  header.layout = static_cast<std::uint8_t>(layout);
  header.device_type = static_cast<std::uint8_t>(DeviceType::cpu);
  header.generation = generation;
  header.bytes = bytes;
  std::copy(type.shape.begin(), type.shape.end(), header.shape.begin());
  return header;
}

void SharedHeader::store(const TensorHeader& header) {
  const auto raw = std::bit_cast<std::array<std::uint64_t, sizeof(TensorHeader) / 8>>(header);
  for (std::size_t i = 0; i < raw.size(); ++i) words[i].store(raw[i], std::memory_order_relaxed);
}

TensorHeader SharedHeader::load() const {
  std::array<std::uint64_t, sizeof(TensorHeader) / 8> raw;
  for (std::size_t i = 0; i < raw.size(); ++i) raw[i] = words[i].load(std::memory_order_relaxed);
  return std::bit_cast<TensorHeader>(raw);
}

Result<Layout> check(const TensorHeader& header, const PlannedTensor& planned,
                     std::uint32_t generation) {
  const auto bad = [&](std::string_view what) {
    return fail(ErrorCode::invalid_input, "tensor '{}': its header has {}", planned.name, what);
  };
  const TensorType& type = planned.type;
  if (header.generation != generation) return bad("another request's generation");
  if (header.device_type != static_cast<std::uint8_t>(DeviceType::cpu) || header.device_id != 0)
    return bad("an unknown device");
  if (header.dtype_code != static_cast<std::uint8_t>(type.dtype.code) ||
      header.dtype_bits != type.dtype.bits || header.dtype_lanes != type.dtype.lanes)
    return bad("another element type than the plan");
  if (header.rank != type.shape.rank() ||
      !std::equal(type.shape.begin(), type.shape.end(), header.shape.begin()))
    return bad("another shape than the plan");
  if (header.layout >= layout_count) return bad("an unknown layout");
  const auto layout = static_cast<Layout>(header.layout);
  // The size follows from the plan's type and the layout; the header must agree, and must fit.
  const auto bytes = byte_size(type, layout);
  if (!bytes || *bytes != header.bytes || *bytes > planned.bytes)
    return bad("a size that does not fit its place");
  return layout;
}

}  // namespace opsplit::ipc
