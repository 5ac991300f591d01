// A block of memory, 64-byte aligned: what tensors that live in no arena lie in.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

namespace opsplit::operators {

class AlignedMemory {
 public:
  AlignedMemory() = default;
  // The content is unspecified. Throws std::bad_alloc, as new does.
  explicit AlignedMemory(std::size_t size)
      : data_(static_cast<std::byte*>(::operator new(size, alignment))), size_(size) {}

  [[nodiscard]] std::byte* data() { return data_.get(); }
  [[nodiscard]] const std::byte* data() const { return data_.get(); }
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  static constexpr std::align_val_t alignment{64};
  struct Free {
    void operator()(std::byte* data) const { ::operator delete(data, alignment); }
  };
  std::unique_ptr<std::byte[], Free> data_;
  std::size_t size_ = 0;
};

}  // namespace opsplit::operators
