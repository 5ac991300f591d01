#include "operators/sdk/opsplit/harness.hpp"

#include <algorithm>
#include <utility>

#include "operators/sdk/harness_state.hpp"

namespace opsplit::sdk {
namespace {

std::size_t size_of(DType dtype, std::span<const std::int64_t> shape) {
  std::size_t size = bytes_of(dtype);
  for (const std::int64_t dim : shape)
    if (dim < 0 || __builtin_mul_overflow(size, static_cast<std::size_t>(dim), &size))
      throw std::invalid_argument("a tensor has a negative size, or too many elements");
  return size;
}

}  // namespace

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
  const Node& node = state_->complete_node();
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
