// opsplit.Tensor: a tensor where it lies, as Python sees it. NumPy, PyTorch and whoever else takes DLPack
// or the buffer protocol use the very same bytes. One on a GPU is taken by DLPack only.
#pragma once

#include <pybind11/pybind11.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/tensor_type.hpp"
#include "operators/python/dlpack.hpp"
#include "operators/python/operator_stream.hpp"

namespace opsplit::python {

namespace py = pybind11;

class Tensor {
 public:
  // `owner` keeps the bytes where they are; null: the caller does. With a stream they are a GPU's.
  Tensor(const TensorType& type, std::byte* data, bool writable,
         std::shared_ptr<const void> owner = nullptr,
         std::shared_ptr<OperatorStream> stream = nullptr);
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;
  ~Tensor() = default;

  [[nodiscard]] const TensorType& type() const { return type_; }
  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  [[nodiscard]] bool writable() const { return writable_; }
  [[nodiscard]] dlpack::Device device() const;

  // For tensors that come back often: numpy() is made once. It and the tensor then hold each other until
  // drop_view().
  void keep_view() { keeps_view_ = true; }
  void drop_view() { view_ = {}; }
  // References to `self`, this tensor, and to its view, beyond those that we hold: somebody keeps it.
  // `own` are our references to the tensor.
  [[nodiscard]] bool is_kept(PyObject* self, Py_ssize_t own) const {
    return Py_REFCNT(self) > own + (view_ ? 1 : 0) || (view_ && view_.ref_count() > 1);
  }

  // For outputs whose sizes follow from data: this tensor has the largest ones. The name is for errors.
  void make_resizable(std::string name) { resizable_ = std::move(name); }
  void forget_size() { resized_.reset(); }
  [[nodiscard]] const std::optional<Shape>& resized() const { return resized_; }
  // A tensor of these sizes in the first bytes of `self`, which it keeps alive. Raises InvalidInput.
  static std::unique_ptr<Tensor> resize(const py::object& self,
                                        const std::vector<std::int64_t>& dims);

  static py::object numpy(const py::object& self);
  int fill(PyObject* self, Py_buffer& buffer, int flags);
  // `stream` is the consumer's, by DLPack's numbers for a GPU.
  py::capsule dlpack(const py::object& self, const py::object& stream, bool versioned);

 private:
  TensorType type_;
  std::byte* data_;
  std::uint64_t bytes_;
  bool writable_;
  bool keeps_view_ = false;
  std::optional<std::string> resizable_;
  std::optional<Shape> resized_;
  std::array<std::int64_t, Shape::max_rank> shape_{}, strides_{}, byte_strides_{};
  std::shared_ptr<const void> owner_;
  std::shared_ptr<OperatorStream> stream_;
  py::object view_;  // numpy.ndarray
};

// numpy.dtype of that name; the name itself where NumPy has none (bfloat16).
py::object numpy_dtype(DType dtype);
py::tuple tuple_of(const Shape& shape);

void bind_tensor(py::module_& module);

}  // namespace opsplit::python
