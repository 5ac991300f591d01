#include "ipc/places.hpp"

namespace opsplit::ipc {

Result<std::uint64_t> arena_bytes(const Plan& plan, std::uint32_t depth) {
  std::uint64_t bytes = 0;
  if (__builtin_mul_overflow(plan.slot_bytes, std::uint64_t{depth}, &bytes) ||
      __builtin_add_overflow(bytes, plan.workspace_bytes, &bytes))
    return fail(ErrorCode::limit_exceeded, "{} slots of {} bytes and a workspace of {} overflow",
                depth, plan.slot_bytes, plan.workspace_bytes);
  return bytes;
}

Places::Places(const Board& board, const Plan& plan, std::span<std::byte> arena)
    : board_(board), plan_(plan), arena_(arena) {
  for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
    const PlannedTensor& planned = plan.tensors[i];
    const std::int32_t root_index = plan.root(static_cast<std::int32_t>(i));
    const PlannedTensor& root = plan.tensors[static_cast<std::size_t>(root_index)];
    // A validated plan's types and layouts have a size.
    const auto bytes = [](const PlannedTensor& t) { return byte_size(t.type, t.layout).value(); };
    places_.push_back(
        {{planned.type, planned.layout, nullptr, bytes(planned)},
         HeaderWords(TensorHeader::of(root.type, root.layout, bytes(root), 0,
                                      root.in_arena ? PlannedTensor::none : root.gpu)),
         planned.offset,
         static_cast<std::uint32_t>(root_index)});
  }
}

PlacedTensor Places::write(std::uint32_t slot, std::int32_t tensor) const {
  const Place& place = places_[static_cast<std::size_t>(tensor)];
  PlacedTensor placed = place.tensor;
  placed.data = arena_.data() + std::uint64_t{slot} * plan_.slot_bytes + place.offset;
  return placed;
}

std::span<std::byte> Places::workspace(std::uint32_t slot, std::uint32_t task) const {
  if (slot != 0 || !plan_.uses_workspace(static_cast<std::int32_t>(task))) return {};
  return arena_.subspan(std::uint64_t{board_.layout().depth} * plan_.slot_bytes,
                        plan_.workspace_bytes);
}

void Places::write_header(std::uint32_t slot, std::uint32_t generation, std::int32_t tensor) const {
  board_.tensor_header(slot, static_cast<std::uint32_t>(tensor))
      .store(places_[static_cast<std::size_t>(tensor)].header, generation);
}

Result<> Places::write_header(std::uint32_t slot, std::uint32_t generation, std::int32_t tensor,
                              const Shape& shape) const {
  const PlannedTensor& planned = plan_.tensors[static_cast<std::size_t>(tensor)];
  if (!planned.varies || !fits(shape, planned.type.shape))
    return fail(ErrorCode::invalid_input, "tensor '{}' has become {}, {} {} is planned",
                planned.name, to_string(shape), planned.varies ? "at most" : "just",
                to_string(planned.type.shape));
  const TensorType type{planned.type.dtype, shape};
  OPSPLIT_TRY(const std::uint64_t bytes, byte_size(type));
  board_.tensor_header(slot, static_cast<std::uint32_t>(tensor))
      .store(HeaderWords(TensorHeader::of(type, Layout::row_major, bytes, 0)), generation);
  return {};
}

Result<PlacedTensor> Places::read(std::uint32_t slot, std::uint32_t generation,
                                  std::int32_t tensor) const {
  const Place& place = places_[static_cast<std::size_t>(tensor)];
  const SharedHeader& shared = board_.tensor_header(slot, place.root);
  // Nearly always it is just what the plan says. A view's root is row-major in every valid plan.
  if (shared.holds(place.header, generation)) return write(slot, tensor);
  const TensorHeader header = shared.load();
  const PlannedTensor& planned = plan_.tensors[place.root];
  OPSPLIT_TRY(const CheckedHeader checked, check(header, planned, generation));
  const bool is_view = static_cast<std::int32_t>(place.root) != tensor;
  if (is_view && checked.layout != Layout::row_major)
    return fail(ErrorCode::invalid_input, "tensor '{}': its place holds layout {}, a view needs {}",
                planned.name, to_string(checked.layout), to_string(Layout::row_major));
  PlacedTensor placed = write(slot, tensor);
  if (!is_view) placed.type = checked.type;
  placed.layout = checked.layout;
  placed.bytes = checked.bytes;
  return placed;
}

}  // namespace opsplit::ipc
