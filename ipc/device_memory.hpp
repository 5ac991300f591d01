// Device memory that the processes of a deployment share: its arena on one GPU.
//
// In CUDA memory belongs to the process that allocated it. So that an operator's death frees nothing that
// others use, that is a process of its own: opsplit-device-broker (ipc/device_broker.hpp), one for each
// deployment and GPU. Operators are its parties: they open the arena once, keep it, and find tensors in it
// by offset, as in the host's arena (ipc/arena.hpp).
//
//   party    stranger --attach(): asks--> granted --opens the handle--> attached
//            attached --~DeviceArena: closes the handle--> granted --says `closed`--> stranger
//            granted or attached --dies--> stranger, once the kernel says so (pidfd)
//   broker   serving --told to end--> draining (grants nothing) --nobody is granted--> freed, ended
//
// 1. Nothing is freed that somebody has open: CUDA leaves undefined what happens then. The broker grants
//    before it answers, and a grant ends with the party's word or its death, never with its connection. A
//    party that dies at any point thus holds up the end of the broker for no longer than it lives.
//
// 2. Nobody reads what is not finished. A task is `done` only after DeviceCompletion::wait()
//    (ipc/device_completion.hpp), and then check(), have returned without an error; so is what a client
//    has copied from the arena an answer only then.
//
// 3. What a dead operator had launched writes nothing once its claim is given back, which is after its
//    pidfd has become readable. This is the kernel's and the driver's to keep, and an assumption until
//    tests/ipc/cuda_driver_test.cpp has passed on a GPU. Why it should hold: a process that ends lets go
//    of its files, those of the driver among them, before it reports its end (do_exit(): exit_files(),
//    exit_task_work(), then exit_notify(); the pidfd of a process waits for the last of its threads). With
//    its file the driver takes the process's channels from the GPU and waits until what ran there has
//    stopped, writes included, before it frees their memory. Where it would not hold:
//      - another process has the same open file: a child forked without exec, or one that was sent the
//        descriptor. Operators that use a GPU must not fork without exec.
//      - somebody reads /proc/PID/maps, smaps or mem of the dying process, or traces it: the address space,
//        and files mapped there, may live on until he is done, microseconds later.
//      - the machine goes to sleep or wakes just then: nvidia.ko then closes in a thread of its own, later
//        (nvidia_close_deferred).
//      - under MPS the work belongs to the server's process: open_cuda_device() refuses that.
//
// 4. The broker's death ends the epoch: CUDA does not say what becomes of memory that others have open when
//    its owner ends, nor that they get an error. check() fails from the moment before the memory can be
//    gone (ipc/device_owner.hpp), so nothing is committed, and no answer taken, that came from memory that
//    was not there. Parties then end; opsplitd starts the next epoch, with a new broker and an empty arena.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "base/error.hpp"
#include "base/plan.hpp"
#include "base/system.hpp"
#include "ipc/arena.hpp"
#include "ipc/device_driver.hpp"
#include "ipc/device_owner.hpp"
#include "ipc/message_socket.hpp"

namespace opsplit::ipc {

// `depth` slots of equal size, one behind the other.
struct DeviceArenaShape {
  std::uint64_t slot_bytes = 0;  // a multiple of 64, so that all slots are aligned alike
  std::uint32_t depth = 0;

  friend bool operator==(const DeviceArenaShape&, const DeviceArenaShape&) = default;
};
// Error invalid_input: it is empty, slots are not aligned, or the sum overflows.
Result<std::uint64_t> arena_bytes(const DeviceArenaShape& shape);

// What a deployment has on its plan's GPU `gpu`: some bytes, though no tensor may lie there, for parties also
// know by it that they are of one epoch. Precondition: the GPU is in the plan.
DeviceArenaShape shape_of(const Plan& plan, std::size_t gpu, std::uint32_t depth);

// A file beside the broker's socket (ipc/device_owner.hpp).
std::filesystem::path owner_lock_path(const std::filesystem::path& socket);

// An arena that is open in this process, as long as this object lives. The driver must outlive it. slot()
// and check() may be called from any thread.
class DeviceArena {
 public:
  // Asks the broker that listens at `socket`, and opens what it names. Blocks until the deadline at most.
  // Errors: unavailable (no broker listens, or it ends), refused (another deployment, epoch, device or
  // shape; the driver doesn't let us open it; the broker does not see our process), timed_out.
  static Result<DeviceArena> attach(DeviceDriver& driver, const std::filesystem::path& socket,
                                    const ArenaId& id, const DeviceArenaShape& shape,
                                    Deadline deadline);
  DeviceArena(DeviceArena&& other) noexcept;
  DeviceArena& operator=(DeviceArena&& other) noexcept;
  // Nothing of this process may be pending on the device that uses it.
  ~DeviceArena();

  // Precondition: slot < depth.
  [[nodiscard]] DeviceAddress slot(std::uint32_t slot) const {
    return base_ + std::uint64_t{slot} * shape_.slot_bytes;
  }
  [[nodiscard]] const DeviceArenaShape& shape() const { return shape_; }
  // Whether it can be used from this process: reads the first bytes of each slot, on a stream of its own, and changes
  // nothing. Errors: the device's, timed_out, epoch_lost.
  [[nodiscard]] Result<> try_reading(Deadline deadline) const;
  // After something is complete, before it counts. Error epoch_lost: the broker has ended, and what was
  // read from the arena, or written to it, may be anything. One system call.
  [[nodiscard]] Result<> check() const;

 private:
  DeviceArena(DeviceDriver& driver, MessageSocket connection, DeviceOwner owner, DeviceAddress base,
              const DeviceArenaShape& shape);
  void detach();

  DeviceDriver* driver_;
  std::optional<MessageSocket> connection_;  // empty: moved from
  DeviceOwner owner_;
  DeviceAddress base_;
  DeviceArenaShape shape_;
};

// Attaches, writes to every slot from the host, reads it back, compares, detaches: whether handles work
// between this process and the broker's. What lay in the first bytes of the slots is overwritten. Error:
// of the step that failed.
Result<> try_device_arena(DeviceDriver& driver, const std::filesystem::path& socket,
                          const ArenaId& id, const DeviceArenaShape& shape, Deadline deadline);

}  // namespace opsplit::ipc
