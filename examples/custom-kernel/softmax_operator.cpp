#include "softmax.hpp"

int main(int argc, char** argv) {
  using namespace opsplit::sdk;
  return operator_main(argc, argv, {{"Softmax", make<Softmax>}});
}
