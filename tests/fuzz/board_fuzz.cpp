// The board, into which others may have written anything, as operators, clients and opsplitd use it: the
// input is a list of words to be written there and of steps to be taken. Nothing may read or write
// outside the board and the slots' places, go on for ever, or hand out what the plan does not have.
#include <array>
#include <cstdlib>
#include <cstring>

#include "ipc/counters.hpp"
#include "tests/ipc/fixture.hpp"

using namespace opsplit;
using namespace opsplit::ipc;

namespace {

void expect(bool holds) {
  if (!holds) std::abort();
}

class Steps {
 public:
  Steps() : places_(deployment_.board, deployment_.plan, deployment_.arena) {
    Board::remove(deployment_.name);  // the mapping stays
    fresh_.resize(deployment_.layout.total_bytes);
    std::memcpy(fresh_.data(), base(), fresh_.size());
  }

  void run(std::span<const std::uint8_t> input) {
    std::memcpy(base(), fresh_.data(), fresh_.size());
    claim_ = {};
    hold_ = {};
    input_ = input;
    while (!input_.empty()) step(take<std::uint8_t>());
  }

 private:
  std::byte* base() { return reinterpret_cast<std::byte*>(&deployment_.board.header()); }

  template <class T>
  T take() {
    T value = 0;
    const std::size_t bytes = std::min(sizeof value, input_.size());
    if (bytes > 0) std::memcpy(&value, input_.data(), bytes);
    input_ = input_.subspan(bytes);
    return value;
  }
  std::uint32_t below(std::size_t count) {
    return static_cast<std::uint32_t>(take<std::uint8_t>() % count);
  }
  std::uint32_t slot() { return below(deployment_.layout.depth); }
  std::uint32_t task() { return below(deployment_.layout.tasks); }
  std::uint32_t op() { return below(deployment_.layout.operators); }
  LaunchNumber launch() { return 1 + below(20); }
  std::int32_t tensor() { return static_cast<std::int32_t>(below(deployment_.layout.tensors)); }

  void keep(const std::optional<Claim>& claim) {
    if (!claim) return;
    expect(claim->slot < deployment_.layout.depth && claim->task < deployment_.layout.tasks);
    claim_ = *claim;
  }
  void check(const PlacedTensor& placed) {
    const auto* const begin = deployment_.arena.data();
    expect(placed.data >= begin && placed.bytes <= deployment_.arena.size() &&
           placed.data + placed.bytes <= begin + deployment_.arena.size());
  }

  void step(std::uint8_t what) {
    Handover& handover = deployment_.handover;
    switch (what % 20) {
      case 0:
      case 1:
      case 2: {  // somebody writes
        const std::size_t words = fresh_.size() / sizeof(std::uint64_t);
        const std::size_t at = take<std::uint32_t>() % words * sizeof(std::uint64_t);
        const auto value = take<std::uint64_t>();
        std::memcpy(base() + at, &value, sizeof value);
        break;
      }
      case 3:
        keep(handover.find_work(op(), launch()));
        break;
      case 4:
        keep(handover.sweep(op(), launch()));
        break;
      case 5:
        handover.commit(claim_, launch(), TaskState::done);
        break;
      case 6:
        handover.write_failure(claim_, "no memory");
        handover.commit(claim_, launch(), TaskState::failed);
        break;
      case 7:
        if (const auto hold = handover.take_slot(launch())) hold_ = *hold;
        expect(hold_.slot < deployment_.layout.depth);
        break;
      case 8:
        handover.submit(hold_, launch());
        break;
      case 9:
        handover.close(hold_, launch());
        break;
      case 10:
        handover.advance_closing(slot());
        break;
      case 11:
        handover.give_back(launch(), "signal 9");
        break;
      case 12:
        if (const auto placed = places_.read(slot(), take<std::uint32_t>(), tensor()))
          check(*placed);
        break;
      case 13:
        if (const auto placed = places_.read(hold_.slot, hold_.generation, tensor()))
          check(*placed);
        break;
      case 14:
        places_.write_header(claim_.slot, claim_.generation, tensor());
        break;
      case 15:
        expect(handover.failure(slot(), task()).size() <= sizeof TaskRecord::failure);
        (void)handover.duration_ns(hold_);
        (void)handover.runnable_since_ns(claim_);
        break;
      case 16:
        if (const auto failed = handover.failed_task(hold_))
          expect(*failed < deployment_.layout.tasks);
        (void)handover.finished(hold_);
        break;
      case 17:
        (void)handover.has_hints(op());
        (void)handover.has_runnable(op());
        handover.ring_ahead(task());
        break;
      case 18: {
        Counters sum = Counters::copy_of(deployment_.board, launch());
        sum.add(Counters::copy_of(deployment_.board, launch()));
        (void)sum.run.quantile_ns(0.99);
        break;
      }
      default:
        handover.hint_everything();
        expect(handover.slots_in_use() <= deployment_.layout.depth);
    }
  }

  TestDeployment deployment_{join_plan()};
  Places places_;
  std::vector<std::byte> fresh_;
  std::span<const std::uint8_t> input_;
  Claim claim_;
  SlotHold hold_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Steps steps;
  steps.run({data, size});
  return 0;
}
