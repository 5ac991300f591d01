// Where tensors lie: the plan's places in the arena of a slot, and the headers beside them. Offsets
// come from the plan alone; nothing that lies in shared memory moves a pointer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/error.hpp"
#include "base/plan.hpp"
#include "ipc/board.hpp"
#include "ipc/tensor_header.hpp"

namespace opsplit::ipc {

// A tensor where it lies. `data` is 64-byte aligned and holds `bytes` bytes.
struct PlacedTensor {
  TensorType type;
  Layout layout = Layout::row_major;
  std::byte* data = nullptr;
  std::uint64_t bytes = 0;
};

// Bytes of the arena of a deployment: its slots, and the workspace. Error: they overflow.
Result<std::uint64_t> arena_bytes(const Plan& plan, std::uint32_t depth);

// Thread safe. The board and the plan must outlive it, and so must the arena's memory.
class Places {
 public:
  // Preconditions: the plan is validated, and the arena holds arena_bytes(plan, depth).
  Places(const Board& board, const Plan& plan, std::span<std::byte> arena);

  // What lies in the tensor's place in this request, by its header, checked against the plan. A view
  // reads the header of its root, which must be row-major. Errors name the tensor. What lies on a GPU
  // only has a header like any other, but no place here (neither for write()): its data is not to be used.
  [[nodiscard]] Result<PlacedTensor> read(std::uint32_t slot, std::uint32_t generation,
                                          std::int32_t tensor) const;
  // The place to write the tensor into, in the plan's layout. Not for views.
  [[nodiscard]] PlacedTensor write(std::uint32_t slot, std::int32_t tensor) const;
  // Where the task may compute what stays inside it, 64-byte aligned; maybe empty. Nobody else writes
  // there meanwhile who keeps to the plan.
  [[nodiscard]] std::span<std::byte> workspace(std::uint32_t slot, std::uint32_t task) const;
  // Writes the header that goes with what was written; before the commit.
  void write_header(std::uint32_t slot, std::uint32_t generation, std::int32_t tensor) const;
  // The same of a tensor that varies, and its sizes this time. Error invalid_input: it doesn't, or not so far.
  Result<> write_header(std::uint32_t slot, std::uint32_t generation, std::int32_t tensor,
                        const Shape& shape) const;

 private:
  const Board& board_;
  const Plan& plan_;
  std::span<std::byte> arena_;
  // Of each tensor, as the plan has it: worked out once, since a hop is short.
  struct Place {
    PlacedTensor tensor;  // `data` aside
    HeaderWords header;   // of its root
    std::uint64_t offset;
    std::uint32_t root;
  };
  std::vector<Place> places_;
};

}  // namespace opsplit::ipc
