// Operators on a GPU, on HostGpu and its driver; the device broker is a process of its own, as in earnest.
#include "operators/cuda/gpu_operator.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#include <csignal>
#include <cstring>
#include <optional>

#include "graph/planner.hpp"
#include "ipc/device_broker.hpp"
#include "operators/aligned_memory.hpp"
#include "operators/warm_up.hpp"
#include "tests/graph/model_builder.hpp"
#include "tests/ipc/host_device.hpp"
#include "tests/operators/cuda/host_gpu.hpp"

namespace opsplit::operators::cuda::testing {
namespace {

using test::HostDevice;
using ::testing::HasSubstr;

constexpr std::uint32_t depth = 3;

// x -> a -> s -> b -> t -> c -> y: a and b on the GPU, c on the CPU. s is an output as well, so that it lies in
// both memories.
Plan make_plan_of(const graph::Graph& graph) {
  graph::ByHand by_hand;
  by_hand.groups = {{"a", {}, {"Neg"}}, {"b", {}, {"Abs"}}, {"c", {}, {"Sqrt"}}};
  graph::PlanOptions options;
  options.depth = depth;
  options.gpus = {{"a", 0}, {"b", 0}};
  return graph::value_of(graph::make_plan(graph, by_hand, options));
}

class GpuOperatorTest : public ::testing::Test {
 protected:
  GpuOperatorTest() {
    graph::ModelBuilder model;
    model.input("x", {4}).output("s").output("y");
    model.node("Neg", {"x"}, {"r"}, {}, "negate").node("Neg", {"r"}, {"s"}, {}, "again");
    model.node("Abs", {"s"}, {"t"}, {}, "absolute").node("Sqrt", {"t"}, {"y"}, {}, "root");
    const graph::Graph graph = graph::value_of(model.load());
    plan = make_plan_of(graph);
    EXPECT_TRUE(graph::write_parts(graph, plan, folder.path()));
    start_broker();
    auto attached = ipc::DeviceArena::attach(device, socket(), id, shape(),
                                             Clock::now() + std::chrono::seconds(20));
    if (!attached) throw std::runtime_error(attached.error().message);
    arena.emplace(std::move(*attached));
  }
  ~GpuOperatorTest() override {
    arena.reset();
    end_broker();
  }

  [[nodiscard]] std::filesystem::path socket() const { return folder.path() / "device"; }
  [[nodiscard]] ipc::DeviceArenaShape shape() const { return {plan.gpu_slot_bytes[0], depth}; }

  // Returns once it serves: it says so by closing its end of a pipe.
  void start_broker() {
    std::array<int, 2> ready{};
    ASSERT_EQ(::pipe(ready.data()), 0);
    broker = ::fork();
    if (broker == 0) {
      ::close(ready[0]);
      const FileDescriptor end(::eventfd(0, 0));
      auto serving = ipc::DeviceBroker::start(device, socket(), id, shape());
      ::close(ready[1]);
      if (serving) (void)(*serving)->run(end);
      ::_exit(1);
    }
    ::close(ready[1]);
    char nothing = 0;
    EXPECT_EQ(::read(ready[0], &nothing, 1), 0);
    ::close(ready[0]);
  }
  void end_broker() {
    if (broker <= 0) return;
    ::kill(broker, SIGKILL);
    ::waitpid(broker, nullptr, 0);
    broker = 0;
  }

  Result<std::unique_ptr<Operator>> make(std::size_t op) {
    return make_gpu_operator({plan, plan.operators[op], folder.path() / plan.operators[op].part,
                              folder.path(), 1, weights, placement},
                             {device, gpu, *arena, futex, constants, stream});
  }

  using Numbers = std::vector<float>;

  // One task of an operator, in a slot; what it reads and writes in the host's arena.
  Result<> run(Operator& op, std::optional<std::uint32_t> slot, const Numbers& from, Numbers* to,
               RunContext& context, Layout layout = Layout::row_major) {
    const TensorType type{float32, {4}};
    const auto* data = from.empty() ? nullptr : reinterpret_cast<const std::byte*>(from.data());
    context.slot = slot;
    const std::array inputs{TensorView{type, layout, data}};
    const std::array outputs{
        MutableTensorView{type, Layout::row_major,
                          to == nullptr ? nullptr : reinterpret_cast<std::byte*>(to->data())}};
    return op.run(0, inputs, outputs, context);
  }

  graph::TempFolder folder;
  HostDevice device;
  HostGpu gpu;
  DeviceConstants constants{gpu};
  const ipc::DeviceStream stream = device.create_stream(ipc::StreamPriority::high).value();
  ipc::SystemFutex futex;
  HeapWeights weights;
  Affinity affinity;
  ThreadPlacement placement{affinity};
  Plan plan;
  const ipc::ArenaId id{"negated", 1};
  pid_t broker = 0;
  std::optional<ipc::DeviceArena> arena;
};

TEST_F(GpuOperatorTest, HandsOnInDeviceMemoryAndCopiesWhatOthersUse) {
  const auto a = make(0), b = make(1);
  ASSERT_TRUE(a) << a.error().message;
  ASSERT_TRUE(b) << b.error().message;
  const Numbers x{1, -2, 3, -4}, other{5, 6, 7, 8};
  Numbers s(4), t(4);
  RunContext first, second;
  ASSERT_TRUE(run(**a, 1, x, &s, first));
  EXPECT_EQ(s, x);
  EXPECT_EQ(first.bytes_copied, 2 * 4 * sizeof(float));
  Numbers elsewhere(4);
  ASSERT_TRUE(run(**a, 2, other, &elsewhere, first));
  // Of slot 1, though slot 2 was written since; nothing comes from the host.
  ASSERT_TRUE(run(**b, 1, {}, &t, second));
  EXPECT_EQ(t, (Numbers{1, 2, 3, 4}));
  EXPECT_EQ(second.bytes_copied, 4 * sizeof(float));
  EXPECT_FALSE(first.lost || second.lost);
}

TEST_F(GpuOperatorTest, IsTriedInTheHostsMemoryAlone) {
  const auto b = make(1);
  ASSERT_TRUE(b) << b.error().message;
  Numbers s(4);
  RunContext context;
  {
    const auto a = make(0);
    ASSERT_TRUE(a && run(**a, 1, {1, 2, 3, 4}, &s, context));
  }
  Numbers t(4);
  ASSERT_TRUE(run(**b, std::nullopt, {-9, 8, -7, 6}, &t, context));
  EXPECT_EQ(t, (Numbers{9, 8, 7, 6}));
  ASSERT_TRUE(run(**b, 1, {}, &t, context));
  EXPECT_EQ(t, (Numbers{1, 2, 3, 4})) << "the trial wrote into a slot";
  RunContext warming;
  EXPECT_TRUE(warm_up(**b, plan, plan.operators[1], warming));
}

TEST_F(GpuOperatorTest, PinsTheArena) {
  AlignedMemory arena_memory(4096);
  {
    const auto a = make(0);
    ASSERT_TRUE(a);
    ASSERT_TRUE((*a)->use_arena({arena_memory.data(), 4096}));
    EXPECT_EQ(device.registered.data(), arena_memory.data());
  }
  EXPECT_EQ(device.events, 0);
  EXPECT_TRUE(device.registered.empty());
}

TEST_F(GpuOperatorTest, ItsTasksShareOneWorkspace) {
  graph::ModelBuilder model;
  model.input("x", {4, 4}).output("y").floats("m", {4, 4}, 0.5F);
  model.node("MatMul", {"x", "m"}, {"p"}, {}, "first").node("Sqrt", {"p"}, {"q"}, {}, "root");
  model.node("MatMul", {"q", "m"}, {"y"}, {}, "second");
  const graph::Graph graph = graph::value_of(model.load());
  graph::ByHand by_hand;
  by_hand.groups = {{"product", {}, {"MatMul"}}, {"root", {}, {"Sqrt"}}};
  graph::PlanOptions options;
  options.gpus = {{"product", 0}};
  const Plan products = graph::value_of(graph::make_plan(graph, by_hand, options));
  const graph::TempFolder parts;
  ASSERT_TRUE(graph::write_parts(graph, products, parts.path()));
  const PlannedOperator& product = products.operators[0];
  ASSERT_EQ(product.tasks.size(), 2u);
  const auto op = make_gpu_operator(
      {products, product, parts.path() / product.part, parts.path(), 1, weights, placement},
      {device, gpu, *arena, futex, constants, stream});
  ASSERT_TRUE(op) << op.error().message;
  // With the constant, and a copy of one task's input and output.
  EXPECT_EQ(gpu.allocated,
            gpu.product_workspace_bytes() + 4 * 4 * sizeof(float) + 2 * gpu_alignment);
}

// Copies its input, and says so.
class Copies final : public CudaKernel {
 public:
  Result<> launch(std::span<const DeviceView> inputs, std::span<const MutableDeviceView> outputs,
                  std::byte*, Stream) override {
    std::memcpy(outputs[0].data, inputs[0].data, 4 * sizeof(float));
    return {};
  }
  [[nodiscard]] std::uint64_t bytes_copied() const override { return 4 * sizeof(float); }
};

TEST_F(GpuOperatorTest, ATaskIsRunByOneKernelOfABackend) {
  std::vector<std::string> nodes;
  const auto b =
      make_gpu_backend_operator({plan, plan.operators[0], folder.path() / plan.operators[0].part,
                                 folder.path(), 1, weights, placement},
                                {device, gpu, *arena, futex, constants, stream},
                                [&](const TaskSpec& task) -> Result<std::unique_ptr<CudaKernel>> {
                                  for (const KernelSpec& node : task.nodes)
                                    nodes.push_back(node.node->name);
                                  EXPECT_EQ(task.inputs[0].name, "x");
                                  EXPECT_EQ(task.outputs[0].name, "s");
                                  return std::make_unique<Copies>();
                                });
  ASSERT_TRUE(b) << b.error().message;
  EXPECT_EQ(nodes, (std::vector<std::string>{"negate", "again"}));
  Numbers s(4);
  RunContext context;
  ASSERT_TRUE(run(**b, 1, {1, 2, 3, 4}, &s, context));
  EXPECT_EQ(s, (Numbers{1, 2, 3, 4}));
  EXPECT_EQ(context.bytes_copied, 3 * 4 * sizeof(float)) << "in, by the kernel, out";
}

TEST_F(GpuOperatorTest, WhyABackendRefusesATaskIsSaid) {
  const auto refused =
      make_gpu_backend_operator({plan, plan.operators[0], folder.path() / plan.operators[0].part,
                                 folder.path(), 1, weights, placement},
                                {device, gpu, *arena, futex, constants, stream},
                                [](const TaskSpec&) -> Result<std::unique_ptr<CudaKernel>> {
                                  return fail(ErrorCode::unsupported, "not this one");
                                });
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("task " + plan.tasks[0].name));
}

TEST_F(GpuOperatorTest, AnInputInAnotherLayoutFailsTheRequestOnly) {
  const auto a = make(0);
  ASSERT_TRUE(a);
  RunContext context;
  Numbers s(4);
  const auto ran = run(**a, 0, {1, 2, 3, 4}, &s, context, Layout::nhwc);
  ASSERT_FALSE(ran);
  EXPECT_THAT(ran.error().message, HasSubstr("nhwc"));
  EXPECT_FALSE(context.lost);
  EXPECT_TRUE(run(**a, 0, {1, 2, 3, 4}, &s, context));
}

TEST_F(GpuOperatorTest, IsLostWithItsContext) {
  const auto a = make(0);
  ASSERT_TRUE(a);
  device.breaks = true;
  RunContext context;
  Numbers s(4);
  const auto ran = run(**a, 0, {1, 2, 3, 4}, &s, context);
  ASSERT_FALSE(ran);
  EXPECT_THAT(ran.error().message, HasSubstr("illegal address"));
  EXPECT_TRUE(context.lost);
}

TEST_F(GpuOperatorTest, IsLostWithTheArena) {
  const auto a = make(0);
  ASSERT_TRUE(a);
  end_broker();
  RunContext context;
  Numbers s(4);
  const auto ran = run(**a, 0, {1, 2, 3, 4}, &s, context);
  ASSERT_FALSE(ran);
  EXPECT_EQ(ran.error().code, ErrorCode::epoch_lost);
  EXPECT_TRUE(context.lost);
}

}  // namespace
}  // namespace opsplit::operators::cuda::testing
