// opsplit-operator: runs any operator of any split with our own kernels. opsplitd starts it.
#include "operators/operator_main.hpp"

int main(int argc, char** argv) {
  return opsplit::operators::operator_main(argc, argv, opsplit::operators::CustomKernels());
}
