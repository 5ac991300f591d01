// An operator of somebody else's, made with the SDK: Relu, well or badly.
//
// usage: custom-operator MODE ARGUMENTS...    ARGUMENTS: those that every operator takes
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <opsplit/operator.hpp>
#include <string>

namespace {

using namespace opsplit::sdk;

std::string mode;

class Relu : public Kernel {
 public:
  explicit Relu(const Node& node) {
    if (mode == "refuses") throw std::runtime_error("no Relu for " + node.name);
  }
  void run(Inputs inputs, Outputs outputs) override {
    const auto x = inputs[0].as<float>();
    const auto y = outputs[0].as<float>();
    if (mode == "crashes") std::abort();
    if (mode == "throws-at-digits" && *std::max_element(x.begin(), x.end()) > 0)
      throw std::domain_error("this is a digit");
    std::transform(x.begin(), x.end(), y.begin(), [](float v) { return std::max(v, 0.0F); });
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  mode = argv[1];
  argv[1] = argv[0];
  return operator_main(argc - 1, argv + 1, {{"Relu", make<Relu>}});
}
