#include "base/cpu.hpp"

namespace opsplit {

Layout preferred_blocked_layout() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  // The four that oneDNN calls avx512_core.
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return Layout::nhwc;
  if (__builtin_cpu_supports("avx2")) return Layout::nChw8c;
#endif
  return Layout::row_major;
}

}  // namespace opsplit
