#include "ipc/device_broker.hpp"

#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "ipc/message_server.hpp"

namespace opsplit::ipc {

Result<std::unique_ptr<DeviceBroker>> DeviceBroker::start(DeviceDriver& driver,
                                                          const std::filesystem::path& socket,
                                                          const ArenaId& id,
                                                          const DeviceArenaShape& shape) {
  OPSPLIT_CHECK(check_deployment_name(id.deployment));
  OPSPLIT_CHECK(arena_bytes(shape));
  OPSPLIT_TRY(MessageListener listener, MessageListener::bind(socket));
  OPSPLIT_TRY(FileDescriptor owner_lock, hold_owner_lock(owner_lock_path(socket)));
  std::unique_ptr<DeviceBroker> broker(
      new DeviceBroker(driver, socket, id, shape, std::move(listener), std::move(owner_lock)));
  OPSPLIT_CHECK(broker->allocate());
  return broker;
}

DeviceBroker::~DeviceBroker() { ::unlink(owner_lock_path(socket_).c_str()); }

Result<> DeviceBroker::allocate() {
  OPSPLIT_TRY(const std::uint64_t bytes, arena_bytes(shape_));
  OPSPLIT_TRY(arena_, driver_.allocate(bytes));
  OPSPLIT_TRY(handle_, driver_.export_handle(arena_));
  return {};
}

bool DeviceBroker::anybody_granted() const {
  return std::ranges::any_of(parties_, [](const Party& party) { return bool(party.pidfd); });
}

Result<> DeviceBroker::run(const FileDescriptor& end) {
  while (!draining_ || anybody_granted()) {
    // A descriptor of -1 is left out by poll().
    std::vector<pollfd> waits = {{draining_ ? -1 : end.get(), POLLIN, 0},
                                 {listener_.fd(), POLLIN, 0}};
    for (const Party& party : parties_) {
      const auto& connection = party.connection;
      const bool to_send = connection && connection->has_queued();
      waits.push_back({party.pidfd.get(), POLLIN, 0});
      waits.push_back(
          {connection ? connection->fd() : -1, static_cast<short>(to_send ? POLLOUT : POLLIN), 0});
    }
    if (::poll(waits.data(), waits.size(), -1) < 0) {
      if (errno == EINTR) continue;
      return fail_errno(errno, "poll");
    }
    if (waits[0].revents != 0) draining_ = true;

    auto party = parties_.begin();
    for (std::size_t i = 2; i < waits.size(); i += 2) {
      if (waits[i].revents != 0) {
        spdlog::info("process {} has ended", party->pid);
        party = parties_.erase(party);
        continue;
      }
      const auto answer = [&](const nlohmann::json& request) { return serve(*party, request); };
      if (waits[i + 1].revents != 0 && !answer_requests(*party->connection, answer))
        party->connection.reset();
      // Who hangs up with the arena open has it open still.
      party = party->connection || party->pidfd ? std::next(party) : parties_.erase(party);
    }
    if (waits[1].revents != 0) accept_party();
  }
  return driver_.free(arena_);
}

void DeviceBroker::accept_party() {
  auto accepted = listener_.accept();
  if (!accepted) {
    spdlog::warn("{}", accepted.error().message);
    if (accepted.error().code == ErrorCode::system) ::poll(nullptr, 0, 100);
  } else if (*accepted) {
    const pid_t pid = (*accepted)->peer().pid;
    parties_.push_back({std::move(**accepted), pid, {}});
  }
}

Result<nlohmann::json> DeviceBroker::serve(Party& party, const nlohmann::json& request) {
  const auto op = request.is_object() ? request.value("op", nlohmann::json()) : nlohmann::json();
  nlohmann::json reply = {{"ok", true}};
  if (op == "ping") {
    reply["pid"] = ::getpid();
    reply["version"] = OPSPLIT_VERSION;
    reply["device"] = to_string(driver_.uuid());
    reply["deployment"] = id_.deployment;
    reply["epoch"] = id_.epoch;
    reply["slot_bytes"] = shape_.slot_bytes;
    reply["depth"] = shape_.depth;
    reply["draining"] = draining_;
    reply["parties"] = nlohmann::json::array();
    for (const Party& one : parties_)
      if (one.pidfd) reply["parties"].push_back(one.pid);
  } else if (op == "open") {
    auto granted = grant(party, request);
    if (!granted) spdlog::warn("process {}: {}", party.pid, granted.error().message);
    return granted;
  } else if (op == "closed") {
    party.pidfd.reset();
  } else if (op == "outlive") {
    ::prctl(PR_SET_PDEATHSIG, 0);
  } else {
    return fail(ErrorCode::invalid_input, "unknown 'op' {}", op.dump());
  }
  return reply;
}

// From here on the peer may have the arena open, whether or not the reply reaches it.
Result<nlohmann::json> DeviceBroker::grant(Party& party, const nlohmann::json& request) {
  OPSPLIT_TRY(const ArenaId id, arena_id_in(request));
  OPSPLIT_TRY(const std::uint64_t slot_bytes, number_in(request, "slot_bytes"));
  OPSPLIT_TRY(const std::uint64_t depth, number_in(request, "depth"));
  if (id != id_ || slot_bytes != shape_.slot_bytes || depth != shape_.depth)
    return fail(
        ErrorCode::refused,
        "this device broker has {} slots of {} bytes for {} (epoch {}); asked for: {} of {} "
        "for {} (epoch {})",
        shape_.depth, shape_.slot_bytes, id_.deployment, id_.epoch, depth, slot_bytes,
        id.deployment.substr(0, 64), id.epoch);
  if (draining_) return fail(ErrorCode::unavailable, "the device broker is about to end");
  if (party.pidfd)
    return fail(ErrorCode::already_exists, "this connection has the arena open already");
  const auto process = identify(party.pid);
  if (!process)
    return fail(ErrorCode::refused,
                "the device broker does not see your process: all need one PID namespace");
  OPSPLIT_TRY(party.pidfd, open_pidfd(*process));
  return nlohmann::json{
      {"ok", true}, {"device", to_string(driver_.uuid())}, {"handle", to_string(handle_)}};
}

}  // namespace opsplit::ipc
