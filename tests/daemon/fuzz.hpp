// Damage for parsers: seeded, so that a failure can be repeated.
#pragma once

#include <random>
#include <string>

namespace opsplit::daemon {

// The text with bytes replaced, removed, inserted or cut off.
inline std::string damaged(std::string text, std::mt19937& random) {
  for (unsigned changes = 1 + random() % 4; changes > 0 && !text.empty(); --changes) {
    const std::size_t at = random() % text.size();
    switch (random() % 5) {
      case 0:
        text[at] = static_cast<char>(random());
        break;
      case 1:
        text.erase(at, 1 + random() % 8);
        break;
      case 2:
        text.insert(at, 1, static_cast<char>(random()));
        break;
      case 3:
        text.insert(at, text.substr(random() % text.size(), random() % 16));
        break;
      default:
        if (random() % 4 == 0) text.resize(at);
    }
  }
  return text;
}

}  // namespace opsplit::daemon
