// opsplit-broker: owns the arenas of this host (ipc/broker.hpp) and serves opsplitd's requests on
// a socket. One JSON object per message (ipc/message_socket.hpp), answered in order:
//
//   {"op": "ping"}       -> {"ok": true, "pid", "version", "iceoryx", "processes",
//                            "arenas": [{"deployment", "epoch"}],
//                            "pools": [{"bytes", "free"}]}
//   {"op": "publish",  "deployment": "digits", "epoch": 1, "bytes": 4096}       -> {"ok": true}
//   {"op": "withdraw", "deployment": "digits", "epoch": 1}                      -> {"ok": true}
//   {"op": "outlive"}    -> {"ok": true}; it no longer ends with the opsplitd that launched it
//
// Neither a closed terminal nor a closed pipe ends it. SIGTERM does, and then leaves no file behind.
// It listens before RouDi runs: a request that is sent meanwhile is answered as soon as it does.
#include <poll.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <list>

#include "base/system.hpp"
#include "ipc/broker.hpp"
#include "ipc/message_server.hpp"

namespace opsplit::ipc {
namespace {

Result<nlohmann::json> serve(Broker& broker, const nlohmann::json& request) {
  const auto op = request.is_object() ? request.value("op", nlohmann::json()) : nlohmann::json();
  nlohmann::json reply = {{"ok", true}};
  if (op == "ping") {
    reply["pid"] = ::getpid();
    reply["version"] = OPSPLIT_VERSION;
    reply["iceoryx"] = iceoryx_version();
    reply["processes"] = broker.processes();
    reply["arenas"] = nlohmann::json::array();
    for (const ArenaId& id : broker.arenas())
      reply["arenas"].push_back({{"deployment", id.deployment}, {"epoch", id.epoch}});
    for (const auto& pool : broker.pools())
      reply["pools"].push_back({{"bytes", pool.bytes}, {"free", pool.free}});
  } else if (op == "publish") {
    OPSPLIT_TRY(const ArenaId id, arena_id_in(request));
    OPSPLIT_TRY(const std::uint64_t bytes, number_in(request, "bytes"));
    OPSPLIT_CHECK(broker.publish(id, bytes));
    spdlog::info("published {} bytes for {}, epoch {}", bytes, id.deployment, id.epoch);
  } else if (op == "withdraw") {
    OPSPLIT_TRY(const ArenaId id, arena_id_in(request));
    OPSPLIT_CHECK(broker.withdraw(id));
    spdlog::info("withdrew {}, epoch {}", id.deployment, id.epoch);
  } else if (op == "outlive") {
    ::prctl(PR_SET_PDEATHSIG, 0);
  } else {
    return fail(ErrorCode::invalid_input, "unknown 'op' {}", op.dump());
  }
  return reply;
}

Result<nlohmann::json> serve_and_log(Broker& broker, const nlohmann::json& request) {
  auto reply = serve(broker, request);
  if (!reply) spdlog::warn("refused: {}", reply.error().message);
  return reply;
}

void run(Broker& broker, MessageListener& listener, const FileDescriptor& signals) {
  std::list<MessageSocket> connections;
  const auto answer = [&](const auto& request) { return serve_and_log(broker, request); };
  while (true) {
    std::vector<pollfd> waits = {{signals.get(), POLLIN, 0}, {listener.fd(), POLLIN, 0}};
    for (const auto& connection : connections)
      waits.push_back(
          {connection.fd(), static_cast<short>(connection.has_queued() ? POLLOUT : POLLIN), 0});
    ::poll(waits.data(), waits.size(), 1000);
    if (waits[0].revents != 0) return;
    if (const auto count = broker.forget_ended(); count > 0)
      spdlog::info("forgot {} processes that have ended", count);

    auto connection = connections.begin();
    for (std::size_t i = 2; i < waits.size(); ++i) {
      const auto served = waits[i].revents == 0 ? Result<>() : answer_requests(*connection, answer);
      if (!served) spdlog::debug("connection closed: {}", served.error().message);
      connection = served ? std::next(connection) : connections.erase(connection);
    }
    if (waits[1].revents == 0) continue;
    auto accepted = listener.accept();
    if (!accepted) {
      spdlog::warn("{}", accepted.error().message);
      if (accepted.error().code == ErrorCode::system) ::poll(nullptr, 0, 100);
    } else if (*accepted) {
      connections.push_back(std::move(**accepted));
    }
  }
}

int fail_with(const Error& error) {
  spdlog::error("{}", error.message);
  return 1;
}

int broker_main(const std::string& socket, const std::vector<std::uint64_t>& pools) {
  const FileDescriptor signals = catch_end_signals();
  auto listener = MessageListener::bind(socket);
  if (!listener) return fail_with(listener.error());
  auto broker = Broker::start(pools, [](const char* error) {
    spdlog::critical("iceoryx cannot go on: {}", error);
    ::_exit(1);
  });
  if (!broker) return fail_with(broker.error());
  spdlog::info("ready, {} pools, iceoryx {}", pools.size(), iceoryx_version());
  run(**broker, *listener, signals);
  broker->reset();
  spdlog::info("ended");
  return 0;
}

}  // namespace
}  // namespace opsplit::ipc

int main(int argc, char** argv) {
  spdlog::set_default_logger(spdlog::stderr_logger_mt("broker"));
  spdlog::set_pattern("%Y-%m-%d %H:%M:%S.%e broker[%P] %l: %v");
  CLI::App app(
      "opsplit-broker: owns the shared memory of this host's opsplit deployments.\n"
      "Started by opsplitd; in a container of its own, by the engine (opsplitd --broker).");
  std::string socket;
  std::vector<std::uint64_t> pools;
  app.add_option("--socket", socket, "where it listens; the folder belongs to this user alone")
      ->required();
  app.add_option("--pool", pools, "bytes of an arena; once per arena (64MiB is understood)")
      ->required()
      ->transform(CLI::AsSizeValue(false));
  app.set_version_flag("--version", OPSPLIT_VERSION);
  CLI11_PARSE(app, argc, argv);
  // Not exit(): iceoryx's threads still use what that would destroy.
  ::_exit(opsplit::ipc::broker_main(socket, pools));
}
