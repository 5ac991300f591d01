#include "ipc/tensor_header.hpp"

#include <algorithm>

namespace opsplit::ipc {
TensorHeader TensorHeader::of(const TensorType& type, Layout layout, std::uint64_t bytes,
                              std::uint32_t generation, std::int32_t gpu) {
  TensorHeader header;
  header.dtype_code = static_cast<std::uint8_t>(type.dtype.code);
  header.dtype_bits = type.dtype.bits;
  header.dtype_lanes = type.dtype.lanes;
  header.rank = static_cast<std::uint8_t>(type.shape.rank());
  header.layout = static_cast<std::uint8_t>(layout);
  header.device_type =
      static_cast<std::uint8_t>(gpu == PlannedTensor::none ? DeviceType::cpu : DeviceType::cuda);
  header.device_id = std::max(gpu, 0);
  header.generation = generation;
  header.bytes = bytes;
  std::copy(type.shape.begin(), type.shape.end(), header.shape.begin());
  return header;
}

HeaderWords::HeaderWords(const TensorHeader& header)
    : words_(std::bit_cast<decltype(words_)>(header)) {
  words_[1] &= 0xffff'ffff;
}

void SharedHeader::store(const HeaderWords& header, std::uint32_t generation) {
  constexpr std::size_t words_per_line = 8;
  for (std::size_t i = 0; i < words_per_line; ++i)
    words[i].store(header.at(i, generation), std::memory_order_relaxed);
  // The second line says the same in every request, unless the layout changes: left alone it stays
  // in the caches of all who read it.
  for (std::size_t i = words_per_line; i < words.size(); ++i)
    if (words[i].load(std::memory_order_relaxed) != header.at(i, generation))
      words[i].store(header.at(i, generation), std::memory_order_relaxed);
}

TensorHeader SharedHeader::load() const {
  std::array<std::uint64_t, HeaderWords::count> raw;
  for (std::size_t i = 0; i < raw.size(); ++i) raw[i] = words[i].load(std::memory_order_relaxed);
  return std::bit_cast<TensorHeader>(raw);
}

bool SharedHeader::holds(const HeaderWords& header, std::uint32_t generation) const {
  std::uint64_t difference = 0;
  for (std::size_t i = 0; i < words.size(); ++i)
    difference |= words[i].load(std::memory_order_relaxed) ^ header.at(i, generation);
  return difference == 0;
}

Result<CheckedHeader> check(const TensorHeader& header, const PlannedTensor& planned,
                            std::uint32_t generation) {
  const auto bad = [&](std::string_view what) {
    return fail(ErrorCode::invalid_input, "tensor '{}': its header has {}", planned.name, what);
  };
  TensorType type = planned.type;
  if (header.generation != generation) return bad("another request's generation");
  const DeviceType device = planned.in_arena ? DeviceType::cpu : DeviceType::cuda;
  if (header.device_type != static_cast<std::uint8_t>(device) ||
      header.device_id != (planned.in_arena ? 0 : planned.gpu))
    return bad("another device than the plan");
  if (header.dtype_code != static_cast<std::uint8_t>(type.dtype.code) ||
      header.dtype_bits != type.dtype.bits || header.dtype_lanes != type.dtype.lanes)
    return bad("another element type than the plan");
  if (header.rank != type.shape.rank()) return bad("another rank than the plan");
  for (std::size_t axis = 0; axis < header.rank; ++axis) type.shape[axis] = header.shape[axis];
  if (planned.varies ? !fits(type.shape, planned.type.shape) : type.shape != planned.type.shape)
    return bad("another shape than the plan");
  if (header.layout >= layout_count) return bad("an unknown layout");
  const auto layout = static_cast<Layout>(header.layout);
  // The size follows from type and layout; the header must agree, and must fit.
  const auto bytes = byte_size(type, layout);
  if (!bytes || *bytes != header.bytes || (planned.in_arena && *bytes > planned.bytes))
    return bad("a size that does not fit its place");
  if ((!planned.in_arena || planned.varies) && layout != Layout::row_major)
    return bad("another layout than row_major, on a GPU or of what varies");
  return CheckedHeader{type, layout, *bytes};
}

}  // namespace opsplit::ipc
