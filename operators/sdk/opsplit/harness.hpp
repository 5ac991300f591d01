// Feeds tensors to a kernel, for unit tests: no daemon, no shared memory, no model.
//
//   opsplit::sdk::Harness harness({.op_type = "ThresholdedRelu", .attributes = {{"alpha", 2.0f}}});
//   harness.input<float>({1, 4}, {-1, 1, 2, 3});
//   harness.output<float>({1, 4});
//   harness.run(opsplit::sdk::make<ThresholdedRelu>);
//   EXPECT_THAT(harness.result<float>(0), ElementsAre(0, 0, 0, 3));
//
// Stricter than the real thing: inputs are read-only, and right behind each tensor (rounded up to 64 bytes,
// as places are) lies a page that nobody may touch, so that a kernel that goes too far ends with SIGSEGV.
#pragma once

#include <opsplit/operator.hpp>

namespace opsplit::sdk {

class Harness {
  // First, for nvcc looks for it there.
  template <class T>
  static constexpr DType dtype_of() {
    for (int code = 0; code <= static_cast<int>(DType::bool8); ++code)
      if (const auto dtype = static_cast<DType>(code);
          lies_as<T>(dtype) && dtype != DType::float16 && dtype != DType::bfloat16)
        return dtype;
    throw std::invalid_argument("no tensor has elements of this type");
  }

 public:
  // The node without its inputs and outputs.
  OPSPLIT_SDK explicit Harness(Node node);
  OPSPLIT_SDK ~Harness();
  Harness(const Harness&) = delete;
  Harness& operator=(const Harness&) = delete;

  // The next input. A constant one is known already when the kernel is made. Throws std::invalid_argument
  // if there are not as many values as the shape says.
  template <class T>
  void input(std::vector<std::int64_t> shape, const std::vector<T>& values,
             DType dtype = dtype_of<T>()) {
    add_input(dtype, std::move(shape), std::as_bytes(std::span(values)), false);
  }
  template <class T>
  void constant(std::vector<std::int64_t> shape, const std::vector<T>& values,
                DType dtype = dtype_of<T>()) {
    add_input(dtype, std::move(shape), std::as_bytes(std::span(values)), true);
  }
  OPSPLIT_SDK void absent_input();
  // The next output.
  template <class T>
  void output(std::vector<std::int64_t> shape, DType dtype = dtype_of<T>()) {
    add_output(dtype, std::move(shape));
  }

  // Makes the kernel and runs it, or runs it once more. Throws what they throw.
  OPSPLIT_SDK void run(const MakeKernel& make);
  // Output `index` of the last run. Throws std::invalid_argument if it is of another type.
  template <class T>
  [[nodiscard]] std::vector<T> result(std::size_t index) const {
    const auto values = output_at(index).as<T>();
    return {values.begin(), values.end()};
  }

 protected:
  struct State;
  [[nodiscard]] State& state() { return *state_; }

 private:
  OPSPLIT_SDK void add_input(DType dtype, std::vector<std::int64_t> shape,
                             std::span<const std::byte> bytes, bool constant);
  OPSPLIT_SDK void add_output(DType dtype, std::vector<std::int64_t> shape);
  [[nodiscard]] OPSPLIT_SDK Tensor output_at(std::size_t index) const;

  std::unique_ptr<State> state_;
};

}  // namespace opsplit::sdk
