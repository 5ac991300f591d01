#include "operators/kernels/fastest.hpp"

#include <omp.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "base/system.hpp"

namespace opsplit::operators {
namespace {

constexpr std::uint64_t measure_ns = 20'000'000;  // of a candidate, and
constexpr int fewest_runs = 3, most_runs = 10;
constexpr double clearly_faster = 0.95;
constexpr std::size_t line_bytes = 64;
constexpr int small_number = 0x3c;  // as all bytes of a float32: 0.0115

AlignedMemory filled(std::uint64_t bytes) {
  AlignedMemory memory(bytes);
  std::memset(memory.data(), small_number, memory.size());
  return memory;
}

// Whatever is asked for: packing takes time, and a loser's weights would stay in the store.
class UnpackedWeights final : public PackedWeights {
 public:
  Result<std::span<const std::byte>> get(std::string_view, std::uint64_t bytes,
                                         const std::function<Result<>(std::byte*)>&) override {
    memory_.push_back(filled(bytes));
    return std::span<const std::byte>(memory_.back().data(), bytes);
  }

  // As in a network, where the weights of all other layers come in between, while what a layer computes
  // on has just been written.
  void leave_caches() const {
#if defined(__x86_64__)
    for (const AlignedMemory& memory : memory_)
      for (std::size_t at = 0; at < memory.size(); at += line_bytes)
        __builtin_ia32_clflush(memory.data() + at);
#endif
  }

 private:
  std::vector<AlignedMemory> memory_;
};

// The tensors of a spec.
class Tensors {
 public:
  explicit Tensors(const KernelSpec& spec) {
    for (const Operand& output : spec.outputs)
      outputs_.push_back({output.type, output.layout, memory_of(output)});
    for (const Operand& input : spec.inputs)
      inputs_.push_back(
          {input.type, input.layout,
           input.constant != nullptr ? input.constant->bytes.data() : memory_of(input)});
    for (const PostOp& op : spec.post_ops)
      if (op.kind == PostOp::Kind::sum) inputs_[op.operand].data = outputs_[0].data;
  }

  Result<> run(Kernel& kernel) { return kernel.run(inputs_, outputs_); }

 private:
  std::byte* memory_of(const Operand& operand) {
    const auto bytes = operand.present ? byte_size(operand.type, operand.layout) : 0;
    if (!bytes || *bytes == 0) return nullptr;
    memory_.push_back(filled(*bytes));
    return memory_.back().data();
  }

  std::vector<AlignedMemory> memory_;
  std::vector<TensorView> inputs_;
  std::vector<MutableTensorView> outputs_;
};

class OneThread {
 public:
  OneThread() { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(threads_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  const int threads_ = omp_get_max_threads();
};

}  // namespace

std::size_t fastest(const KernelSpec& spec, std::span<const MakeCandidate> candidates,
                    const CpuClock& clock) {
  const OneThread one_thread;
  Tensors tensors(spec);
  std::size_t best = 0;
  double least = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    UnpackedWeights weights;
    const auto kernel = candidates[i]({&weights, std::make_shared<Scratchpad>()});
    if (!kernel || !tensors.run(**kernel)) continue;  // the first run is slower, whatever it is
    std::uint64_t shortest = ~std::uint64_t{0}, sum = 0;
    for (int run = 0; run < most_runs && (run < fewest_runs || sum < measure_ns); ++run) {
      weights.leave_caches();
      const std::uint64_t start = clock();
      if (!tensors.run(**kernel)) break;
      const std::uint64_t taken = clock() - start;
      shortest = std::min(shortest, taken);
      sum += taken;
    }
    if (static_cast<double>(shortest) < clearly_faster * least) {
      least = static_cast<double>(shortest);
      best = i;
    }
  }
  return best;
}

Result<std::size_t> kept_fastest(const std::string& key, const KernelSpec& spec,
                                 std::span<const MakeCandidate> candidates,
                                 PackedWeights& weights) {
  OPSPLIT_TRY(const auto kept, weights.get(key, 1, [&](std::byte* data) -> Result<> {
    *data = static_cast<std::byte>(fastest(spec, candidates, thread_cpu_ns));
    return {};
  }));
  return std::min(static_cast<std::size_t>(kept[0]), candidates.size() - 1);
}

}  // namespace opsplit::operators
