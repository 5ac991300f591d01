// What the harnesses have of a test: the node, and tensors in memory that ends where a page begins that nobody may
// touch.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <list>
#include <memory>
#include <new>
#include <span>
#include <vector>

#include "operators/sdk/opsplit/harness.hpp"

namespace opsplit::sdk {

// Bytes that end, but for alignment, where a page begins that nobody may touch.
class GuardedMemory {
 public:
  explicit GuardedMemory(std::size_t bytes) : bytes_(bytes) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t padded = (bytes + alignment - 1) / alignment * alignment;
    usable_ = (padded + page - 1) / page * page;
    mapped_ = usable_ + page;
    void* memory =
        ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    begin_ = static_cast<std::byte*>(memory);
    ::mprotect(begin_ + usable_, page, PROT_NONE);
    data_ = begin_ + usable_ - padded;
  }
  ~GuardedMemory() { ::munmap(begin_, mapped_); }
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;

  void make_read_only() { ::mprotect(begin_, usable_, PROT_READ); }
  [[nodiscard]] std::span<std::byte> bytes() const { return {data_, bytes_}; }

 private:
  static constexpr std::size_t alignment = 64;  // of places

  std::size_t bytes_, usable_ = 0, mapped_ = 0;
  std::byte* begin_ = nullptr;
  std::byte* data_ = nullptr;
};

struct Harness::State {
  Node node;
  std::list<GuardedMemory> memory;
  // Of each input and output, null where it is absent. Shapes are the node's.
  std::vector<GuardedMemory*> inputs, outputs;
  std::unique_ptr<Kernel> kernel;

  // Once no more inputs come, so that they stay where they are: constants are views of their shapes.
  const Node& complete_node() {
    for (Operand& input : node.inputs) input.constant.shape = input.shape;
    return node;
  }
};

}  // namespace opsplit::sdk
