// A name for bytes: two with the same name are the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "base/error.hpp"

namespace opsplit {

// XXH3's 128 bits as 32 hexadecimal digits. At memory speed, against accidents; it is no defence
// against someone who looks for two contents of one name.
std::string content_hash(std::span<const std::byte> bytes);

// Of a plain file, read: whoever cuts it off meanwhile does no harm.
Result<std::string> content_hash_of(const std::filesystem::path& file);

}  // namespace opsplit
