#include "base/plan.hpp"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

namespace opsplit {
namespace {

using nlohmann::json;

constexpr int format_version = 4;

// -- Writing --------------------------------------------------------------------------------------

json index_or_null(std::int32_t index) {
  return index == PlannedTensor::none ? json(nullptr) : json(index);
}

json write(const PlannedTensor& tensor) {
  return {{"name", tensor.name},
          {"dtype", to_string(tensor.type.dtype)},
          {"shape", std::vector<std::int64_t>(tensor.type.shape.begin(), tensor.type.shape.end())},
          {"layout", to_string(tensor.layout)},
          {"offset", tensor.offset},
          {"bytes", tensor.bytes},
          {"gpu", index_or_null(tensor.gpu)},
          {"gpu_offset", tensor.gpu_offset},
          {"in_arena", tensor.in_arena},
          {"producer", index_or_null(tensor.producer)},
          {"readers", tensor.readers},
          {"view_of", index_or_null(tensor.view_of)},
          {"varies", tensor.varies}};
}

json write(const PlannedTask& task) {
  return {{"name", task.name},
          {"op", task.op},
          {"nodes", task.nodes},
          {"inputs", task.inputs},
          {"outputs", task.outputs},
          {"producers", task.producers},
          {"consumers", task.consumers},
          {"reads_client", task.reads_client},
          {"feeds_client", task.feeds_client},
          {"cost", task.cost}};
}

json write(const PlannedOperator& op) {
  return {{"name", op.name},
          {"part", op.part},
          {"tasks", op.tasks},
          {"cost", op.cost},
          {"gpu", index_or_null(op.gpu)}};
}

template <class T>
json write_all(const std::vector<T>& items) {
  json array = json::array();
  for (const T& item : items) array.push_back(write(item));
  return array;
}

// -- Reading --------------------------------------------------------------------------------------
// nlohmann's get<T>() throws on a wrong type and silently wraps numbers that do not fit, so every
// value is looked at before it is taken. read() fills `out` or says what it wanted instead.

Result<> wanted(std::string_view what, const json& found) {
  return fail(ErrorCode::invalid_input, "must be {}, not {}", what, found.type_name());
}

Result<> read(const json& value, std::string& out) {
  if (!value.is_string()) return wanted("a string", value);
  out = value.get_ref<const std::string&>();
  return {};
}

Result<> read(const json& value, bool& out) {
  if (!value.is_boolean()) return wanted("true or false", value);
  out = value.get<bool>();
  return {};
}

Result<> read(const json& value, double& out) {
  if (!value.is_number()) return wanted("a number", value);
  out = value.get<double>();
  return {};
}

// Parsed numbers >= 0 are unsigned, numbers put in by a program are as signed as its variables.
Result<> read(const json& value, std::uint64_t& out) {
  if (!value.is_number_integer() || (!value.is_number_unsigned() && value.get<std::int64_t>() < 0))
    return wanted("a number from 0 to 2^64 - 1", value);
  out = value.get<std::uint64_t>();
  return {};
}

Result<> read(const json& value, std::int64_t& out) {
  constexpr auto max = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (!value.is_number_integer() ||
      (value.is_number_unsigned() && value.get<std::uint64_t>() > max))
    return wanted("a 64-bit integer", value);
  out = value.get<std::int64_t>();
  return {};
}

// An index; null stands for none. Whether there is such a thing is validate()'s question.
Result<> read(const json& value, std::int32_t& out) {
  if (value.is_null()) {
    out = PlannedTensor::none;
    return {};
  }
  constexpr std::uint64_t max = std::numeric_limits<std::int32_t>::max();
  std::uint64_t index = 0;
  if (!read(value, index) || index > max) return wanted("an index or null", value);
  out = static_cast<std::int32_t>(index);
  return {};
}

Result<> read(const json& value, DType& out) {
  std::string name;
  OPSPLIT_CHECK(read(value, name));
  const auto dtype = dtype_from_string(name);
  if (!dtype) return fail(ErrorCode::invalid_input, "unknown element type '{}'", name);
  out = *dtype;
  return {};
}

Result<> read(const json& value, Layout& out) {
  std::string name;
  OPSPLIT_CHECK(read(value, name));
  const auto layout = layout_from_string(name);
  if (!layout) return fail(ErrorCode::invalid_input, "unknown layout '{}'", name);
  out = *layout;
  return {};
}

template <class T>
Result<> read(const json& value, std::vector<T>& out);
Result<> read(const json& value, PlannedTensor& out);
Result<> read(const json& value, PlannedTask& out);
Result<> read(const json& value, PlannedOperator& out);

template <class T>
Result<> read(const json& value, std::vector<T>& out) {
  if (!value.is_array()) return wanted("an array", value);
  out.clear();
  out.reserve(value.size());
  for (const json& element : value) {
    T item{};
    if (auto done = read(element, item); !done)
      return within(fmt::format("[{}]", out.size()), std::move(done).error());
    out.push_back(std::move(item));
  }
  return {};
}

Result<> read(const json& value, Shape& out) {
  std::vector<std::int64_t> dims;
  OPSPLIT_CHECK(read(value, dims));
  OPSPLIT_TRY(out, Shape::from(dims));
  return {};
}

// Reads the fields of an object in turn; keeps the first error. finish() refuses what it was not
// asked for: a key that this version does not know may change what the others mean.
class Fields {
 public:
  explicit Fields(const json& value) : object_(value) {
    if (!value.is_object()) result_ = wanted("an object", value);
  }

  template <class T>
  Fields& get(const char* key, T& out) {
    if (!result_) return *this;
    const auto found = object_.find(key);
    if (found == object_.end()) {
      result_ = fail(ErrorCode::invalid_input, "has no '{}'", key);
    } else if (auto done = read(*found, out); !done) {
      result_ = within(key, std::move(done).error());
    }
    ++known_;
    return *this;
  }

  Result<> finish() {
    if (result_ && object_.size() != known_)
      result_ = fail(ErrorCode::invalid_input, "has {} keys, {} of them unknown", object_.size(),
                     object_.size() - known_);
    return std::move(result_);
  }

 private:
  const json& object_;
  std::size_t known_ = 0;
  Result<> result_;
};

Result<> read(const json& value, PlannedTensor& out) {
  return Fields(value)
      .get("name", out.name)
      .get("dtype", out.type.dtype)
      .get("shape", out.type.shape)
      .get("layout", out.layout)
      .get("offset", out.offset)
      .get("bytes", out.bytes)
      .get("gpu", out.gpu)
      .get("gpu_offset", out.gpu_offset)
      .get("in_arena", out.in_arena)
      .get("producer", out.producer)
      .get("readers", out.readers)
      .get("view_of", out.view_of)
      .get("varies", out.varies)
      .finish();
}

Result<> read(const json& value, PlannedTask& out) {
  return Fields(value)
      .get("name", out.name)
      .get("op", out.op)
      .get("nodes", out.nodes)
      .get("inputs", out.inputs)
      .get("outputs", out.outputs)
      .get("producers", out.producers)
      .get("consumers", out.consumers)
      .get("reads_client", out.reads_client)
      .get("feeds_client", out.feeds_client)
      .get("cost", out.cost)
      .finish();
}

Result<> read(const json& value, PlannedOperator& out) {
  return Fields(value)
      .get("name", out.name)
      .get("part", out.part)
      .get("tasks", out.tasks)
      .get("cost", out.cost)
      .get("gpu", out.gpu)
      .finish();
}

Result<> read(const json& value, Plan& out) {
  std::uint64_t version = 0;
  OPSPLIT_CHECK(Fields(value)
                    .get("opsplit_plan", version)
                    .get("model", out.model)
                    .get("split", out.split)
                    .get("operators", out.operators)
                    .get("tasks", out.tasks)
                    .get("tensors", out.tensors)
                    .get("inputs", out.inputs)
                    .get("outputs", out.outputs)
                    .get("slot_bytes", out.slot_bytes)
                    .get("workspace_bytes", out.workspace_bytes)
                    .get("gpu_slot_bytes", out.gpu_slot_bytes)
                    .finish());
  if (version != format_version)
    return fail(ErrorCode::invalid_input, "has version {}, this opsplit reads version {}", version,
                format_version);
  return {};
}

}  // namespace

json to_json(const Plan& plan) {
  return {{"opsplit_plan", format_version},
          {"model", plan.model},
          {"split", plan.split},
          {"operators", write_all(plan.operators)},
          {"tasks", write_all(plan.tasks)},
          {"tensors", write_all(plan.tensors)},
          {"inputs", plan.inputs},
          {"outputs", plan.outputs},
          {"slot_bytes", plan.slot_bytes},
          {"workspace_bytes", plan.workspace_bytes},
          {"gpu_slot_bytes", plan.gpu_slot_bytes}};
}

Result<Plan> plan_from_json(const json& json) {
  Plan plan;
  if (auto done = read(json, plan); !done) return within("plan", std::move(done).error());
  OPSPLIT_CHECK(validate(plan));
  return plan;
}

std::vector<Residence> residences(const Plan& plan) {
  const auto index = [](std::int32_t id) { return static_cast<std::size_t>(id); };
  std::vector<bool> host(
      plan.tensors.size());  // by root: somebody beside the producer's GPU uses it
  std::vector<bool> device(plan.tensors.size());  // by root: a task on the producer's GPU reads it
  for (std::size_t id = 0; id < plan.tensors.size(); ++id) {
    const PlannedTensor& tensor = plan.tensors[id];
    const std::int32_t gpu =
        tensor.producer == PlannedTensor::none ? PlannedTensor::none : plan.gpu_of(tensor.producer);
    const std::size_t root = index(plan.root(static_cast<std::int32_t>(id)));
    if (gpu == PlannedTensor::none) host[root] = true;
    for (const std::int32_t reader : tensor.readers)
      (gpu != PlannedTensor::none && plan.gpu_of(reader) == gpu ? device : host)[root] = true;
  }
  for (const std::int32_t output : plan.outputs) host[index(plan.root(output))] = true;
  std::vector<Residence> result;
  for (std::size_t id = 0; id < plan.tensors.size(); ++id) {
    const std::size_t root = index(plan.root(static_cast<std::int32_t>(id)));
    const std::int32_t producer = plan.tensors[root].producer;
    result.push_back(
        {device[root] ? plan.gpu_of(producer) : PlannedTensor::none, host[root] || !device[root]});
  }
  return result;
}

std::vector<DeviceCopy> device_copies(const Plan& plan) {
  std::vector<DeviceCopy> copies;
  for (std::int32_t id = 0; id < static_cast<std::int32_t>(plan.tasks.size()); ++id) {
    const std::int32_t gpu = plan.gpu_of(id);
    if (gpu == PlannedTensor::none) continue;
    const auto add = [&](std::int32_t tensor, bool to_device) {
      const TensorType& type = plan.tensors[static_cast<std::size_t>(tensor)].type;
      copies.push_back(
          {id, tensor, to_device, byte_size(type).value()});  // a valid plan's have a size
    };
    const PlannedTask& task = plan.tasks[static_cast<std::size_t>(id)];
    for (const std::int32_t tensor : task.inputs)
      if (plan.tensors[static_cast<std::size_t>(tensor)].gpu != gpu) add(tensor, true);
    for (const std::int32_t tensor : task.outputs)
      if (plan.tensors[static_cast<std::size_t>(tensor)].in_arena) add(tensor, false);
  }
  return copies;
}

// FNV-1a, 64 bits, over the compact JSON text, whose keys are sorted: the same plan has the same
// digest on every machine and in every build. It guards against mix-ups, not against forgery.
std::uint64_t digest(const Plan& plan) {
  std::uint64_t hash = 0xcbf29ce484222325;
  // validate() has refused text that is not UTF-8; `replace` only keeps dump() from throwing.
  for (const char c : to_json(plan).dump(-1, ' ', false, json::error_handler_t::replace)) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3;
  }
  return hash;
}

}  // namespace opsplit
