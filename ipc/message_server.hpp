// What the brokers' programs share: they answer requests on a socket, one JSON object per message
// (ipc/message_socket.hpp), in order, on one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.hpp"
#include "base/system.hpp"
#include "ipc/arena.hpp"
#include "ipc/message_socket.hpp"

namespace opsplit::ipc {

// Members of a request. Error invalid_input: not there, or of another type.
Result<std::uint64_t> number_in(const nlohmann::json& request, const char* key);
Result<std::string> text_in(const nlohmann::json& request, const char* key);
// {"deployment", "epoch"}
Result<ArenaId> arena_id_in(const nlohmann::json& request);

// Makes a reply, or the error that is sent instead.
using Serve = std::function<Result<nlohmann::json>(const nlohmann::json& request)>;
// Answers all that has arrived, as far as the peer reads the answers. An error ends the connection.
Result<> answer_requests(MessageSocket& connection, const Serve& serve);

// SIGTERM and SIGINT arrive as something to read; also for threads that are started later, which inherit
// the mask. Neither a closed terminal nor a closed pipe ends the process any more.
FileDescriptor catch_end_signals();

}  // namespace opsplit::ipc
