// An operator whose Relu does nothing, for python_hop.py: what is measured is the way to it.
#include <opsplit/operator.hpp>

namespace {

class Empty final : public opsplit::sdk::Kernel {
 public:
  void run(opsplit::sdk::Inputs, opsplit::sdk::Outputs) override {}
};

}  // namespace

int main(int argc, char** argv) {
  return opsplit::sdk::operator_main(argc, argv, {{"Relu", opsplit::sdk::make<Empty>}});
}
