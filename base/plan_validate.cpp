// validate(): what the plan says twice is worked out from one side and compared with the other, so
// that whoever holds a valid plan may index with anything in it and never look again.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "base/plan.hpp"

namespace opsplit {
namespace {

using Indices = std::vector<std::int32_t>;

// Far above any real model; they bound the time and memory that a hostile plan can cost.
constexpr std::size_t max_items = 16384;                          // tasks; tensors
constexpr std::uint64_t max_slot_bytes = std::uint64_t{1} << 40;  // depth x this fits into 64 bits

template <class... Args>
tl::unexpected<Error> bad(fmt::format_string<Args...> format, Args&&... args) {
  return within("plan",
                Error{ErrorCode::invalid_input, fmt::format(format, std::forward<Args>(args)...)});
}

template <class T>
const T& at(const std::vector<T>& items, std::int32_t index) {
  return items[static_cast<std::size_t>(index)];
}

template <class T>
T& at(std::vector<T>& items, std::int32_t index) {
  return items[static_cast<std::size_t>(index)];
}

template <class T>
bool in_range(const std::vector<T>& items, std::int32_t index) {
  return index >= 0 && static_cast<std::size_t>(index) < items.size();
}

std::int32_t count(std::size_t size) { return static_cast<std::int32_t>(size); }

// Printable UTF-8: names end up in JSON, on terminals and in file names.
bool is_clean(const std::string& text) {
  const auto is_control = [](unsigned char c) { return c < 0x20 || c == 0x7f; };
  if (std::any_of(text.begin(), text.end(), is_control)) return false;
  try {
    (void)nlohmann::json(text).dump();
    return true;
  } catch (const nlohmann::json::exception&) {
    return false;
  }
}

bool is_operator_name(std::string_view name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
}

bool is_file_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
         is_clean(name);
}

bool is_cost(double cost) { return std::isfinite(cost) && cost >= 0; }

// Checks one plan; each step relies on those before it.
class Checker {
 public:
  explicit Checker(const Plan& plan) : plan_(plan) {}

  Result<> run() {
    OPSPLIT_CHECK(sizes());
    OPSPLIT_CHECK(names());
    OPSPLIT_CHECK(places());
    OPSPLIT_CHECK(edges());
    OPSPLIT_CHECK(client_edges());
    OPSPLIT_CHECK(tasks());
    OPSPLIT_CHECK(varying());
    OPSPLIT_CHECK(residence());
    OPSPLIT_CHECK(workspace());
    OPSPLIT_CHECK(reuse(arena_use()));
    for (std::int32_t gpu = 0; gpu < count(plan_.gpu_slot_bytes.size()); ++gpu)
      OPSPLIT_CHECK(reuse(gpu_use(gpu)));
    return {};
  }

 private:
  Result<> sizes() {
    if (plan_.tasks.empty()) return bad("has no tasks: there is nothing to run");
    if (plan_.tasks.size() > max_items || plan_.tensors.size() > max_items)
      return bad("has {} tasks and {} tensors, at most {} of each are supported",
                 plan_.tasks.size(), plan_.tensors.size(), max_items);
    if (plan_.slot_bytes % place_alignment != 0 || plan_.slot_bytes > max_slot_bytes)
      return bad("slot_bytes is {}: must be a multiple of {}, at most {}", plan_.slot_bytes,
                 place_alignment, max_slot_bytes);
    if (plan_.workspace_bytes % place_alignment != 0 || plan_.workspace_bytes > max_slot_bytes)
      return bad("workspace_bytes is {}: must be a multiple of {}, at most {}",
                 plan_.workspace_bytes, place_alignment, max_slot_bytes);
    if (plan_.gpu_slot_bytes.size() > std::size_t{max_gpus})
      return bad("names {} GPUs, at most {} are supported", plan_.gpu_slot_bytes.size(), max_gpus);
    for (const std::uint64_t bytes : plan_.gpu_slot_bytes)
      if (bytes == 0 || bytes % gpu_alignment != 0 || bytes > max_slot_bytes)
        return bad("gpu_slot_bytes holds {}: must be a multiple of {}, at most {}", bytes,
                   gpu_alignment, max_slot_bytes);
    for (const PlannedOperator& op : plan_.operators)
      if (op.gpu != PlannedTensor::none && !in_range(plan_.gpu_slot_bytes, op.gpu))
        return bad("operator '{}': GPU {}, there are {}", op.name, op.gpu,
                   plan_.gpu_slot_bytes.size());
    return {};
  }

  Result<> names() {
    if (!is_clean(plan_.model) || !is_clean(plan_.split))
      return bad("the name of the model or split holds bytes that are not printable UTF-8");
    std::set<std::string_view> operators, parts, tasks, nodes, tensors;
    for (const PlannedOperator& op : plan_.operators) {
      if (!is_operator_name(op.name))
        return bad("an operator's name is not 1 to 64 of a-z, 0-9, '_' and '-'");
      if (!operators.insert(op.name).second) return bad("two operators '{}'", op.name);
      if (!is_file_name(op.part))
        return bad("operator '{}': its part is not a plain file name", op.name);
      if (!parts.insert(op.part).second)
        return bad("operator '{}': part '{}' belongs to another as well", op.name, op.part);
      if (!is_cost(op.cost)) return bad("operator '{}': its cost is not a number >= 0", op.name);
    }
    for (const PlannedTask& task : plan_.tasks) {
      if (task.name.empty() || !is_clean(task.name))
        return bad("a task's name is empty or not printable UTF-8");
      if (!tasks.insert(task.name).second) return bad("two tasks '{}'", task.name);
      if (task.nodes.empty()) return bad("task '{}' has no nodes", task.name);
      for (const std::string& node : task.nodes) {
        if (node.empty() || !is_clean(node))
          return bad("task '{}': a node's name is empty or not printable UTF-8", task.name);
        if (!nodes.insert(node).second) return bad("node '{}' is run twice", node);
      }
      if (!is_cost(task.cost)) return bad("task '{}': its cost is not a number >= 0", task.name);
    }
    for (const PlannedTensor& tensor : plan_.tensors) {
      if (tensor.name.empty() || !is_clean(tensor.name))
        return bad("a tensor's name is empty or not printable UTF-8");
      if (!tensors.insert(tensor.name).second) return bad("two tensors '{}'", tensor.name);
    }
    return {};
  }

  Result<> places() {
    for (const PlannedTensor& tensor : plan_.tensors) {
      if (dtype_from_string(to_string(tensor.type.dtype)) != tensor.type.dtype)
        return bad("tensor '{}': unknown element type {}", tensor.name,
                   to_string(tensor.type.dtype));
      if (static_cast<std::uint8_t>(tensor.layout) >= layout_count)
        return bad("tensor '{}': unknown layout {}", tensor.name, static_cast<int>(tensor.layout));
      const auto bytes = byte_size(tensor.type, tensor.layout);
      if (!bytes) return bad("tensor '{}': {}", tensor.name, bytes.error().message);
      OPSPLIT_CHECK(gpu_place(tensor));
      if (!tensor.in_arena && (tensor.bytes != 0 || tensor.offset != 0))
        return bad("tensor '{}': does not lie in the arena, but has a place there", tensor.name);
      if (tensor.in_arena && *bytes > tensor.bytes)
        return bad("tensor '{}': {} as {} takes {} bytes, its place has {}", tensor.name,
                   to_string(tensor.type), to_string(tensor.layout), *bytes, tensor.bytes);
      if (tensor.offset % place_alignment != 0)
        return bad("tensor '{}': offset {} is not a multiple of {}", tensor.name, tensor.offset,
                   place_alignment);
      if (tensor.bytes > plan_.slot_bytes || tensor.offset > plan_.slot_bytes - tensor.bytes)
        return bad("tensor '{}': {} bytes at {} lie outside the slot's {}", tensor.name,
                   tensor.bytes, tensor.offset, plan_.slot_bytes);
      OPSPLIT_CHECK(view(tensor));
    }
    return {};
  }

  Result<> gpu_place(const PlannedTensor& tensor) {
    if (tensor.gpu == PlannedTensor::none) {
      if (tensor.gpu_offset == 0) return {};
      return bad("tensor '{}': has an offset on no GPU", tensor.name);
    }
    if (!in_range(plan_.gpu_slot_bytes, tensor.gpu))
      return bad("tensor '{}': GPU {}, there are {}", tensor.name, tensor.gpu,
                 plan_.gpu_slot_bytes.size());
    const std::uint64_t slot = at(plan_.gpu_slot_bytes, tensor.gpu);
    const std::uint64_t bytes = byte_size(tensor.type).value_or(0);  // has one: places() knows
    if (tensor.layout != Layout::row_major)
      return bad("tensor '{}': what lies on a GPU must be row_major", tensor.name);
    if (tensor.gpu_offset % gpu_alignment != 0 || bytes > slot || tensor.gpu_offset > slot - bytes)
      return bad("tensor '{}': {} bytes at {} on GPU {} lie outside the slot's {}, or not aligned",
                 tensor.name, bytes, tensor.gpu_offset, tensor.gpu, slot);
    return {};
  }

  Result<> view(const PlannedTensor& tensor) {
    if (tensor.view_of == PlannedTensor::none) return {};
    if (!in_range(plan_.tensors, tensor.view_of))
      return bad("tensor '{}': view of tensor {}, there are {}", tensor.name, tensor.view_of,
                 plan_.tensors.size());
    const PlannedTensor& root = at(plan_.tensors, tensor.view_of);
    if (root.view_of != PlannedTensor::none)
      return bad("tensor '{}': view of '{}', which is itself a view", tensor.name, root.name);
    if (tensor.layout != Layout::row_major || root.layout != Layout::row_major)
      return bad("tensor '{}': a view and what it is a view of must be row_major", tensor.name);
    if (tensor.offset != root.offset || tensor.bytes != root.bytes ||
        tensor.producer != root.producer || tensor.gpu != root.gpu ||
        tensor.gpu_offset != root.gpu_offset || tensor.in_arena != root.in_arena)
      return bad("tensor '{}': has another place or producer than '{}', of which it is a view",
                 tensor.name, root.name);
    if (tensor.type.dtype != root.type.dtype ||
        tensor.type.shape.elements().value_or(-1) != root.type.shape.elements().value_or(-2))
      return bad("tensor '{}': {} cannot be a view of '{}', {}", tensor.name,
                 to_string(tensor.type), root.name, to_string(root.type));
    return {};
  }

  // The tasks' own lists are taken as the truth about who writes and reads what; from here on
  // plan_.root() is safe.
  Result<> edges() {
    Indices writer(plan_.tensors.size(), PlannedTensor::none);
    std::vector<Indices> readers(plan_.tensors.size());
    for (std::int32_t id = 0; id < count(plan_.tasks.size()); ++id) {
      const PlannedTask& task = at(plan_.tasks, id);
      for (const std::int32_t tensor : task.inputs) {
        if (!in_range(plan_.tensors, tensor))
          return bad("task '{}': reads tensor {}, there are {}", task.name, tensor,
                     plan_.tensors.size());
        Indices& known = at(readers, tensor);
        if (!known.empty() && known.back() == id)
          return bad("task '{}': lists input '{}' twice", task.name,
                     at(plan_.tensors, tensor).name);
        known.push_back(id);
      }
      if (task.outputs.empty()) return bad("task '{}' writes nothing", task.name);
      for (const std::int32_t tensor : task.outputs) {
        if (!in_range(plan_.tensors, tensor))
          return bad("task '{}': writes tensor {}, there are {}", task.name, tensor,
                     plan_.tensors.size());
        if (at(writer, tensor) != PlannedTensor::none)
          return bad("tensor '{}' is written twice", at(plan_.tensors, tensor).name);
        at(writer, tensor) = id;
      }
    }
    for (std::int32_t id = 0; id < count(plan_.tensors.size()); ++id) {
      const PlannedTensor& tensor = at(plan_.tensors, id);
      const bool is_view = tensor.view_of != PlannedTensor::none;
      if (is_view && at(writer, id) != PlannedTensor::none)
        return bad("task '{}': writes '{}', which is a view", at(plan_.tasks, at(writer, id)).name,
                   tensor.name);
      if (tensor.producer != at(writer, plan_.root(id)))
        return bad("tensor '{}': its producer is not the task that writes it", tensor.name);
      if (tensor.readers != at(readers, id))
        return bad("tensor '{}': its readers are not the tasks that read it", tensor.name);
    }
    return {};
  }

  Result<> client_edges() {
    std::vector<bool> seen(plan_.tensors.size());
    std::size_t written_by_client = 0;
    for (const std::int32_t id : plan_.inputs) {
      if (!in_range(plan_.tensors, id))
        return bad("input {}: there are {} tensors", id, plan_.tensors.size());
      const PlannedTensor& tensor = at(plan_.tensors, id);
      if (tensor.producer != PlannedTensor::none || tensor.view_of != PlannedTensor::none)
        return bad("input '{}' is a view, or a task writes it", tensor.name);
      if (seen[static_cast<std::size_t>(id)]) return bad("two inputs '{}'", tensor.name);
      seen[static_cast<std::size_t>(id)] = true;
    }
    for (const PlannedTensor& tensor : plan_.tensors)
      if (tensor.producer == PlannedTensor::none && tensor.view_of == PlannedTensor::none)
        ++written_by_client;
    if (written_by_client != plan_.inputs.size())
      return bad("{} tensors are written by no task, but there are {} inputs", written_by_client,
                 plan_.inputs.size());
    std::vector<bool> named(plan_.tensors.size());
    is_output_.assign(plan_.tensors.size(), false);
    for (const std::int32_t id : plan_.outputs) {
      if (!in_range(plan_.tensors, id))
        return bad("output {}: there are {} tensors", id, plan_.tensors.size());
      if (named[static_cast<std::size_t>(id)])
        return bad("two outputs '{}'", at(plan_.tensors, id).name);
      named[static_cast<std::size_t>(id)] = true;
      is_output_[static_cast<std::size_t>(plan_.root(id))] = true;
    }
    return {};
  }

  Result<> tasks() {
    std::vector<Indices> of_operator(plan_.operators.size());
    std::vector<Indices> consumers(plan_.tasks.size());
    for (std::int32_t id = 0; id < count(plan_.tasks.size()); ++id) {
      const PlannedTask& task = at(plan_.tasks, id);
      if (!in_range(plan_.operators, task.op))
        return bad("task '{}': operator {}, there are {}", task.name, task.op,
                   plan_.operators.size());
      at(of_operator, task.op).push_back(id);
      std::set<std::int32_t> producers;
      bool reads_client = false;
      for (const std::int32_t tensor : task.inputs) {
        const std::int32_t producer = at(plan_.tensors, tensor).producer;
        if (producer >= id)
          return bad("task '{}': reads '{}' before it is written", task.name,
                     at(plan_.tensors, tensor).name);
        if (producer == PlannedTensor::none)
          reads_client = true;
        else
          producers.insert(producer);
      }
      if (task.producers != Indices(producers.begin(), producers.end()))
        return bad("task '{}': its producers are not the tasks whose outputs it reads", task.name);
      for (const std::int32_t producer : producers) at(consumers, producer).push_back(id);
      const bool feeds_client = std::any_of(
          task.outputs.begin(), task.outputs.end(),
          [&](std::int32_t tensor) { return is_output_[static_cast<std::size_t>(tensor)]; });
      if (task.reads_client != reads_client || task.feeds_client != feeds_client)
        return bad("task '{}': reads_client or feeds_client is wrong", task.name);
    }
    for (std::int32_t id = 0; id < count(plan_.tasks.size()); ++id)
      if (at(plan_.tasks, id).consumers != at(consumers, id))
        return bad("task '{}': its consumers are not the tasks that read its outputs",
                   at(plan_.tasks, id).name);
    for (std::int32_t id = 0; id < count(plan_.operators.size()); ++id) {
      const PlannedOperator& op = at(plan_.operators, id);
      if (op.tasks.empty()) return bad("operator '{}' has no tasks", op.name);
      if (op.tasks != at(of_operator, id))
        return bad("operator '{}': its tasks are not those that name it", op.name);
    }
    return {};
  }

  Result<> varying() {
    for (std::int32_t id = 0; id < count(plan_.tensors.size()); ++id) {
      const PlannedTensor& tensor = at(plan_.tensors, id);
      const PlannedTensor& root = at(plan_.tensors, plan_.root(id));
      if (!tensor.varies && !root.varies) continue;
      if (&tensor != &root || tensor.producer == PlannedTensor::none || !tensor.readers.empty() ||
          std::ranges::count(plan_.outputs, id) == 0 ||
          plan_.gpu_of(tensor.producer) != PlannedTensor::none ||
          tensor.layout != Layout::row_major)
        return bad(
            "tensor '{}': only a row_major output of the graph may vary, which no task reads, "
            "not as a view either, and none on a GPU writes",
            tensor.name);
    }
    return {};
  }

  Result<> workspace() {
    if (plan_.workspace_bytes == 0) return {};
    std::int32_t last = PlannedTensor::none;
    for (std::int32_t id = 0; id < count(plan_.tasks.size()); ++id) {
      if (!plan_.uses_workspace(id)) continue;
      if (last != PlannedTensor::none && !is_ancestor(last, id))
        return bad("tasks '{}' and '{}' share the workspace while both may run",
                   at(plan_.tasks, last).name, at(plan_.tasks, id).name);
      last = id;
    }
    return {};
  }

  Result<> residence() {
    const std::vector<Residence> needed = residences(plan_);
    for (std::size_t id = 0; id < plan_.tensors.size(); ++id)
      if (const PlannedTensor& tensor = plan_.tensors[id];
          Residence{tensor.gpu, tensor.in_arena} != needed[id])
        return bad("tensor '{}': does not lie where those who use it run", tensor.name);
    for (const DeviceCopy& copy : device_copies(plan_))
      if (const PlannedTensor& tensor = at(plan_.tensors, copy.tensor);
          tensor.layout != Layout::row_major)
        return bad("tensor '{}': what a GPU copies must be row_major", tensor.name);
    return {};
  }

  // The bytes of a memory's slot that a root takes.
  struct Use {
    std::int32_t root;
    std::uint64_t offset;
    std::uint64_t bytes;
  };

  std::vector<Use> arena_use() const {
    std::vector<Use> uses;
    for (std::int32_t id = 0; id < count(plan_.tensors.size()); ++id)
      if (const PlannedTensor& tensor = at(plan_.tensors, id); plan_.root(id) == id)
        uses.push_back({id, tensor.offset, tensor.bytes});
    return uses;
  }

  std::vector<Use> gpu_use(std::int32_t gpu) const {
    std::vector<Use> uses;
    for (std::int32_t id = 0; id < count(plan_.tensors.size()); ++id)
      if (const PlannedTensor& tensor = at(plan_.tensors, id);
          plan_.root(id) == id && tensor.gpu == gpu)
        uses.push_back({id, tensor.gpu_offset, byte_size(tensor.type).value_or(0)});
    return uses;
  }

  // Two tensors may share bytes only if all use of one is over, for good, before the other is
  // written: whatever dies can then run again.
  Result<> reuse(std::vector<Use> uses) {
    std::vector<Indices> names(plan_.tensors.size());  // of a root: itself and its views
    for (std::int32_t id = 0; id < count(plan_.tensors.size()); ++id)
      at(names, plan_.root(id)).push_back(id);
    std::erase_if(uses, [](const Use& use) { return use.bytes == 0; });
    std::sort(uses.begin(), uses.end(),
              [](const Use& a, const Use& b) { return a.offset < b.offset; });
    for (std::size_t first = 0; first < uses.size(); ++first)
      for (std::size_t second = first + 1; second < uses.size(); ++second) {
        const Use& a = uses[first];
        const Use& b = uses[second];
        if (b.offset >= a.offset + a.bytes) break;
        if (!over_before(a.root, names, at(plan_.tensors, b.root).producer) &&
            !over_before(b.root, names, at(plan_.tensors, a.root).producer))
          return bad("tensors '{}' and '{}' share bytes while both may be needed",
                     at(plan_.tensors, a.root).name, at(plan_.tensors, b.root).name);
      }
    return {};
  }

  // Is `task` a strict descendant of every task that uses `tensor`, under any of its names?
  bool over_before(std::int32_t tensor, const std::vector<Indices>& names, std::int32_t task) {
    const PlannedTensor& root = at(plan_.tensors, tensor);
    if (task == PlannedTensor::none || root.producer == PlannedTensor::none ||
        is_output_[static_cast<std::size_t>(tensor)] || !is_ancestor(root.producer, task))
      return false;
    for (const std::int32_t name : at(names, tensor))
      for (const std::int32_t reader : at(plan_.tensors, name).readers)
        if (!is_ancestor(reader, task)) return false;
    return true;
  }

  bool is_ancestor(std::int32_t older, std::int32_t task) {
    if (ancestors_.empty()) find_ancestors();
    const auto bit = static_cast<std::size_t>(older);
    return (at(ancestors_, task)[bit / 64] >> (bit % 64) & 1) != 0;
  }

  void find_ancestors() {  // max_items^2 bits: 32 MB at most
    const std::size_t words = plan_.tasks.size() / 64 + 1;
    ancestors_.assign(plan_.tasks.size(), std::vector<std::uint64_t>(words));
    for (std::size_t id = 0; id < plan_.tasks.size(); ++id)
      for (const std::int32_t producer : plan_.tasks[id].producers) {
        for (std::size_t i = 0; i < words; ++i) ancestors_[id][i] |= at(ancestors_, producer)[i];
        const auto bit = static_cast<std::size_t>(producer);
        ancestors_[id][bit / 64] |= std::uint64_t{1} << (bit % 64);
      }
  }

  const Plan& plan_;
  std::vector<bool> is_output_;  // by tensor: a root that is an output of the graph
  std::vector<std::vector<std::uint64_t>> ancestors_;  // by task, a bit per task; made when needed
};

}  // namespace

Result<> validate(const Plan& plan) { return Checker(plan).run(); }

}  // namespace opsplit
