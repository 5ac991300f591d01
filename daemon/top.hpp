// What `opsplit top` shows: two snapshots, and what happened between them. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "daemon/snapshot.hpp"

namespace opsplit::daemon {

inline constexpr std::size_t unlimited = std::numeric_limits<std::size_t>::max();

// A line and a table for each deployment. Rates and durations are those since `earlier`; "-" where
// that is null, or nothing happened. Columns that do not fit into the width are left out, the least
// important ones first.
std::string top_text(const Snapshot* earlier, const Snapshot& now, std::size_t width = unlimited);

// The text on a screen of this size: long lines cut off, and instead of the lines that do not fit one
// that says so.
std::string fit(std::string_view text, std::size_t width, std::size_t height);

// Three digits and a unit: "350 ns", "1.25 ms", "12.5 s"; "0 B", "97.7 KiB".
std::string duration_text(std::uint64_t ns);
std::string bytes_text(double bytes);

}  // namespace opsplit::daemon
