// An operator of somebody else's, made with the SDK: Relu, well or badly.
//
// usage: custom-operator MODE ARGUMENTS...    ARGUMENTS: those that every operator takes
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <opsplit/operator.hpp>
#include <string>

namespace {

using namespace opsplit::sdk;

std::string mode;

// Signals come meanwhile.
void take(unsigned seconds) {
  while (seconds > 0) seconds = ::sleep(seconds);
}

class Relu : public Kernel {
 public:
  explicit Relu(const Node& node) {
    if (mode == "refuses") throw std::runtime_error("no Relu for " + node.name);
    if (mode == "loads-slowly") take(1);
  }
  void run(Inputs inputs, Outputs outputs) override {
    const auto x = inputs[0].as<float>();
    const auto y = outputs[0].as<float>();
    if (mode == "crashes") std::abort();
    const bool is_warm_up = std::all_of(x.begin(), x.end(), [](float v) { return v == 1; });
    if (mode == "takes-4-seconds" && !is_warm_up && !has_taken_long_) {
      has_taken_long_ = true;
      take(4);
    }
    if (mode == "throws-at-digits" && *std::max_element(x.begin(), x.end()) > 0)
      throw std::domain_error("this is a digit");
    std::transform(x.begin(), x.end(), y.begin(), [](float v) { return std::max(v, 0.0F); });
  }

 private:
  bool has_taken_long_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  mode = argv[1];
  argv[1] = argv[0];
  return operator_main(argc - 1, argv + 1, {{"Relu", make<Relu>}});
}
