#include "operators/sdk/opsplit/harness.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <list>
#include <new>
#include <utility>

namespace opsplit::sdk {
namespace {

constexpr std::size_t alignment = 64;

std::size_t size_of(DType dtype, std::span<const std::int64_t> shape) {
  std::size_t size = bytes_of(dtype);
  for (const std::int64_t dim : shape)
    if (dim < 0 || __builtin_mul_overflow(size, static_cast<std::size_t>(dim), &size))
      throw std::invalid_argument("a tensor has a negative size, or too many elements");
  return size;
}

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
  std::size_t bytes_, usable_ = 0, mapped_ = 0;
  std::byte* begin_ = nullptr;
  std::byte* data_ = nullptr;
};

}  // namespace

struct Harness::State {
  Node node;
  std::list<GuardedMemory> memory;
  // Of each input and output, null where it is absent. Shapes are the node's.
  std::vector<GuardedMemory*> inputs, outputs;
  std::unique_ptr<Kernel> kernel;
};

Harness::Harness(Node node) : state_(std::make_unique<State>()) { state_->node = std::move(node); }
Harness::~Harness() = default;

void Harness::add_input(DType dtype, std::vector<std::int64_t> shape,
                        std::span<const std::byte> bytes, bool constant) {
  if (bytes.size() != size_of(dtype, shape))
    throw std::invalid_argument("input " + std::to_string(state_->inputs.size()) + ": " +
                                std::to_string(bytes.size() / bytes_of(dtype)) +
                                " values do not make up its shape");
  GuardedMemory& memory = state_->memory.emplace_back(bytes.size());
  std::ranges::copy(bytes, memory.bytes().begin());
  memory.make_read_only();
  state_->inputs.push_back(&memory);
  Operand& operand = state_->node.inputs.emplace_back(Operand{dtype, std::move(shape), true, {}});
  if (constant) operand.constant = {dtype, {}, memory.bytes()};
}

void Harness::absent_input() {
  state_->inputs.push_back(nullptr);
  state_->node.inputs.push_back({.present = false});
}

void Harness::add_output(DType dtype, std::vector<std::int64_t> shape) {
  state_->outputs.push_back(&state_->memory.emplace_back(size_of(dtype, shape)));
  state_->node.outputs.push_back({dtype, std::move(shape), true, {}});
}

void Harness::run(const MakeKernel& make) {
  Node& node = state_->node;
  for (Operand& input : node.inputs) input.constant.shape = input.shape;
  if (!state_->kernel) state_->kernel = make(node);
  if (!state_->kernel) throw std::invalid_argument("no kernel was made");
  std::vector<Tensor> inputs;
  for (std::size_t i = 0; i < node.inputs.size(); ++i)
    inputs.push_back({node.inputs[i].dtype, node.inputs[i].shape,
                      state_->inputs[i] ? state_->inputs[i]->bytes() : std::span<std::byte>()});
  std::vector<MutableTensor> outputs;
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    // Whoever takes it for zeros is found out.
    std::ranges::fill(state_->outputs[i]->bytes(), std::byte{0xA5});
    outputs.push_back({node.outputs[i].dtype, node.outputs[i].shape, state_->outputs[i]->bytes()});
  }
  state_->kernel->run(inputs, outputs);
}

Tensor Harness::output_at(std::size_t index) const {
  if (index >= state_->outputs.size())
    throw std::invalid_argument("there is no output " + std::to_string(index));
  const Operand& output = state_->node.outputs[index];
  return {output.dtype, output.shape, state_->outputs[index]->bytes()};
}

}  // namespace opsplit::sdk
