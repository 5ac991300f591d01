// A name for bytes: two constants with the same name are the same constant.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace opsplit::operators {

// 128 bits as 32 hexadecimal digits. Fast (memory speed) and well mixed, against accidents; it is no
// defence against someone who looks for two constants of one name.
std::string content_hash(std::span<const std::byte> bytes);

}  // namespace opsplit::operators
