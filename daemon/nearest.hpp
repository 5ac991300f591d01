// "did you mean ...?" for a word that is not one of those expected.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace opsplit::daemon {

// "; did you mean 'depth'?", or nothing if no candidate is close. To be put behind a message.
std::string did_you_mean(std::string_view word, std::span<const std::string> candidates);

}  // namespace opsplit::daemon
