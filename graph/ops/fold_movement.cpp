#include <algorithm>
#include <cstring>

#include "graph/ops/fold.hpp"
#include "graph/ops/slice.hpp"
#include "graph/ops/walk.hpp"

namespace opsplit::graph::ops {
namespace {

template <class T>
Result<Constants> from_numbers(const TensorType& type, std::span<const T> numbers) {
  OPSPLIT_TRY(auto made, Constant::allocate(type));
  std::copy(numbers.begin(), numbers.end(), reinterpret_cast<T*>(made.second));
  return Constants{made.first};
}

// output[i] = input[first + i * strides], element by element.
Result<Constant> gather_strided(const Constant& input, std::int64_t first, const Dims& strides,
                                const TensorType& output) {
  OPSPLIT_TRY(auto made, Constant::allocate(output));
  const auto size = static_cast<std::int64_t>(output.dtype.bytes());
  std::byte* out = made.second;
  walk<1>(output.shape, {strides}, [&](std::int64_t offset) {
    std::memcpy(out, input.bytes.data() + (first + offset) * size, static_cast<std::size_t>(size));
    out += size;
  });
  return made.first;
}

std::uint64_t bytes_from(const Constant& constant, std::size_t axis) {
  return static_cast<std::uint64_t>(product(constant.type.shape.dims().subspan(axis))) *
         constant.type.dtype.bytes();
}

}  // namespace

Result<Constants> fold_view(const Site& site, const Types& outputs) {
  const Constant& input = *site.constant(0);
  return Constants{{outputs[0], input.bytes, input.owner}};
}

Result<Constants> fold_shape(const Site& site, const Types& outputs) {
  const auto rank = static_cast<std::int64_t>(site.rank(0));
  std::int64_t start = site.node().integer("start", 0);
  start = std::clamp<std::int64_t>(start < 0 ? start + rank : start, 0, rank);
  return from_numbers(outputs[0],
                      site.shape(0).dims().subspan(static_cast<std::size_t>(start),
                                                   static_cast<std::size_t>(outputs[0].shape[0])));
}

Result<Constants> fold_size(const Site& site, const Types& outputs) {
  OPSPLIT_TRY(const std::int64_t elements, site.shape(0).elements());
  return from_numbers<std::int64_t>(outputs[0], {&elements, 1});
}

Result<Constants> fold_where(const Site& site, const Types& outputs) {
  OPSPLIT_TRY(auto made, Constant::allocate(outputs[0]));
  const auto size = static_cast<std::int64_t>(outputs[0].dtype.bytes());
  std::byte* out = made.second;
  const auto strides = [&](std::size_t input) {
    return broadcast_strides(site.shape(input), outputs[0].shape);
  };
  walk<3>(outputs[0].shape, {strides(0), strides(1), strides(2)},
          [&](std::int64_t condition, std::int64_t first, std::int64_t second) {
            const bool holds =
                site.constant(0)->bytes[static_cast<std::size_t>(condition)] != std::byte{0};
            const auto& from = site.constant(holds ? 1 : 2)->bytes;
            std::memcpy(out, from.data() + (holds ? first : second) * size,
                        static_cast<std::size_t>(size));
            out += size;
          });
  return Constants{made.first};
}

Result<Constants> fold_constant(const Site& site, const Types& outputs) {
  const Attribute& value = site.node().attributes.begin()->second;
  if (const auto* tensor = std::get_if<Constant>(&value)) return Constants{*tensor};
  if (const auto* number = std::get_if<std::int64_t>(&value))
    return from_numbers<std::int64_t>(outputs[0], {number, 1});
  if (const auto* number = std::get_if<float>(&value))
    return from_numbers<float>(outputs[0], {number, 1});
  if (const auto* list = std::get_if<std::vector<std::int64_t>>(&value))
    return from_numbers<std::int64_t>(outputs[0], *list);
  return from_numbers<float>(outputs[0], std::get<std::vector<float>>(value));
}

Result<Constants> fold_constant_of_shape(const Site& site, const Types& outputs) {
  OPSPLIT_TRY(auto made, Constant::allocate(outputs[0]));
  const auto value = site.node().attributes.find("value");
  if (value != site.node().attributes.end()) {
    const auto element = std::get<Constant>(value->second).bytes;
    for (std::size_t at = 0; at < made.first.bytes.size(); at += element.size())
      std::memcpy(made.second + at, element.data(), element.size());
  }
  return Constants{made.first};
}

Result<Constants> fold_transpose(const Site& site, const Types& outputs) {
  const Dims own = strides_of(site.shape(0));
  const Dims perm = site.node().integers("perm");
  Dims strides(own.rbegin(), own.rend());  // without perm the axes are reversed
  for (std::size_t i = 0; i < perm.size(); ++i) strides[i] = own[static_cast<std::size_t>(perm[i])];
  OPSPLIT_TRY(Constant result, gather_strided(*site.constant(0), 0, strides, outputs[0]));
  return Constants{result};
}

Result<Constants> fold_slice(const Site& site, const Types& outputs) {
  OPSPLIT_TRY(const auto axes, slice_axes(site));
  Dims strides = strides_of(site.shape(0));
  std::int64_t first = 0;
  for (std::size_t axis = 0; axis < axes.size(); ++axis) {
    if (axes[axis].size == 0) continue;  // its start may be out of range; nothing is read
    first += axes[axis].start * strides[axis];
    strides[axis] *= axes[axis].size == 1 ? 0 : axes[axis].step;
  }
  OPSPLIT_TRY(Constant result, gather_strided(*site.constant(0), first, strides, outputs[0]));
  return Constants{result};
}

Result<Constants> fold_split(const Site& site, const Types& outputs) {
  OPSPLIT_TRY(const std::size_t axis, normal_axis(site.node().integer("axis", 0), site.rank(0)));
  const Dims strides = strides_of(site.shape(0));
  std::int64_t first = 0;
  Constants results;
  for (const TensorType& output : outputs) {
    OPSPLIT_TRY(Constant part, gather_strided(*site.constant(0), first, strides, output));
    results.push_back(std::move(part));
    first += output.shape[axis] * strides[axis];
  }
  return results;
}

Result<Constants> fold_concat(const Site& site, const Types& outputs) {
  OPSPLIT_TRY(const std::size_t axis, normal_axis(site.node().integer("axis", 0), site.rank(0)));
  OPSPLIT_TRY(auto made, Constant::allocate(outputs[0]));
  std::byte* out = made.second;
  const std::byte* end = out + made.first.bytes.size();
  for (std::int64_t row = 0; out != end; ++row)
    for (std::size_t i = 0; i < site.inputs(); ++i) {
      const Constant& input = *site.constant(i);
      const std::uint64_t bytes = bytes_from(input, axis);
      std::memcpy(out, input.bytes.data() + static_cast<std::uint64_t>(row) * bytes, bytes);
      out += bytes;
    }
  return Constants{made.first};
}

Result<Constants> fold_gather(const Site& site, const Types& outputs) {
  OPSPLIT_TRY(const std::size_t axis, normal_axis(site.node().integer("axis", 0), site.rank(0)));
  const Constant& data = *site.constant(0);
  const Constant& indices = *site.constant(1);
  const std::int64_t dim = data.type.shape[axis];
  Dims picks;
  if (indices.type.dtype == int64)
    picks.assign(indices.as<std::int64_t>().begin(), indices.as<std::int64_t>().end());
  else
    picks.assign(indices.as<std::int32_t>().begin(), indices.as<std::int32_t>().end());
  for (std::int64_t& pick : picks) {
    if (pick < -dim || pick >= dim)
      return fail(ErrorCode::invalid_input, "index {} is out of range for {} along axis {}", pick,
                  to_string(data.type.shape), axis);
    if (pick < 0) pick += dim;
  }
  OPSPLIT_TRY(auto made, Constant::allocate(outputs[0]));
  std::byte* out = made.second;
  const std::byte* end = out + made.first.bytes.size();
  const std::uint64_t row_bytes = bytes_from(data, axis);
  const std::uint64_t bytes = bytes_from(data, axis + 1);
  for (const std::byte* row = data.bytes.data(); out != end; row += row_bytes)
    for (const std::int64_t pick : picks) {
      std::memcpy(out, row + static_cast<std::uint64_t>(pick) * bytes, bytes);
      out += bytes;
    }
  return Constants{made.first};
}

}  // namespace opsplit::graph::ops
