// The SDK: operators with kernels of your own, in C++. All that a kernel on the CPU needs is in this header;
// <opsplit/cuda_operator.hpp> is for kernels on a GPU.
//
//   #include <opsplit/operator.hpp>
//
//   class ThresholdedRelu : public opsplit::sdk::Kernel {
//    public:
//     explicit ThresholdedRelu(const opsplit::sdk::Node& node) : alpha_(node.real("alpha", 1)) {}
//     void run(opsplit::sdk::Inputs inputs, opsplit::sdk::Outputs outputs) override {
//       const auto x = inputs[0].as<float>();
//       const auto y = outputs[0].as<float>();
//       for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] > alpha_ ? x[i] : 0;
//     }
//
//    private:
//     float alpha_;
//   };
//
//   int main(int argc, char** argv) {
//     using opsplit::sdk::make;
//     return opsplit::sdk::operator_main(argc, argv, {{"ThresholdedRelu", make<ThresholdedRelu>}});
//   }
//
// Such a program can run any operator whose nodes are of the ops that it names, or of those that opsplit
// has kernels for; its own go first. CMake: find_package(opsplit) and opsplit_add_operator(NAME SOURCE).
//
// The library behind it (libopsplit-sdk.so) shows nothing but what is declared here and in
// <opsplit/harness.hpp>: a program need not be built with the compiler, or the libraries, of opsplit, but with
// the same C++ standard library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#define OPSPLIT_SDK __attribute__((visibility("default")))

namespace opsplit::sdk {

// Of an element. float16 and bfloat16 lie as std::uint16_t, a bool8 is a byte of 0 or 1.
enum class DType : std::uint8_t {
  float16,
  bfloat16,
  float32,
  float64,
  int8,
  int16,
  int32,
  int64,
  uint8,
  uint16,
  uint32,
  uint64,
  bool8
};

OPSPLIT_SDK std::string_view name_of(DType dtype);  // "float32"
OPSPLIT_SDK std::size_t bytes_of(DType dtype);      // of one element

// Whether elements of this type can be used as T.
template <class T>
constexpr bool lies_as(DType dtype) {
  using enum DType;
  if constexpr (std::is_same_v<T, float>) return dtype == float32;
  if constexpr (std::is_same_v<T, double>) return dtype == float64;
  if constexpr (std::is_same_v<T, std::int8_t>) return dtype == int8;
  if constexpr (std::is_same_v<T, std::int16_t>) return dtype == int16;
  if constexpr (std::is_same_v<T, std::int32_t>) return dtype == int32;
  if constexpr (std::is_same_v<T, std::int64_t>) return dtype == int64;
  if constexpr (std::is_same_v<T, std::uint8_t>) return dtype == uint8 || dtype == bool8;
  if constexpr (std::is_same_v<T, std::uint16_t>)
    return dtype == uint16 || dtype == float16 || dtype == bfloat16;
  if constexpr (std::is_same_v<T, std::uint32_t>) return dtype == uint32;
  if constexpr (std::is_same_v<T, std::uint64_t>) return dtype == uint64;
  if constexpr (std::is_same_v<T, bool>) return dtype == bool8;
  return false;
}

// A tensor where it lies: row-major, its first element 64-byte aligned. Owns nothing. An optional input
// that is absent, and an output that nobody reads, has no data.
template <class Byte>
struct BasicTensor {
  DType dtype = DType::float32;
  std::span<const std::int64_t> shape;
  std::span<Byte> bytes;

  [[nodiscard]] bool present() const { return bytes.data() != nullptr; }
  // Its elements. Throws std::invalid_argument if they are of another type, or it is absent.
  template <class T>
  [[nodiscard]] auto as() const {
    using Element = std::conditional_t<std::is_const_v<Byte>, const T, T>;
    if (!lies_as<T>(dtype) || !present())
      throw std::invalid_argument("a tensor is " +
                                  std::string(present() ? name_of(dtype) : "absent") +
                                  ", which is not what the kernel takes it for");
    return std::span<Element>(reinterpret_cast<Element*>(bytes.data()), bytes.size() / sizeof(T));
  }
};
using Tensor = BasicTensor<const std::byte>;
using MutableTensor = BasicTensor<std::byte>;

// In the order of the node's. Valid until run() returns; an output never overlaps an input, and what was
// in it before is of no meaning.
using Inputs = std::span<const Tensor>;
using Outputs = std::span<const MutableTensor>;

using Attribute = std::variant<std::int64_t, float, std::string, std::vector<std::int64_t>,
                               std::vector<float>, std::vector<std::string>>;

// An input or output of a node, before any request.
struct Operand {
  DType dtype = DType::float32;
  std::vector<std::int64_t> shape = {};
  bool present = true;
  Tensor constant =
      {};  // present() if its content is known: weights, say. Valid as long as the kernel
};

// A node of the model, with all types known.
struct Node {
  std::string name = {};
  std::string op_type = {};
  std::int64_t opset = 0;
  std::map<std::string, Attribute, std::less<>> attributes = {};
  std::vector<Operand> inputs = {};
  std::vector<Operand> outputs = {};

  // The attribute; `otherwise` if it is absent or of another type.
  [[nodiscard]] OPSPLIT_SDK std::int64_t integer(std::string_view attribute,
                                                 std::int64_t otherwise) const;
  [[nodiscard]] OPSPLIT_SDK float real(std::string_view attribute, float otherwise) const;
  [[nodiscard]] OPSPLIT_SDK std::string text(std::string_view attribute,
                                             std::string_view otherwise) const;
  [[nodiscard]] OPSPLIT_SDK std::vector<std::int64_t> integers(std::string_view attribute) const;
};

// What computes a node. It is made when the operator starts, and anew, on another thread while the earlier one
// goes on, when `opsplit set` gives the operator another number of cores: here is the time for what takes long.
// An exception from the constructor keeps the operator from starting; one from run() fails the request:
// its client gets what() with the operator's and the node's names, and the operator goes on.
class Kernel {
 public:
  Kernel() = default;
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;
  virtual ~Kernel() = default;

  // One call at a time, on the thread that starts them all. Its threads should be as many as its CPUs,
  // by sched_getaffinity().
  virtual void run(Inputs inputs, Outputs outputs) = 0;
};

using MakeKernel = std::function<std::unique_ptr<Kernel>(const Node&)>;
using Kernels = std::map<std::string, MakeKernel>;  // by ONNX op

// Makes a K from a node, or from nothing.
template <class K>
std::unique_ptr<K> make(const Node& node) {
  if constexpr (std::is_constructible_v<K, const Node&>)
    return std::make_unique<K>(node);
  else
    return std::make_unique<K>();
}

// The whole of main(): attaches to opsplitd as the command line says (--help), then runs tasks until the
// deployment ends, or SIGTERM or SIGINT comes. The exit code; errors are one line on stderr.
OPSPLIT_SDK int operator_main(int argc, char** argv, const Kernels& kernels);

}  // namespace opsplit::sdk
