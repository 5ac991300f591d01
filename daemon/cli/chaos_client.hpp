// The hidden command that `opsplit chaos` starts as its clients.
#pragma once

#include "daemon/cli/commands.hpp"

namespace opsplit::daemon::cli {

// Requests differ by their inputs, of which there are so many.
inline constexpr std::uint32_t different_inputs = 16;

void add_chaos_client(CLI::App& app, Invocation& invocation);

}  // namespace opsplit::daemon::cli
