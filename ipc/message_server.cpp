#include "ipc/message_server.hpp"

#include <sys/signalfd.h>

#include <csignal>

namespace opsplit::ipc {

Result<std::uint64_t> number_in(const nlohmann::json& request, const char* key) {
  const auto found = request.find(key);
  if (found == request.end() || !found->is_number_unsigned())
    return fail(ErrorCode::invalid_input, "'{}' must be a number", key);
  return found->get<std::uint64_t>();
}

Result<std::string> text_in(const nlohmann::json& request, const char* key) {
  const auto found = request.find(key);
  if (found == request.end() || !found->is_string())
    return fail(ErrorCode::invalid_input, "'{}' must be a text", key);
  return found->get<std::string>();
}

Result<ArenaId> arena_id_in(const nlohmann::json& request) {
  OPSPLIT_TRY(std::string deployment, text_in(request, "deployment"));
  OPSPLIT_TRY(const std::uint64_t epoch, number_in(request, "epoch"));
  return ArenaId{std::move(deployment), epoch};
}

Result<> answer_requests(MessageSocket& connection, const Serve& serve) {
  while (!connection.has_queued()) {
    OPSPLIT_TRY(const auto request, connection.try_receive());
    if (!request) return {};
    const auto reply = serve(*request);
    OPSPLIT_CHECK(connection.queue(reply ? *reply : error_reply(reply.error())));
    OPSPLIT_CHECK(connection.flush());
  }
  return connection.flush();
}

FileDescriptor catch_end_signals() {
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGHUP, SIG_IGN);
  return FileDescriptor(::signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK));
}

}  // namespace opsplit::ipc
