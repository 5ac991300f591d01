#include "ipc/places.hpp"

namespace opsplit::ipc {

Result<std::uint64_t> arena_bytes(const Plan& plan, std::uint32_t depth) {
  std::uint64_t bytes = 0;
  if (__builtin_mul_overflow(plan.slot_bytes, std::uint64_t{depth}, &bytes))
    return fail(ErrorCode::limit_exceeded, "{} slots of {} bytes overflow", depth, plan.slot_bytes);
  return bytes;
}

Places::Places(const Board& board, const Plan& plan, std::span<std::byte> arena)
    : board_(board), plan_(plan), arena_(arena) {
  // A validated plan's types and layouts have a size.
  for (const PlannedTensor& tensor : plan.tensors)
    written_bytes_.push_back(byte_size(tensor.type, tensor.layout).value());
}

PlacedTensor Places::write(std::uint32_t slot, std::int32_t tensor) const {
  const auto index = static_cast<std::size_t>(tensor);
  const PlannedTensor& planned = plan_.tensors[index];
  return {planned.type, planned.layout,
          arena_.data() + std::uint64_t{slot} * plan_.slot_bytes + planned.offset,
          written_bytes_[index]};
}

void Places::write_header(std::uint32_t slot, std::uint32_t generation, std::int32_t tensor) const {
  const auto index = static_cast<std::size_t>(tensor);
  const PlannedTensor& planned = plan_.tensors[index];
  board_.tensor_header(slot, static_cast<std::uint32_t>(tensor))
      .store(TensorHeader::of(planned.type, planned.layout, written_bytes_[index], generation));
}

Result<PlacedTensor> Places::read(std::uint32_t slot, std::uint32_t generation,
                                  std::int32_t tensor) const {
  const std::int32_t root = plan_.root(tensor);
  const PlannedTensor& planned = plan_.tensors[static_cast<std::size_t>(root)];
  const TensorHeader header =
      board_.tensor_header(slot, static_cast<std::uint32_t>(root)).load();
  OPSPLIT_TRY(const Layout layout, check(header, planned, generation));
  PlacedTensor placed = write(slot, tensor);
  if (root != tensor && layout != Layout::row_major)
    return fail(ErrorCode::invalid_input, "tensor '{}': its place holds layout {}, a view needs {}",
                planned.name, to_string(layout), to_string(Layout::row_major));
  placed.layout = layout;
  placed.bytes = header.bytes;
  return placed;
}

}  // namespace opsplit::ipc
