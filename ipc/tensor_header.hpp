// What lies in a place this time: written beside the payload, before the task is committed.
// Whoever reads one copies it out, checks it against the plan, and then uses the copy.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.hpp"
#include "base/plan.hpp"
#include "base/tensor_type.hpp"

namespace opsplit::ipc {

// dlpack.h: DLDeviceType.
enum class DeviceType : std::uint8_t { cpu = 1, cuda = 2 };

struct TensorHeader {
  std::uint8_t dtype_code = 0;
  std::uint8_t dtype_bits = 0;
  std::uint16_t dtype_lanes = 0;
  std::uint8_t rank = 0;
  std::uint8_t layout = 0;
  std::uint8_t device_type = 0;
  std::uint8_t padding = 0;
  std::int32_t device_id = 0;    // cuda: of the deployment's GPUs
  std::uint32_t generation = 0;  // of the slot's request
  std::uint64_t bytes = 0;
  std::array<std::int64_t, Shape::max_rank> shape{};
  std::uint64_t device_event = 0;  // device memory's own; 0 on the host

  // `gpu`: where it lies, if not in the arena (PlannedTensor::gpu).
  static TensorHeader of(const TensorType& type, Layout layout, std::uint64_t bytes,
                         std::uint32_t generation, std::int32_t gpu = PlannedTensor::none);
};
static_assert(sizeof(TensorHeader) == 96);

// A header as words, all but its generation: the plan says beforehand what nearly every request will
// hold.
class HeaderWords {
 public:
  static constexpr std::size_t count = sizeof(TensorHeader) / 8;

  explicit HeaderWords(const TensorHeader& header);
  [[nodiscard]] std::uint64_t at(std::size_t index, std::uint32_t generation) const {
    return index == 1 ? words_[1] | std::uint64_t{generation} << 32 : words_[index];
  }

 private:
  std::array<std::uint64_t, count> words_;
};
static_assert(offsetof(TensorHeader, generation) == 12 &&
              std::endian::native == std::endian::little);

// The header as it lies on the board: words, so that a reader never races with a hostile writer.
struct alignas(64) SharedHeader {
  std::array<std::atomic<std::uint64_t>, HeaderWords::count> words;

  // Relaxed: the commit that follows releases it.
  void store(const HeaderWords& header, std::uint32_t generation);
  // Relaxed: the producer's word was acquired before.
  [[nodiscard]] TensorHeader load() const;
  // Whether it is exactly this one; reads each word once. Cheaper than load() and check().
  [[nodiscard]] bool holds(const HeaderWords& header, std::uint32_t generation) const;
};
static_assert(sizeof(SharedHeader) == 128);

struct CheckedHeader {
  TensorType type;  // the plan's, but for the sizes of a tensor that varies
  Layout layout;
  std::uint64_t bytes;
};

// Checks a copied header against what the plan says of the tensor. The error says what is wrong; the
// caller adds who wrote it.
Result<CheckedHeader> check(const TensorHeader& header, const PlannedTensor& planned,
                            std::uint32_t generation);

}  // namespace opsplit::ipc
