// hop: what it costs to hand a tensor from one operator process to the next, beside the floors and
// raw iceoryx, in one run. bench/README.md says how to use it and what the figures are.
#include <nlohmann/json.hpp>

#include "bench/cases.hpp"
#include "bench/runner.hpp"
#include "bench/summary.hpp"

int main(int argc, char** argv) {
  using namespace opsplit::bench;
  Runner runner({argv, argv + argc});
  std::vector<Case> cases = make_cases();
  if (const std::string what = left_out(); !what.empty()) fmt::print("{}\n", what);
  return runner.run(cases, pools_for(cases), [&] {
    nlohmann::json summary = summarize(cases);
    print_summary(summary);
    return summary;
  });
}
