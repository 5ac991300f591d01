#include "operators/layout_choice.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <utility>

#include "operators/kernels/kernels.hpp"
#include "operators/kernels/onednn.hpp"
#include "operators/kernels/primitive_kernel.hpp"

namespace opsplit::operators {
namespace {

std::int64_t block_of(Layout layout) {
  return layout == Layout::nChw16c ? 16 : layout == Layout::nChw8c ? 8 : 1;
}

bool is_image(const TensorType& type) { return type.dtype == float32 && type.shape.rank() == 4; }

class LayoutChoice {
 public:
  LayoutChoice(TaskGraph& task, Layout preferred, const KernelResources& resources)
      : task_(task), preferred_(preferred), resources_(resources) {}

  Result<> run() {
    auto steps = std::exchange(task_.steps, {});
    for (Step& step : steps) {
      switch (step.kind) {
        case Step::Kind::node:
          OPSPLIT_CHECK(place_node(std::move(step)));
          break;
        case Step::Kind::custom:
          OPSPLIT_CHECK(place_custom(std::move(step)));
          break;
        case Step::Kind::view:
          OPSPLIT_CHECK(place_view(step));
          break;
        case Step::Kind::shuffle:
          OPSPLIT_CHECK(place_shuffle(std::move(step)));
          break;
        case Step::Kind::copy:
          OPSPLIT_CHECK(add_copy(step.inputs[0], step.outputs[0]));
          break;
      }
    }
    return {};
  }

 private:
  // The tensor, or its likeness in another layout: made the first time that it is asked for.
  Result<TensorId> in_layout(TensorId id, Layout wanted) {
    if (id == no_tensor || task_.tensor(id).layout == wanted) return id;
    if (task_.tensor(id).type.shape.rank() != 4) return id;  // has only one
    const auto key = std::pair(id, wanted);
    if (const auto found = likenesses_.find(key); found != likenesses_.end()) return found->second;
    const TaskTensor& original = task_.tensor(id);
    TaskTensor likeness{.name = original.name, .type = original.type, .layout = wanted};
    TensorId made = no_tensor;
    if (same_bytes(original.type, original.layout, wanted)) {
      likeness.inside = id;
      likeness.constant = original.constant;
      made = task_.add(std::move(likeness));
    } else if (original.constant && original.type.dtype == float32) {
      OPSPLIT_TRY(
          likeness.fixed,
          pack_constant(*original.constant, onednn::desc_of(original.type.shape, original.layout),
                        onednn::desc_of(original.type.shape, wanted), "layout", resources_));
      made = task_.add(std::move(likeness));
    } else {
      made = task_.add(std::move(likeness));
      OPSPLIT_CHECK(add_copy(id, made));
    }
    likenesses_.emplace(key, made);
    return made;
  }

  Result<> add_copy(TensorId from, TensorId to) {
    const auto operand_of = [&](TensorId id) {
      return Operand{.type = task_.tensor(id).type, .layout = task_.tensor(id).layout};
    };
    Step step{.kind = Step::Kind::copy, .inputs = {from}, .outputs = {to}};
    OPSPLIT_TRY(step.kernel, make_copy(operand_of(from), operand_of(to), resources_));
    task_.steps.push_back(std::move(step));
    return {};
  }

  // Views are row-major. One that is an output of the task moves what it views into the output's
  // place, if that is free to move; else it is a copy.
  Result<> place_view(const Step& step) {
    OPSPLIT_TRY(const TensorId base, in_layout(step.inputs[0], Layout::row_major));
    const TensorId id = step.outputs[0];
    if (task_.tensor(id).output < 0) {
      task_.tensor(id).inside = base;
      return {};
    }
    TaskTensor& output = task_.tensor(id);
    TaskTensor& whole = task_.tensor(task_.whole(base).tensor);
    const bool free = whole.input < 0 && whole.output < 0 && whole.fixed == nullptr;
    if (free && same_bytes(output.type, output.layout, Layout::row_major)) {
      whole.output = std::exchange(output.output, -1);
      output.inside = base;
      return {};
    }
    TaskTensor view{.name = output.name, .type = output.type};
    view.inside = base;
    return add_copy(task_.add(std::move(view)), id);
  }

  // In the input's layout if that keeps channels apart from each other, else row-major.
  Result<> place_shuffle(Step step) {
    const Layout given = task_.tensor(step.inputs[0]).layout;
    const Layout layout = block_of(given) == 1 ? given : Layout::row_major;
    OPSPLIT_TRY(step.inputs[0], in_layout(step.inputs[0], layout));
    const TensorId result = step.outputs[0];
    step.outputs[0] = written_as(result, layout);
    const TensorId written = step.outputs[0];
    const auto operand_of = [&](TensorId id) {
      return Operand{.type = task_.tensor(id).type, .layout = layout};
    };
    OPSPLIT_TRY(step.kernel,
                make_channel_shuffle(operand_of(step.inputs[0]), operand_of(written), step.groups));
    task_.steps.push_back(std::move(step));
    return copy_if_apart(written, result);
  }

  // Inputs that are images to the kernel: others (weights, say) lie as they lie.
  static bool is_laid_out(const Step& step, LayoutRule rule, std::size_t input) {
    const bool own = input < step.node->inputs.size();
    return !own || input == 0 || rule == LayoutRule::pointwise || rule == LayoutRule::concat;
  }

  // The step's spec with its inputs in `in`, and its post-ops' operands and outputs in `out`, where
  // they are images.
  KernelSpec spec_in(const Step& step, LayoutRule rule, Layout in, Layout out) const {
    KernelSpec spec = spec_of(task_, step);
    const auto lay_out = [](Operand& operand, Layout layout) {
      operand.layout = operand.type.shape.rank() == 4 ? layout : Layout::row_major;
    };
    for (std::size_t i = 0; i < spec.inputs.size(); ++i)
      lay_out(spec.inputs[i], !is_laid_out(step, rule, i)    ? Layout::row_major
                              : i < step.node->inputs.size() ? in
                                                             : out);
    for (Operand& output : spec.outputs) lay_out(output, out);
    return spec;
  }

  // Puts a step that has its kernel into the task, its tensors in the layouts of the kernel's spec.
  Result<> put(Step step, const KernelSpec& spec) {
    for (std::size_t i = 0; i < step.inputs.size(); ++i) {
      OPSPLIT_TRY(step.inputs[i], in_layout(step.inputs[i], spec.inputs[i].layout));
    }
    const std::vector<TensorId> results = step.outputs;
    for (std::size_t i = 0; i < results.size(); ++i)
      if (results[i] != no_tensor) step.outputs[i] = written_as(results[i], spec.outputs[i].layout);
    const std::vector<TensorId> written = step.outputs;
    task_.steps.push_back(std::move(step));
    for (std::size_t i = 0; i < results.size(); ++i)
      OPSPLIT_CHECK(copy_if_apart(written[i], results[i]));
    return {};
  }

  // Copies what a step has written to where it is to be, if that is memory of its own.
  Result<> copy_if_apart(TensorId written, TensorId result) {
    if (written == result || task_.tensor(written).inside != no_tensor) return {};
    return add_copy(written, result);
  }

  // What a step writes that gives tensor `id` in `layout`: the tensor itself, if that may have it;
  // its memory under another name; else one that has to be copied into it.
  TensorId written_as(TensorId id, Layout layout) {
    TaskTensor& tensor = task_.tensor(id);
    if (tensor.output < 0) tensor.layout = layout;
    if (tensor.layout == layout) return id;
    TaskTensor written{.name = tensor.name, .type = tensor.type, .layout = layout};
    if (same_bytes(tensor.type, tensor.layout, layout)) written.inside = id;
    const TensorId made = task_.add(std::move(written));
    likenesses_.emplace(std::pair(id, layout), made);
    return made;
  }

  Result<> place_node(Step step) {
    const KernelKind* kind = find_kernel(step.node->op_type);
    if (kind == nullptr)
      return fail(ErrorCode::invalid_input, "node {}: operation {} has no kernel", step.node->name,
                  step.node->op_type);
    const LayoutRule rule = kind->rule;
    const auto [in, out] = best_layouts(step, rule);
    KernelSpec spec = spec_in(step, rule, in, out);
    auto kernel = make_kernel(spec, resources_);
    if (!kernel && (in != Layout::row_major || out != Layout::row_major)) {
      spec = spec_in(step, rule, Layout::row_major, Layout::row_major);
      kernel = make_kernel(spec, resources_);
    }
    if (!kernel) return tl::unexpected(kernel.error());
    step.kernel = std::move(*kernel);
    return put(std::move(step), spec);
  }

  Result<> place_custom(Step step) {
    KernelSpec spec = spec_of(task_, step);
    for (auto* operands : {&spec.inputs, &spec.outputs})
      for (Operand& operand : *operands) operand.layout = Layout::row_major;
    return put(std::move(step), spec);
  }

  ConvolutionLayouts best_layouts(const Step& step, LayoutRule rule) {
    const bool image = rule != LayoutRule::row_major && step.outputs[0] != no_tensor &&
                       is_image(task_.tensor(step.outputs[0]).type) && !step.inputs.empty() &&
                       step.inputs[0] != no_tensor && is_image(task_.tensor(step.inputs[0]).type);
    if (!image) return {};
    if (rule == LayoutRule::convolution) return best_for_convolution(step);
    const Layout layout = most_common(step, rule);
    if (!may_concat(step, rule, layout)) return {};
    return {layout, layout};
  }

  ConvolutionLayouts best_for_convolution(const Step& step) {
    const TaskTensor& result = task_.tensor(step.outputs[0]);
    // Written straight into its place, if the place is not row-major.
    const Layout wanted =
        result.output >= 0 && result.layout != Layout::row_major ? result.layout : preferred_;
    const auto layouts =
        step.node->op_type == "Conv" ? convolution_layouts : transposed_convolution_layouts;
    return layouts(spec_of(task_, step),
                   wanted == Layout::row_major ? std::optional<Layout>() : std::optional(wanted));
  }

  // The layout that most bytes have already, or, in an output's place, must have.
  Layout most_common(const Step& step, LayoutRule rule) {
    std::array<std::int64_t, layout_count> votes{};
    const auto vote = [&](const TaskTensor& tensor) {
      if (const auto elements = tensor.type.shape.elements())
        votes[static_cast<std::size_t>(tensor.layout)] += *elements;
    };
    for (std::size_t i = 0; i < step.inputs.size(); ++i)
      if (step.inputs[i] != no_tensor && is_laid_out(step, rule, i) &&
          is_image(task_.tensor(step.inputs[i]).type))
        vote(task_.tensor(step.inputs[i]));
    const TaskTensor& result = task_.tensor(step.outputs[0]);
    if (result.output >= 0) vote(result);
    const auto most = std::max_element(votes.begin(), votes.end());
    return static_cast<Layout>(most - votes.begin());
  }

  // Whole blocks only can be put side by side.
  bool may_concat(const Step& step, LayoutRule rule, Layout layout) const {
    return rule != LayoutRule::concat ||
           std::all_of(step.inputs.begin(), step.inputs.end(), [&](TensorId input) {
             return input != no_tensor && task_.tensor(input).type.shape.rank() == 4 &&
                    task_.tensor(input).type.shape[1] % block_of(layout) == 0;
           });
  }

  TaskGraph& task_;
  Layout preferred_;
  const KernelResources& resources_;
  std::map<std::pair<TensorId, Layout>, TensorId> likenesses_;
};

}  // namespace

Result<> choose_layouts(TaskGraph& task, Layout preferred, const KernelResources& resources) {
  return LayoutChoice(task, preferred, resources).run();
}

}  // namespace opsplit::operators
