// Python functions as kernels: of one node, or of a whole task.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "operators/kernel.hpp"
#include "operators/python/tensor.hpp"

namespace opsplit::python {

// What Python is to be called with. Tensors and argument lists are made once for each set of addresses:
// the places of a slot never move.
class PythonKernel final : public operators::Kernel {
 public:
  struct Operand {
    TensorType type;
    bool present = true;  // else None
    bool varies = false;
    std::string name = {};  // of one that varies
  };
  enum class Style {
    node,  // function(*inputs, out=output or tuple of outputs, **keywords)
    task   // function(tuple of inputs, tuple of outputs)
  };
  // The function returns None, or how many bytes it has copied; it must resize() outputs that vary. With the
  // GIL. With a stream its tensors are a GPU's.
  PythonKernel(py::object function, Style style, const py::dict& keywords,
               std::vector<Operand> inputs, std::vector<Operand> outputs,
               std::shared_ptr<OperatorStream> stream = nullptr);
  ~PythonKernel() override;  // anywhere

  // Without the GIL, which it takes. An exception is an error with its type and text; so is a tensor, or
  // a view of one, that is still referred to after the call.
  Result<> run(std::span<const operators::TensorView> inputs,
               std::span<const operators::MutableTensorView> outputs) override;
  [[nodiscard]] std::uint64_t bytes_copied() const override { return bytes_copied_; }
  [[nodiscard]] std::optional<Shape> output_shape(std::size_t output) const override {
    return output_shapes_.at(output);
  }

 private:
  struct Call;
  struct Python;  // all that is Python's

  Call& call_for(std::span<const operators::TensorView> inputs,
                 std::span<const operators::MutableTensorView> outputs);
  void fill(Call& call, std::span<const operators::TensorView> inputs,
            std::span<const operators::MutableTensorView> outputs) const;
  Result<> call(Call& call);
  Result<> check_kept(Call& call);
  void report(const py::error_already_set& error, const std::string& text);

  Style style_;
  std::vector<Operand> inputs_, outputs_;
  std::shared_ptr<OperatorStream> stream_;
  std::vector<std::optional<Shape>> output_shapes_;  // of the last run
  std::unique_ptr<Python> python_;
  std::vector<std::unique_ptr<Call>> calls_;
  std::string last_reported_;
  std::uint64_t bytes_copied_ = 0;
};

}  // namespace opsplit::python
