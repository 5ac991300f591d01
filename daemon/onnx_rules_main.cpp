// opsplit-onnx-rules: answers questions that come over the socket that is its standard input (OnnxRulesProcess),
// until that is closed. It may die of any of them.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <climits>

#include "daemon/frames.hpp"
#include "graph/model.hpp"

using namespace opsplit;

namespace {

constexpr rlim_t most_seconds = 20;                               // of CPU time, for one question
[[maybe_unused]] constexpr rlim_t most_memory = rlim_t{6} << 30;  // a question may be of 2 GiB

void limit(int resource, rlim_t most) {
  rlimit limits{};
  const auto which = static_cast<__rlimit_resource_t>(resource);
  if (getrlimit(which, &limits) != 0) return;
  limits.rlim_cur = std::min(most, limits.rlim_max);
  (void)setrlimit(which, &limits);
}

void limit_next_question() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  limit(RLIMIT_CPU,
        static_cast<rlim_t>(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + 2 + most_seconds);
}

}  // namespace

int main() {
  limit(RLIMIT_CORE, 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // these map terabytes
  limit(RLIMIT_AS, most_memory);
#endif
  for (;;) {
    limit_next_question();
    const auto question = daemon::receive_frame(STDIN_FILENO, INT_MAX);
    if (!question) return 0;
    const auto types = graph::infer_by_onnx(*question);
    // A code, and the types or what is wrong.
    std::string answer(1, types ? 0 : types.error().code == ErrorCode::unsupported ? 1 : 2);
    answer += types ? *types : types.error().message;
    if (!daemon::send_frame(STDIN_FILENO, answer)) return 1;
  }
}
