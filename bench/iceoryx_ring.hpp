// Raw iceoryx, as its own examples use it: each hop takes a chunk and publishes one.
#pragma once

#include <cstdint>
#include <vector>

#include "bench/contender.hpp"

namespace opsplit::bench {

// The broker's pools hold one chunk each, so each publisher of a ring has a pool of its own. iceoryx
// gives a publisher its last chunk again once the subscriber has released it: the cheapest that it has.
std::vector<std::uint64_t> iceoryx_pools(const Setting& setting);

Result<std::unique_ptr<Contender>> start_iceoryx_polling(const Setting& setting);
Result<std::unique_ptr<Contender>> start_iceoryx_waitset(const Setting& setting);

}  // namespace opsplit::bench
