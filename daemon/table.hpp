// Plain-text tables, for `opsplit ps`, `plan` and `bench`.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace opsplit::daemon {

// The first row is the header. Columns are two spaces apart; those that hold only numbers, with or
// without a unit ("12", "1.02x", "97.8 %", "3.1 ms", "-" for none), are aligned to the right. Rows may
// be shorter than the header. What could move the terminal's cursor is shown as '?'.
std::string render_table(std::span<const std::vector<std::string>> rows);

}  // namespace opsplit::daemon
