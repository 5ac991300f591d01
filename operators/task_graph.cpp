#include "operators/task_graph.hpp"

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include "graph/bundle.hpp"

namespace opsplit::operators {
namespace {

class Extraction {
 public:
  Extraction(const graph::Graph& part, std::span<const EdgeTensor> outputs)
      : part_(part), outputs_(outputs) {
    task_.opset = part.opset;
  }

  Result<> add_inputs(std::span<const EdgeTensor> inputs) {
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      OPSPLIT_TRY(const graph::ValueId value, find(inputs[i]));
      TaskTensor tensor = made_from(value);
      tensor.layout = inputs[i].layout;
      tensor.input = static_cast<std::int32_t>(i);
      if (!known_.emplace(value, task_.add(std::move(tensor))).second)
        return fail(ErrorCode::invalid_input, "{} is an input twice", inputs[i].value);
    }
    return {};
  }

  Result<> add_nodes(std::span<const std::string> names) {
    std::map<std::string_view, const graph::Node*> by_name;
    for (const graph::Node& node : part_.nodes) by_name.emplace(node.name, &node);
    for (const std::string& name : names) {
      const auto found = by_name.find(name);
      if (found == by_name.end())
        return fail(ErrorCode::not_found, "no node {} (or it is named twice)", name);
      OPSPLIT_CHECK(add_node(*found->second));
      by_name.erase(found);
    }
    return {};
  }

  // One step from all inputs to all outputs.
  Result<> add_kernel(std::unique_ptr<Kernel> kernel) {
    Step step{.kind = Step::Kind::custom, .kernel = std::move(kernel)};
    for (std::size_t i = 0; i < task_.tensors.size(); ++i)
      step.inputs.push_back(static_cast<TensorId>(i));
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      OPSPLIT_TRY(const graph::ValueId value, find(outputs_[i]));
      TaskTensor tensor = made_from(value);
      tensor.layout = outputs_[i].layout;
      tensor.output = static_cast<std::int32_t>(i);
      step.outputs.push_back(task_.add(std::move(tensor)));
    }
    task_.steps.push_back(std::move(step));
    return {};
  }

  // Outputs that no node gives are copies of what is there.
  Result<TaskGraph> finish() {
    drop_unread_outputs();
    std::vector<bool> given(outputs_.size(), false);
    for (const TaskTensor& tensor : task_.tensors)
      if (tensor.output >= 0) given[static_cast<std::size_t>(tensor.output)] = true;
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      if (given[i]) continue;
      OPSPLIT_TRY(const graph::ValueId value, find(outputs_[i]));
      const auto source = find_tensor(value);
      if (source == no_tensor || task_.tensor(source).output >= 0)
        return fail(ErrorCode::invalid_input, "output {} {}", outputs_[i].value,
                    source == no_tensor ? "is made by none of the nodes" : "is named twice");
      TaskTensor copy = made_from(value);
      copy.layout = outputs_[i].layout;
      copy.output = static_cast<std::int32_t>(i);
      const TensorId target = task_.add(std::move(copy));
      task_.steps.push_back({.kind = Step::Kind::copy, .inputs = {source}, .outputs = {target}});
    }
    return std::move(task_);
  }

 private:
  Result<graph::ValueId> find(const EdgeTensor& edge) const {
    const graph::ValueId value = part_.find(edge.value);
    if (value == graph::no_value) return fail(ErrorCode::not_found, "no tensor {}", edge.value);
    if (!part_.value(value).type)
      return fail(ErrorCode::invalid_input, "tensor {} has no known type", edge.value);
    if (auto bytes = byte_size(part_.type(value), edge.layout); !bytes)
      return within("tensor " + edge.value, bytes.error());
    return value;
  }

  TaskTensor made_from(graph::ValueId value) const {
    return {.name = part_.value(value).name, .type = part_.type(value)};
  }

  // The tensor of a value that is there already; constants are as soon as they are asked for.
  TensorId find_tensor(graph::ValueId value) {
    if (const auto found = known_.find(value); found != known_.end()) return found->second;
    if (!part_.is_constant(value)) return no_tensor;
    const graph::Constant& constant = *part_.value(value).constant;
    TaskTensor tensor{.name = part_.value(value).name, .type = constant.type};
    tensor.fixed = constant.bytes.data();
    tensor.constant = &constant;
    return known_.emplace(value, task_.add(std::move(tensor))).first->second;
  }

  Result<> add_node(const graph::Node& node) {
    Step step{.kind = graph::is_view(node) ? Step::Kind::view : Step::Kind::node, .node = &node};
    for (const graph::ValueId input : node.inputs) {
      const TensorId tensor = input == graph::no_value ? no_tensor : find_tensor(input);
      if (input != graph::no_value && tensor == no_tensor)
        return fail(ErrorCode::invalid_input, "node {} reads {}, which nothing gives", node.name,
                    part_.value(input).name);
      step.inputs.push_back(tensor);
    }
    for (const graph::ValueId output : node.outputs) {
      if (output == graph::no_value) {
        step.outputs.push_back(no_tensor);
        continue;
      }
      if (known_.contains(output) || !part_.value(output).type)
        return fail(ErrorCode::invalid_input, "node {} gives {}, which is {}", node.name,
                    part_.value(output).name,
                    known_.contains(output) ? "there already" : "of no known type");
      if (auto bytes = byte_size(part_.type(output)); !bytes)
        return within("node " + node.name, bytes.error());
      TaskTensor tensor = made_from(output);
      const auto edge = std::find_if(outputs_.begin(), outputs_.end(), [&](const EdgeTensor& out) {
        return out.value == tensor.name;
      });
      if (edge != outputs_.end()) {
        OPSPLIT_CHECK(find(*edge));
        tensor.output = static_cast<std::int32_t>(edge - outputs_.begin());
        tensor.layout = edge->layout;
      }
      const TensorId id = task_.add(std::move(tensor));
      known_.emplace(output, id);
      step.outputs.push_back(id);
    }
    const bool gives =
        std::ranges::any_of(step.outputs, [](TensorId output) { return output != no_tensor; });
    if (!gives || (step.kind == Step::Kind::view && step.outputs[0] == no_tensor))
      return fail(ErrorCode::invalid_input, "node {} gives nothing", node.name);
    if (step.kind == Step::Kind::view) OPSPLIT_CHECK(check_view(step));
    task_.steps.push_back(std::move(step));
    return {};
  }

  Result<> check_view(const Step& step) const {
    if (step.inputs.empty() || step.inputs[0] == no_tensor)
      return fail(ErrorCode::invalid_input, "node {} views nothing", step.node->name);
    const TensorType& from = task_.tensor(step.inputs[0]).type;
    const TensorType& to = task_.tensor(step.outputs[0]).type;
    if (from.dtype != to.dtype || byte_size(from).value_or(0) != byte_size(to).value_or(0))
      return fail(ErrorCode::invalid_input, "node {}: {} seen as {}", step.node->name,
                  to_string(from), to_string(to));
    return {};
  }

  // Second outputs (Dropout's mask, MaxPool's indices) that nobody wants are not there.
  void drop_unread_outputs() {
    std::vector<bool> read(task_.tensors.size(), false);
    for (const Step& step : task_.steps)
      for (const TensorId input : step.inputs)
        if (input != no_tensor) read[static_cast<std::size_t>(input)] = true;
    for (Step& step : task_.steps)
      for (std::size_t i = 1; i < step.outputs.size(); ++i) {
        TensorId& output = step.outputs[i];
        if (output != no_tensor && task_.tensor(output).output < 0 &&
            !read[static_cast<std::size_t>(output)])
          output = no_tensor;
      }
  }

  const graph::Graph& part_;
  std::span<const EdgeTensor> outputs_;
  TaskGraph task_;
  std::map<graph::ValueId, TensorId> known_;
};

}  // namespace

TaskGraph::Whole TaskGraph::whole(TensorId id) const {
  Whole whole{id, 0};
  while (tensor(whole.tensor).inside != no_tensor) {
    whole.offset += tensor(whole.tensor).inside_offset;
    whole.tensor = tensor(whole.tensor).inside;
  }
  return whole;
}

std::optional<std::size_t> TaskGraph::only_reader(TensorId id) const {
  if (tensor(id).output >= 0) return std::nullopt;
  std::optional<std::size_t> reader;
  for (std::size_t i = 0; i < steps.size(); ++i)
    for (const TensorId input : steps[i].inputs) {
      if (input != id) continue;
      if (reader) return std::nullopt;
      reader = i;
    }
  return reader;
}

Result<TaskGraph> extract_task(const graph::Graph& part, std::span<const std::string> nodes,
                               std::span<const EdgeTensor> inputs,
                               std::span<const EdgeTensor> outputs) {
  Extraction extraction(part, outputs);
  OPSPLIT_CHECK(extraction.add_inputs(inputs));
  OPSPLIT_CHECK(extraction.add_nodes(nodes));
  return extraction.finish();
}

Result<TaskGraph> task_of_kernel(const graph::Graph& part, std::span<const EdgeTensor> inputs,
                                 std::span<const EdgeTensor> outputs,
                                 std::unique_ptr<Kernel> kernel) {
  Extraction extraction(part, outputs);
  OPSPLIT_CHECK(extraction.add_inputs(inputs));
  OPSPLIT_CHECK(extraction.add_kernel(std::move(kernel)));
  return extraction.finish();
}

Result<> take_custom_kernels(TaskGraph& task, const CustomKernels& kernels) {
  for (Step& step : task.steps) {
    if (step.kind != Step::Kind::node) continue;
    const auto custom = kernels.find(graph::named_op_type(*step.node));
    if (custom == kernels.end()) continue;
    if (std::ranges::any_of(step.node->outputs, [&](graph::ValueId output) {
          return graph::varies(*step.node, output);
        }))
      return fail(ErrorCode::unsupported,
                  "node {}: the sizes of an output of {} follow from data: run its whole task "
                  "(opsplit.run_backend in Python)",
                  step.node->name, graph::named_op_type(*step.node));
    KernelSpec spec = spec_of(task, step);
    for (auto* operands : {&spec.inputs, &spec.outputs})
      for (Operand& operand : *operands) operand.layout = Layout::row_major;
    auto kernel = custom->second(spec);
    if (!kernel) return within("node " + step.node->name, kernel.error());
    step.kind = Step::Kind::custom;
    step.kernel = std::move(*kernel);
  }
  return {};
}

std::vector<const graph::Constant*> constants_of(const TaskGraph& task, const Step& step) {
  std::vector<const graph::Constant*> constants;
  for (const TensorId input : step.inputs)
    constants.push_back(input == no_tensor ? nullptr : task.tensor(input).constant);
  return constants;
}

void take_operands(Step& step, const Step& next, TensorId result, BinaryFunction function) {
  for (const TensorId input : next.inputs) {
    if (input == result) continue;
    step.post_ops.push_back(post_op(function, step.inputs.size()));
    step.inputs.push_back(input);
  }
}

void move_into(TaskGraph& task, std::size_t at, std::size_t reader) {
  task.steps[at].outputs = task.steps[reader].outputs;
  task.steps[reader] = std::move(task.steps[at]);
  task.steps.erase(task.steps.begin() + static_cast<std::ptrdiff_t>(at));
}

KernelSpec spec_of(const TaskGraph& task, const Step& step) {
  KernelSpec spec{.node = step.node, .opset = task.opset, .post_ops = step.post_ops};
  const auto operand_of = [&](TensorId id) {
    if (id == no_tensor) return Operand{.present = false};
    const TaskTensor& tensor = task.tensor(id);
    return Operand{.type = tensor.type,
                   .layout = tensor.layout,
                   .constant = tensor.constant,
                   .name = tensor.name};
  };
  for (const TensorId input : step.inputs) spec.inputs.push_back(operand_of(input));
  for (const TensorId output : step.outputs) spec.outputs.push_back(operand_of(output));
  return spec;
}

bool same_bytes(const TensorType& type, Layout a, Layout b) {
  if (a == b) return true;
  if (type.shape.rank() != 4) return false;
  const auto bytes_a = byte_size(type, a);
  const auto bytes_b = byte_size(type, b);
  if (!bytes_a || !bytes_b || *bytes_a != *bytes_b) return false;
  // Without padding, layouts differ only in how channels and pixels interleave.
  const Shape& shape = type.shape;
  return shape[1] == 1 || shape[2] * shape[3] == 1;
}

}  // namespace opsplit::operators
