// Elements picked, or put, where indices say: GatherElements, GatherND, ScatterElements, ScatterND, OneHot.
// Indices come with a request, and are checked one by one.
#include <cstring>
#include <vector>

#include "operators/kernels/elementwise.hpp"
#include "operators/kernels/movement.hpp"

namespace opsplit::operators::reference {
namespace {

std::size_t size_of(const TensorType& type) { return type.dtype.bytes(); }

// The index at `position` of a tensor of int64 or int32.
std::int64_t index_at(const TensorView& indices, std::int64_t position) {
  return indices.type.dtype == int64 ? indices.as<std::int64_t>()[position]
                                     : indices.as<std::int32_t>()[position];
}

Result<> check_index_type(const Call& call, const TensorView& indices) {
  if (indices.type.dtype == int64 || indices.type.dtype == int32) return {};
  return fail(ErrorCode::invalid_input, "{} with indices of {}", call.node.op_type,
              to_string(indices.type));
}

Result<std::int64_t> checked(const Call& call, std::int64_t index, std::int64_t size) {
  if (index >= -size && index < size) return index < 0 ? index + size : index;
  return fail(ErrorCode::invalid_input, "{} at {} along an axis of {}", call.node.op_type, index,
              size);
}

Result<> mismatch(const Call& call) {
  return fail(ErrorCode::invalid_input, "{} of {} by {} giving {}", call.node.op_type,
              to_string(call.inputs[0].type), to_string(call.inputs[1].type),
              to_string(call.outputs[0].type));
}

// Calls f(element of the tensor that is indexed, element of the indices) for each index.
template <class F>
Result<> along_axis(const Call& call, const Shape& data, const TensorView& indices, F f) {
  OPSPLIT_CHECK(check_index_type(call, indices));
  OPSPLIT_TRY(const std::size_t axis, read_axis(call.node, 0, data.rank()));
  if (indices.type.shape.rank() != data.rank()) return mismatch(call);
  for (std::size_t i = 0; i < data.rank(); ++i)
    if (i != axis && indices.type.shape[i] > data[i]) return mismatch(call);
  const Coordinates strides = strides_of(data);
  Result<> result;
  std::int64_t position = 0;
  for_each_index(indices.type.shape, [&](const Coordinates& at) {
    if (!result) return;
    const auto index = checked(call, index_at(indices, position), data[axis]);
    if (!index) {
      result = tl::unexpected(index.error());
      return;
    }
    Coordinates from = at;
    from[axis] = *index;
    f(offset_of(from, strides, data.rank()), position++);
  });
  return result;
}

// Where each slice that `indices` names begins in `data`, behind `batch` common axes; and how many
// elements it has.
struct Slices {
  std::vector<std::int64_t> first;
  std::int64_t elements = 1;
};

Result<Slices> slices_of(const Call& call, const Shape& data, const TensorView& indices,
                         std::size_t batch) {
  OPSPLIT_CHECK(check_index_type(call, indices));
  const Shape& shape = indices.type.shape;
  if (shape.rank() == 0 || batch >= shape.rank() || batch > data.rank())
    return tl::unexpected(mismatch(call).error());
  const std::int64_t depth = shape[shape.rank() - 1];
  if (depth < 0 || static_cast<std::size_t>(depth) > data.rank() - batch)
    return tl::unexpected(mismatch(call).error());
  std::int64_t batches = 1;
  for (std::size_t i = 0; i < batch; ++i) {
    if (shape[i] != data[i]) return tl::unexpected(mismatch(call).error());
    batches *= data[i];
  }
  const Coordinates strides = strides_of(data);
  Slices slices;
  for (std::size_t i = batch + static_cast<std::size_t>(depth); i < data.rank(); ++i)
    slices.elements *= data[i];
  std::int64_t count = 1;
  for (std::size_t i = 0; i + 1 < shape.rank(); ++i) count *= shape[i];
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t step = batch == 0 ? 0 : strides[batch - 1];
    std::int64_t first = i / (count / batches) * step;
    for (std::int64_t level = 0; level < depth; ++level) {
      const std::size_t axis = batch + static_cast<std::size_t>(level);
      OPSPLIT_TRY(const std::int64_t index,
                  checked(call, index_at(indices, i * depth + level), data[axis]));
      first += index * strides[axis];
    }
    slices.first.push_back(first);
  }
  return slices;
}

// What happens to an element that something is put on.
template <class T>
bool combine(std::string_view how, T& y, T x) {
  if (how == "none")
    y = x;
  else if (how == "add")
    y = add(y, x);
  else if (how == "mul")
    y = multiply(y, x);
  else if (how == "max")
    y = std::max(y, x);
  else if (how == "min")
    y = std::min(y, x);
  else
    return false;
  return true;
}

// put(to, from): updates' element or slice `from` on y's.
template <class Visit>
Result<> scatter(const Call& call, Visit visit) {
  const TensorView& data = call.inputs[0];
  const TensorView& updates = call.inputs[2];
  const MutableTensorView& y = call.outputs[0];
  if (data.type != y.type || updates.type.dtype != y.type.dtype) return mismatch(call);
  OPSPLIT_TRY(const std::uint64_t bytes, byte_size(data.type));
  std::memcpy(y.data, data.data, bytes);
  const std::string how = call.node.text("reduction", "none");
  const std::size_t size = size_of(y.type);
  if (how == "none")
    return visit([&](std::int64_t to, std::int64_t from) {
      std::memcpy(y.data + static_cast<std::size_t>(to) * size,
                  updates.data + static_cast<std::size_t>(from) * size, size);
    });
  bool known = true;
  Result<> result;
  graph::ops::dispatch(y.type.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    if constexpr (std::is_void_v<T> || std::is_same_v<T, bool>)
      known = false;
    else
      result = visit([&](std::int64_t to, std::int64_t from) {
        known = known && combine(how, y.as<T>()[to], updates.as<T>()[from]);
      });
  });
  if (!known) return not_supported(call);
  return result;
}

}  // namespace

Result<> gather_elements(const Call& call) {
  const TensorView& x = call.inputs[0];
  const MutableTensorView& y = call.outputs[0];
  if (x.type.dtype != y.type.dtype || y.type.shape != call.inputs[1].type.shape)
    return mismatch(call);
  const std::size_t size = size_of(x.type);
  return along_axis(call, x.type.shape, call.inputs[1], [&](std::int64_t from, std::int64_t to) {
    std::memcpy(y.data + static_cast<std::size_t>(to) * size,
                x.data + static_cast<std::size_t>(from) * size, size);
  });
}

Result<> scatter_elements(const Call& call) {
  if (call.inputs[1].type.shape != call.inputs[2].type.shape) return mismatch(call);
  return scatter(call, [&](auto put) {
    return along_axis(call, call.inputs[0].type.shape, call.inputs[1], put);
  });
}

Result<> gather_nd(const Call& call) {
  const TensorView& x = call.inputs[0];
  const MutableTensorView& y = call.outputs[0];
  const std::int64_t batch = call.node.integer("batch_dims", 0);
  if (batch < 0 || batch > static_cast<std::int64_t>(Shape::max_rank)) return mismatch(call);
  OPSPLIT_TRY(const Slices slices,
              slices_of(call, x.type.shape, call.inputs[1], static_cast<std::size_t>(batch)));
  if (x.type.dtype != y.type.dtype ||
      y.type.shape.elements() != static_cast<std::int64_t>(slices.first.size()) * slices.elements)
    return mismatch(call);
  const std::size_t size = size_of(x.type);
  const std::size_t bytes = static_cast<std::size_t>(slices.elements) * size;
  std::byte* to = y.data;
  for (const std::int64_t first : slices.first) {
    std::memcpy(to, x.data + static_cast<std::size_t>(first) * size, bytes);
    to += bytes;
  }
  return {};
}

Result<> scatter_nd(const Call& call) {
  OPSPLIT_TRY(const Slices slices, slices_of(call, call.inputs[0].type.shape, call.inputs[1], 0));
  if (call.inputs[2].type.shape.elements() !=
      static_cast<std::int64_t>(slices.first.size()) * slices.elements)
    return mismatch(call);
  return scatter(call, [&](auto put) -> Result<> {
    std::int64_t from = 0;
    for (const std::int64_t first : slices.first)
      for (std::int64_t i = 0; i < slices.elements; ++i) put(first + i, from++);
    return {};
  });
}

// Values[1] where the index says, values[0] elsewhere; an index out of range leaves its lane as it is.
Result<> one_hot(const Call& call) {
  const TensorView& indices = call.inputs[0];
  const TensorView& values = call.inputs[2];
  const MutableTensorView& y = call.outputs[0];
  OPSPLIT_TRY(const std::size_t axis, read_axis(call.node, -1, y.type.shape.rank()));
  if (values.type != TensorType{y.type.dtype, Shape{2}} ||
      y.type.shape.rank() != indices.type.shape.rank() + 1)
    return mismatch(call);
  const std::int64_t depth = y.type.shape[axis];
  std::vector<std::int64_t> wanted;
  const bool known = graph::ops::dispatch(indices.type.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    if constexpr (std::is_void_v<T> || std::is_same_v<T, bool>) {
      return false;
    } else {
      const std::int64_t count = *indices.type.shape.elements();
      for (std::int64_t i = 0; i < count; ++i) {
        const auto index = graph::ops::convert<std::int64_t>(indices.as<T>()[i]);
        wanted.push_back(index < 0 && index >= -depth ? index + depth : index);
      }
      return true;
    }
  });
  if (!known) return not_supported(call);
  Coordinates strides{};  // of the indices, by the output's axes
  std::int64_t stride = 1;
  for (std::size_t i = y.type.shape.rank(); i-- > 0;) {
    if (i == axis) continue;
    strides[i] = stride;
    stride *= y.type.shape[i];
  }
  if (stride != static_cast<std::int64_t>(wanted.size())) return mismatch(call);
  const std::size_t size = size_of(y.type);
  std::byte* to = y.data;
  for_each_index(y.type.shape, [&](const Coordinates& at) {
    const std::int64_t from = offset_of(at, strides, y.type.shape.rank());
    const bool hot = wanted[static_cast<std::size_t>(from)] == at[axis];
    std::memcpy(to, values.data + (hot ? size : 0), size);
    to += size;
  });
  return {};
}

}  // namespace opsplit::operators::reference
