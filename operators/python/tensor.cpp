#include "operators/python/tensor.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <string_view>

#include "operators/python/errors.hpp"

namespace opsplit::python {
namespace {

struct Format {
  DType dtype;
  const char* letter;  // of Python's module struct; null: it has none
};
constexpr std::array formats{
    Format{float16, "e"}, Format{bfloat16, nullptr}, Format{float32, "f"}, Format{float64, "d"},
    Format{int8, "b"},    Format{int16, "h"},        Format{int32, "i"},   Format{int64, "q"},
    Format{uint8, "B"},   Format{uint16, "H"},       Format{uint32, "I"},  Format{uint64, "Q"},
    Format{bool8, "?"},
};

const char* letter_of(DType dtype) {
  for (const Format& format : formats)
    if (format.dtype == dtype) return format.letter;
  return nullptr;
}

// Of elements that lie as they are: "l" is one of "i" and "q".
std::optional<DType> dtype_of(std::string_view letter, Py_ssize_t bytes) {
  if (!letter.empty() && (letter[0] == '<' || letter[0] == '=' || letter[0] == '@'))
    letter.remove_prefix(1);
  if (letter == "l") return bytes == 8 ? int64 : int32;
  if (letter == "L") return bytes == 8 ? uint64 : uint32;
  for (const Format& format : formats)
    if (format.letter != nullptr && letter == format.letter) return format.dtype;
  return std::nullopt;
}

int get_buffer(PyObject* self, Py_buffer* buffer, int flags) {
  return py::handle(self).cast<Tensor&>().fill(self, *buffer, flags);
}

// Hands out a tensor until whoever took it calls the deleter; the Python object lives as long.
template <class ManagedTensor>
py::capsule hand_out(const py::object& self, const dlpack::Tensor& tensor, bool writable) {
  auto managed = std::make_unique<ManagedTensor>();
  managed->tensor = tensor;
  managed->context = self.ptr();
  if constexpr (requires { managed->flags; })
    managed->flags = writable ? 0 : ManagedTensor::read_only;
  managed->deleter = [](ManagedTensor* taken) {
    const py::gil_scoped_acquire gil;
    Py_DECREF(static_cast<PyObject*>(taken->context));
    delete taken;
  };
  py::capsule capsule(managed.get(), ManagedTensor::name, [](PyObject* capsule_object) {
    if (PyCapsule_IsValid(capsule_object, ManagedTensor::name) == 0) return;  // it was taken
    auto* untaken =
        static_cast<ManagedTensor*>(PyCapsule_GetPointer(capsule_object, ManagedTensor::name));
    untaken->deleter(untaken);
  });
  self.inc_ref();
  (void)managed.release();
  return capsule;
}

constexpr const char* on_a_gpu =
    "this tensor lies on a GPU: take it by DLPack, as torch.from_dlpack() does";

// What DLPack's consumer says of its stream, for CUDA. Nothing: it sees to the order itself.
std::optional<ipc::DeviceStream> consumer_stream(const py::object& stream) {
  constexpr ipc::DeviceStream legacy_default{1};  // 2 is the thread's, the rest are addresses
  if (stream.is_none()) return legacy_default;
  if (PyLong_Check(stream.ptr()) == 0) throw py::type_error("a stream is an integer, or None");
  const long long number = PyLong_AsLongLong(stream.ptr());
  if (PyErr_Occurred() != nullptr) throw py::error_already_set();
  if (number == -1) return std::nullopt;
  if (number <= 0)
    throw py::value_error(
        "stream: 1 is CUDA's legacy default stream, 2 the thread's, -1 none; 0 may be either");
  return static_cast<ipc::DeviceStream>(number);
}

// Over the memory of anything with a buffer, for unit tests.
std::unique_ptr<Tensor> tensor_over(const py::object& array, bool writable) {
  auto buffer = std::shared_ptr<Py_buffer>(new Py_buffer(), [](Py_buffer* held) {
    const py::gil_scoped_acquire gil;
    PyBuffer_Release(held);
    delete held;
  });
  if (PyObject_GetBuffer(array.ptr(), buffer.get(),
                         PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0)) != 0)
    throw py::error_already_set();
  const auto dtype = dtype_of(buffer->format == nullptr ? "B" : buffer->format, buffer->itemsize);
  if (!dtype) throw py::type_error("elements of this type make no Tensor");
  const std::vector<std::int64_t> dims(buffer->shape, buffer->shape + buffer->ndim);
  const Shape shape = value_or_raise(Shape::from(dims));
  return std::make_unique<Tensor>(TensorType{*dtype, shape}, static_cast<std::byte*>(buffer->buf),
                                  writable, buffer);
}

py::tuple device_of(const Tensor& tensor) {
  return py::make_tuple(tensor.device().type, tensor.device().id);
}

}  // namespace

Tensor::Tensor(const TensorType& type, std::byte* data, bool writable,
               std::shared_ptr<const void> owner, std::shared_ptr<OperatorStream> stream)
    : type_(type),
      data_(data),
      bytes_(byte_size(type).value_or(0)),  // the plan has checked it
      writable_(writable),
      owner_(std::move(owner)),
      stream_(std::move(stream)) {
  std::int64_t stride = 1;
  for (std::size_t axis = type.shape.rank(); axis-- > 0;) {
    shape_[axis] = type.shape[axis];
    strides_[axis] = stride;
    byte_strides_[axis] = stride * static_cast<std::int64_t>(type.dtype.bytes());
    stride *= shape_[axis];
  }
}

std::unique_ptr<Tensor> Tensor::resize(const py::object& self,
                                       const std::vector<std::int64_t>& dims) {
  auto& tensor = self.cast<Tensor&>();
  if (!tensor.resizable_)
    raise({ErrorCode::invalid_input, "only outputs whose sizes vary can be resized"});
  const Shape shape = value_or_raise(Shape::from(dims));
  if (!fits(shape, tensor.type_.shape))
    raise({ErrorCode::invalid_input,
           fmt::format("output '{}' has become {}, there is room for {}: say larger `shapes`",
                       *tensor.resizable_, to_string(shape), to_string(tensor.type_.shape))});
  tensor.resized_ = shape;
  auto keep = std::shared_ptr<const void>(self.inc_ref().ptr(), [](const void* held) {
    const py::gil_scoped_acquire gil;
    Py_DECREF(static_cast<PyObject*>(const_cast<void*>(held)));
  });
  return std::make_unique<Tensor>(TensorType{tensor.type_.dtype, shape}, tensor.data_,
                                  tensor.writable_, std::move(keep), tensor.stream_);
}

py::object Tensor::numpy(const py::object& self) {
  auto& tensor = self.cast<Tensor&>();
  if (tensor.view_) return tensor.view_;
  if (tensor.stream_) throw py::buffer_error(on_a_gpu);
  py::object view = py::module_::import("numpy").attr("asarray")(self);
  if (tensor.keeps_view_) tensor.view_ = view;
  return view;
}

int Tensor::fill(PyObject* self, Py_buffer& buffer, int flags) {
  const char* letter = letter_of(type_.dtype);
  const bool writes = (flags & PyBUF_WRITABLE) == PyBUF_WRITABLE;
  if (stream_ || letter == nullptr || (writes && !writable_)) {
    PyErr_SetString(PyExc_BufferError, stream_ ? on_a_gpu
                                       : letter == nullptr
                                           ? "the buffer protocol has no bfloat16: use DLPack"
                                           : "this tensor is to be read only");
    buffer.obj = nullptr;
    return -1;
  }
  const bool shaped = (flags & PyBUF_ND) == PyBUF_ND;
  buffer = {};
  buffer.buf = data_;
  buffer.len = static_cast<Py_ssize_t>(bytes_);
  buffer.itemsize = static_cast<Py_ssize_t>(type_.dtype.bytes());
  buffer.readonly = writable_ ? 0 : 1;
  buffer.ndim = static_cast<int>(type_.shape.rank());
  if ((flags & PyBUF_FORMAT) == PyBUF_FORMAT) buffer.format = const_cast<char*>(letter);
  if (shaped) buffer.shape = shape_.data();
  if ((flags & PyBUF_STRIDES) == PyBUF_STRIDES) buffer.strides = byte_strides_.data();
  buffer.obj = self;
  Py_INCREF(self);
  return 0;
}

dlpack::Device Tensor::device() const {
  return stream_ ? dlpack::Device{dlpack::cuda, stream_->device()} : dlpack::Device{};
}

py::capsule Tensor::dlpack(const py::object& self, const py::object& stream, bool versioned) {
  if (stream_)
    if (const auto consumer = consumer_stream(stream))
      value_or_raise(stream_->hand_over(*consumer));
  const dlpack::Tensor tensor{.data = data_,
                              .device = device(),
                              .rank = static_cast<std::int32_t>(type_.shape.rank()),
                              .dtype = type_.dtype,
                              .shape = shape_.data(),
                              .strides = strides_.data()};
  return versioned ? hand_out<dlpack::ManagedVersioned>(self, tensor, writable_)
                   : hand_out<dlpack::Managed>(self, tensor, writable_);
}

py::object numpy_dtype(DType dtype) {
  const std::string name = to_string(dtype);
  if (letter_of(dtype) == nullptr) return py::str(name);
  return py::module_::import("numpy").attr("dtype")(name);
}

py::tuple tuple_of(const Shape& shape) {
  py::tuple result(shape.rank());
  for (std::size_t axis = 0; axis < shape.rank(); ++axis) result[axis] = shape[axis];
  return result;
}

void bind_tensor(py::module_& module) {
  const py::custom_type_setup with_buffer([](PyHeapTypeObject* heap_type) {
    heap_type->as_buffer.bf_getbuffer = get_buffer;
    heap_type->ht_type.tp_as_buffer = &heap_type->as_buffer;
  });
  py::class_<Tensor>(
      module, "Tensor", with_buffer, py::is_final(),
      "A tensor where it lies: row-major, in shared memory. Valid until the call that it was "
      "passed to returns.")
      .def(py::init(&tensor_over), py::arg("array"), py::kw_only(), py::arg("writable") = true,
           "Over the memory of a C-contiguous array, for unit tests.")
      .def_property_readonly("shape",
                             [](const Tensor& self) { return tuple_of(self.type().shape); })
      .def_property_readonly(
          "dtype", [](const Tensor& self) { return numpy_dtype(self.type().dtype); },
          "numpy.dtype; the string 'bfloat16' where NumPy has none.")
      .def_property_readonly(
          "data_ptr",
          [](const Tensor& self) { return reinterpret_cast<std::uintptr_t>(self.data()); },
          "The address of the first element, 64-byte aligned.")
      .def_property_readonly("nbytes", &Tensor::bytes)
      .def_property_readonly("writable", &Tensor::writable)
      .def("resize", &Tensor::resize, py::arg("shape"),
           "Of an output whose sizes follow from data: says what they are this time, none larger "
           "than its shape. The Tensor to write to instead.")
      .def(
          "numpy", [](const py::object& self) { return Tensor::numpy(self); },
          "The same memory as a numpy.ndarray; that of an input is read-only.")
      .def(
          "copy", [](const py::object& self) { return Tensor::numpy(self).attr("copy")(); },
          "A numpy.ndarray of its own, to be kept.")
      .def(
          "__array__",
          [](const py::object& self, const py::object& dtype, const py::object& copy) {
            py::object view = Tensor::numpy(self);
            if (!dtype.is_none() && !py::object(view.attr("dtype")).equal(dtype))
              return py::object(view.attr("astype")(dtype));
            return copy.is(py::bool_(true)) ? py::object(view.attr("copy")()) : view;
          },
          py::arg("dtype") = py::none(), py::arg("copy") = py::none())
      .def(
          "__dlpack__",
          [](const py::object& self, const py::object& stream, const py::object& max_version,
             const py::object& dl_device, const py::object& copy) {
            auto& tensor = self.cast<Tensor&>();
            if (copy.is(py::bool_(true)))
              throw py::buffer_error("a Tensor hands out its own memory: use copy()");
            if (!dl_device.is_none() && !dl_device.equal(device_of(tensor)))
              throw py::buffer_error("a Tensor is handed out where it lies (__dlpack_device__)");
            const bool versioned =
                !max_version.is_none() && max_version[py::int_(0)].cast<int>() >= 1;
            return tensor.dlpack(self, stream, versioned);
          },
          py::kw_only(), py::arg("stream") = py::none(), py::arg("max_version") = py::none(),
          py::arg("dl_device") = py::none(), py::arg("copy") = py::none())
      .def("__dlpack_device__", &device_of)
      .def("__repr__", [](const Tensor& self) {
        const dlpack::Device device = self.device();
        return fmt::format("<opsplit.Tensor {} at {}{}>", to_string(self.type()),
                           static_cast<const void*>(self.data()),
                           device.type == dlpack::cpu ? "" : fmt::format(" of GPU {}", device.id));
      });
}

}  // namespace opsplit::python
