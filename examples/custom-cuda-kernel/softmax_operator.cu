#include "softmax.cuh"

int main(int argc, char** argv) {
  using namespace opsplit::sdk;
  return cuda_operator_main(argc, argv, {{"Softmax", make<Softmax>}});
}
