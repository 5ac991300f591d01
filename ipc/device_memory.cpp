#include "ipc/device_memory.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "ipc/device_completion.hpp"
#include "ipc/futex.hpp"

namespace opsplit::ipc {
namespace {

// Best effort, and without waiting: a broker that is not there needs no word.
void say_closed(MessageSocket& connection) {
  if (connection.queue({{"op", "closed"}})) static_cast<void>(connection.flush());
}

Result<std::string> text_of(const nlohmann::json& reply, const char* key) {
  const auto found = reply.find(key);
  if (found == reply.end() || !found->is_string())
    return fail(ErrorCode::invalid_input, "the device broker's reply has no '{}'", key);
  return found->get<std::string>();
}

Result<DeviceAddress> open_granted(DeviceDriver& driver, const nlohmann::json& reply) {
  OPSPLIT_TRY(const std::string device, text_of(reply, "device"));
  if (device != to_string(driver.uuid()))
    return fail(ErrorCode::refused, "its arena lies on {}, this process uses {}",
                device.substr(0, 64), to_string(driver.uuid()));
  OPSPLIT_TRY(const std::string text, text_of(reply, "handle"));
  OPSPLIT_TRY(const DeviceHandle handle, parse_device_handle(text));
  return driver.open_handle(handle);
}

// Waits for what `put` puts on a stream, which nobody else uses.
template <class Put>
Result<> on_own_stream(DeviceDriver& driver, Deadline deadline, Put put) {
  SystemFutex futex;
  OPSPLIT_TRY(const DeviceStream stream, driver.create_stream(StreamPriority::normal));
  const auto done = [&]() -> Result<> {
    OPSPLIT_TRY(auto completion, DeviceCompletion::create(driver, futex, stream));
    const auto left = std::max(Clock::duration::zero(), deadline - Clock::now());
    const std::uint64_t deadline_ns =
        futex.now_ns() + static_cast<std::uint64_t>(std::chrono::nanoseconds(left).count());
    OPSPLIT_CHECK(put(stream));
    OPSPLIT_CHECK(completion.launched());
    return completion.wait(0, deadline_ns);
  }();
  const auto destroyed = driver.destroy_stream(stream);
  OPSPLIT_CHECK(done);
  return destroyed;
}

using FirstBytes = std::vector<std::array<std::uint8_t, 64>>;  // of each slot

Result<> read_first_bytes(DeviceDriver& driver, const DeviceArena& arena, DeviceStream stream,
                          FirstBytes& read) {
  for (std::uint32_t slot = 0; slot < arena.shape().depth; ++slot)
    OPSPLIT_CHECK(driver.copy_to_host(std::as_writable_bytes(std::span(read[slot])),
                                      arena.slot(slot), stream));
  return {};
}

}  // namespace

Result<std::uint64_t> arena_bytes(const DeviceArenaShape& shape) {
  std::uint64_t bytes = 0;
  if (shape.slot_bytes == 0 || shape.slot_bytes % 64 != 0 || shape.depth == 0 ||
      __builtin_mul_overflow(shape.slot_bytes, std::uint64_t{shape.depth}, &bytes))
    return fail(ErrorCode::invalid_input,
                "a device arena of {} slots of {} bytes: at least one, of a multiple of 64 bytes",
                shape.depth, shape.slot_bytes);
  return bytes;
}

DeviceArenaShape shape_of(const Plan& plan, std::size_t gpu, std::uint32_t depth) {
  return {plan.gpu_slot_bytes[gpu], depth};
}

std::filesystem::path owner_lock_path(const std::filesystem::path& socket) {
  return socket.native() + ".owner";
}

DeviceArena::DeviceArena(DeviceDriver& driver, MessageSocket connection, DeviceOwner owner,
                         DeviceAddress base, const DeviceArenaShape& shape)
    : driver_(&driver),
      connection_(std::move(connection)),
      owner_(std::move(owner)),
      base_(base),
      shape_(shape) {}

DeviceArena::DeviceArena(DeviceArena&& other) noexcept
    : driver_(other.driver_),
      connection_(std::exchange(other.connection_, std::nullopt)),
      owner_(std::move(other.owner_)),
      base_(other.base_),
      shape_(other.shape_) {}

DeviceArena& DeviceArena::operator=(DeviceArena&& other) noexcept {
  if (this != &other) {
    detach();
    driver_ = other.driver_;
    connection_ = std::exchange(other.connection_, std::nullopt);
    owner_ = std::move(other.owner_);
    base_ = other.base_;
    shape_ = other.shape_;
  }
  return *this;
}

DeviceArena::~DeviceArena() { detach(); }

void DeviceArena::detach() {
  if (!connection_) return;
  // If the driver cannot close it, it stays open as long as this process lives: then no word is due.
  if (driver_->close_handle(base_)) say_closed(*connection_);
  connection_.reset();
}

Result<DeviceArena> DeviceArena::attach(DeviceDriver& driver, const std::filesystem::path& socket,
                                        const ArenaId& id, const DeviceArenaShape& shape,
                                        Deadline deadline) {
  OPSPLIT_CHECK(arena_bytes(shape));
  OPSPLIT_TRY(MessageSocket connection, MessageSocket::connect(socket, deadline));
  if (connection.peer().pid == 0)
    return fail(ErrorCode::refused, "{}: the device broker must share our PID namespace",
                socket.native());
  OPSPLIT_TRY(DeviceOwner owner,
              DeviceOwner::watch(owner_lock_path(socket), connection.peer().pid));
  const nlohmann::json request = {{"op", "open"},
                                  {"deployment", id.deployment},
                                  {"epoch", id.epoch},
                                  {"slot_bytes", shape.slot_bytes},
                                  {"depth", shape.depth}};
  const auto reply = connection.call(request, deadline);
  const auto base =
      reply ? open_granted(driver, *reply) : Result<DeviceAddress>(tl::unexpected(reply.error()));
  if (!base) {
    // It may have granted all the same.
    say_closed(connection);
    return within("device arena of " + id.deployment, base.error());
  }
  return DeviceArena(driver, std::move(connection), std::move(owner), *base, shape);
}

Result<> DeviceArena::check() const {
  if (!owner_.has_its_memory())
    return fail(ErrorCode::epoch_lost, "{}: the device broker has ended, and its memory with it",
                to_string(driver_->uuid()));
  return {};
}

Result<> DeviceArena::try_reading(Deadline deadline) const {
  FirstBytes read(shape_.depth);
  OPSPLIT_CHECK(on_own_stream(*driver_, deadline, [&](DeviceStream stream) {
    return read_first_bytes(*driver_, *this, stream, read);
  }));
  return check();
}

Result<> try_device_arena(DeviceDriver& driver, const std::filesystem::path& socket,
                          const ArenaId& id, const DeviceArenaShape& shape, Deadline deadline) {
  OPSPLIT_TRY(const DeviceArena arena, DeviceArena::attach(driver, socket, id, shape, deadline));
  FirstBytes written(shape.depth), read(shape.depth);
  const auto write_and_read = [&](DeviceStream stream) -> Result<> {
    for (std::uint32_t slot = 0; slot < shape.depth; ++slot) {
      for (std::size_t i = 0; i < written[slot].size(); ++i)
        written[slot][i] = static_cast<std::uint8_t>(slot + 3 * i + 1);
      OPSPLIT_CHECK(
          driver.copy_to_device(arena.slot(slot), std::as_bytes(std::span(written[slot])), stream));
    }
    return read_first_bytes(driver, arena, stream, read);
  };
  OPSPLIT_CHECK(on_own_stream(driver, deadline, write_and_read));
  OPSPLIT_CHECK(arena.check());
  if (read != written)
    return fail(ErrorCode::system, "{}: other bytes are read from the arena than were written",
                to_string(driver.uuid()));
  return {};
}

}  // namespace opsplit::ipc
