// cuDNN calls these functions deprecated, in favour of graphs of operations that its runtime compiles. They
// are what computes a single convolution of fixed shape with no compiler behind it.
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

#include "operators/cuda/cudnn_convolver.hpp"

#include <algorithm>
#include <array>
#include <limits>

#include "operators/cuda/cuda_status.hpp"
#include "operators/cuda/library_status.hpp"

namespace opsplit::operators::cuda {
namespace {

// What one convolution may use to be faster.
constexpr std::size_t max_workspace = std::size_t{256} << 20;

using Ints = std::vector<int>;

Result<Ints> ints(std::span<const std::int64_t> values) {
  Ints result;
  for (const std::int64_t value : values) {
    if (value < 0 || value > std::numeric_limits<int>::max())
      return fail(ErrorCode::unsupported, "cuDNN: a size of {}", value);
    result.push_back(static_cast<int>(value));
  }
  return result;
}

// cuDNN's objects, each with its own pair of functions.
template <class T, cudnnStatus_t (*create)(T*), cudnnStatus_t (*destroy)(T)>
class Descriptor {
 public:
  Descriptor() = default;
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (value_ != nullptr) destroy(value_);
  }
  Result<> make() { return checked(create(&value_), "cuDNN descriptor"); }
  operator T() const { return value_; }

 private:
  T value_ = nullptr;
};

using TensorDescriptor =
    Descriptor<cudnnTensorDescriptor_t, cudnnCreateTensorDescriptor, cudnnDestroyTensorDescriptor>;
using FilterDescriptor =
    Descriptor<cudnnFilterDescriptor_t, cudnnCreateFilterDescriptor, cudnnDestroyFilterDescriptor>;
using ConvolutionDescriptor =
    Descriptor<cudnnConvolutionDescriptor_t, cudnnCreateConvolutionDescriptor,
               cudnnDestroyConvolutionDescriptor>;
using ActivationDescriptor =
    Descriptor<cudnnActivationDescriptor_t, cudnnCreateActivationDescriptor,
               cudnnDestroyActivationDescriptor>;

class CudnnConvolver final : public Convolver {
 public:
  CudnnConvolver(cudnnHandle_t handle, const ConvolutionCall& call)
      : handle_(handle), call_(call) {}

  Result<> prepare() {
    const cudnnDataType_t type =
        call_.element == Element::float16 ? CUDNN_DATA_HALF : CUDNN_DATA_FLOAT;
    OPSPLIT_CHECK(make_tensor(x_, type, call_.x));
    OPSPLIT_CHECK(make_tensor(y_, type, call_.y));
    Shape channels = call_.y;
    for (std::size_t axis = 0; axis < channels.rank(); ++axis)
      if (axis != 1) channels[axis] = 1;
    OPSPLIT_CHECK(make_tensor(bias_, type, channels));
    OPSPLIT_CHECK(w_.make());
    OPSPLIT_TRY(const Ints w, ints(call_.w.dims()));
    OPSPLIT_CHECK(checked(cudnnSetFilterNdDescriptor(w_, type, CUDNN_TENSOR_NCHW,
                                                     static_cast<int>(w.size()), w.data()),
                          "cudnnSetFilterNdDescriptor"));
    OPSPLIT_CHECK(convolution_.make());
    OPSPLIT_TRY(const Ints pads, ints(call_.pads));
    OPSPLIT_TRY(const Ints strides, ints(call_.strides));
    OPSPLIT_TRY(const Ints dilations, ints(call_.dilations));
    OPSPLIT_CHECK(
        checked(cudnnSetConvolutionNdDescriptor(convolution_, static_cast<int>(pads.size()),
                                                pads.data(), strides.data(), dilations.data(),
                                                CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT),
                "cudnnSetConvolutionNdDescriptor"));
    OPSPLIT_TRY(const Ints groups, ints(std::array{call_.groups}));
    OPSPLIT_CHECK(checked(cudnnSetConvolutionGroupCount(convolution_, groups[0]),
                          "cudnnSetConvolutionGroupCount"));
    // float32 stays float32: by default cuDNN would round it to TensorFloat-32's 10 bits.
    const cudnnMathType_t math =
        call_.element == Element::float16 ? CUDNN_TENSOR_OP_MATH : CUDNN_FMA_MATH;
    OPSPLIT_CHECK(
        checked(cudnnSetConvolutionMathType(convolution_, math), "cudnnSetConvolutionMathType"));
    OPSPLIT_CHECK(activation_.make());
    const cudnnActivationMode_t mode =
        call_.relu ? CUDNN_ACTIVATION_RELU : CUDNN_ACTIVATION_IDENTITY;
    // What cuDNN fuses; ours makes 0 of NaN, too.
    return checked(cudnnSetActivationDescriptor(activation_, mode, CUDNN_NOT_PROPAGATE_NAN, 0),
                   "cudnnSetActivationDescriptor");
  }

  // The first of cuDNN's own order that works here: what it would measure differs from run to run, and
  // with it the answers' last bits, between instances of one operator.
  Result<> choose_algorithm(Gpu& gpu) {
    int count = 0;
    OPSPLIT_CHECK(checked(cudnnGetConvolutionForwardAlgorithmMaxCount(handle_, &count),
                          "cudnnGetConvolutionForwardAlgorithmMaxCount"));
    std::vector<cudnnConvolutionFwdAlgoPerf_t> found(static_cast<std::size_t>(count));
    OPSPLIT_CHECK(checked(cudnnGetConvolutionForwardAlgorithm_v7(handle_, x_, w_, convolution_, y_,
                                                                 static_cast<int>(found.size()),
                                                                 &count, found.data()),
                          "cudnnGetConvolutionForwardAlgorithm_v7"));
    ConvolutionPointers trial;
    std::vector<std::shared_ptr<std::byte>> memory;
    const auto allocate = [&](const Shape& shape) -> Result<std::byte*> {
      OPSPLIT_TRY(const std::uint64_t bytes, byte_size({dtype(), shape}));
      OPSPLIT_TRY(memory.emplace_back(), gpu.allocate(bytes));
      return memory.back().get();
    };
    OPSPLIT_TRY(trial.x, allocate(call_.x));
    OPSPLIT_TRY(trial.w, allocate(call_.w));
    OPSPLIT_TRY(trial.y, allocate(call_.y));
    if (call_.has_addend) {
      OPSPLIT_TRY(trial.addend, allocate(call_.y));
    }
    if (call_.is_fused()) {
      OPSPLIT_TRY(auto bias, zeros(gpu));
      if (call_.has_bias)
        trial.bias = bias.get();
      else
        no_bias_ = bias;
      memory.push_back(std::move(bias));
    }
    auto tried = Result<>(fail(ErrorCode::unsupported, "cuDNN has no algorithm for {} by {}",
                               to_string(call_.x), to_string(call_.w)));
    found.resize(static_cast<std::size_t>(count));
    for (const cudnnConvolutionFwdAlgoPerf_t& each : found) {
      if (each.status != CUDNN_STATUS_SUCCESS) continue;
      // With CUDNN_ACTIVATION_IDENTITY cuDNN fuses this one alone.
      if (call_.is_fused() && !call_.relu &&
          each.algo != CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM)
        continue;
      algorithm_ = each.algo;
      if (cudnnGetConvolutionForwardWorkspaceSize(handle_, x_, w_, convolution_, y_, algorithm_,
                                                  &workspace_bytes_) != CUDNN_STATUS_SUCCESS ||
          workspace_bytes_ > max_workspace)
        continue;
      OPSPLIT_TRY(const auto workspace, gpu.allocate(workspace_bytes_));
      tried = launch(trial, workspace.get(), nullptr);
      OPSPLIT_CHECK(checked(cudaDeviceSynchronize(), "the first run of a convolution by cuDNN"));
      if (tried) return {};
    }
    return fail(ErrorCode::unsupported, "{}", tried.error().message);
  }

  [[nodiscard]] std::uint64_t workspace_bytes() const override { return workspace_bytes_; }

  Result<> launch(const ConvolutionPointers& pointers, std::byte* workspace,
                  Stream stream) override {
    OPSPLIT_CHECK(checked(cudnnSetStream(handle_, stream), "cudnnSetStream"));
    constexpr float one = 1, zero = 0;
    if (!call_.is_fused())
      return checked(
          cudnnConvolutionForward(handle_, &one, x_, pointers.x, w_, pointers.w, convolution_,
                                  algorithm_, workspace, workspace_bytes_, &zero, y_, pointers.y),
          "cudnnConvolutionForward");
    // Without an addend it is y itself, times nothing.
    const void* bias = call_.has_bias ? pointers.bias : no_bias_.get();
    const void* addend = call_.has_addend ? pointers.addend : pointers.y;
    return checked(cudnnConvolutionBiasActivationForward(
                       handle_, &one, x_, pointers.x, w_, pointers.w, convolution_, algorithm_,
                       workspace, workspace_bytes_, call_.has_addend ? &one : &zero, y_, addend,
                       bias_, bias, activation_, y_, pointers.y),
                   "cudnnConvolutionBiasActivationForward");
  }

 private:
  [[nodiscard]] DType dtype() const {
    return call_.element == Element::float16 ? float16 : float32;
  }

  // Packed; cuDNN wants strides with it.
  static Result<> make_tensor(TensorDescriptor& tensor, cudnnDataType_t type, const Shape& shape) {
    OPSPLIT_CHECK(tensor.make());
    OPSPLIT_TRY(const Ints dims, ints(shape.dims()));
    OPSPLIT_TRY(const std::int64_t elements, shape.elements());
    OPSPLIT_CHECK(ints(std::array{elements}).map([](const Ints&) {}));
    Ints strides(dims.size(), 1);
    for (std::size_t axis = dims.size() - 1; axis-- > 0;)
      strides[axis] = strides[axis + 1] * dims[axis + 1];
    return checked(cudnnSetTensorNdDescriptor(tensor, type, static_cast<int>(dims.size()),
                                              dims.data(), strides.data()),
                   "cudnnSetTensorNdDescriptor");
  }

  // A bias of nothing: cuDNN fuses with one only.
  Result<std::shared_ptr<std::byte>> zeros(Gpu& gpu) const {
    const std::vector<std::byte> values(static_cast<std::size_t>(call_.y[1]) * dtype().bytes());
    OPSPLIT_TRY(auto memory, gpu.allocate(values.size()));
    OPSPLIT_CHECK(gpu.upload(memory.get(), values));
    return memory;
  }

  cudnnHandle_t handle_;
  const ConvolutionCall call_;
  TensorDescriptor x_, y_, bias_;
  FilterDescriptor w_;
  ConvolutionDescriptor convolution_;
  ActivationDescriptor activation_;
  cudnnConvolutionFwdAlgo_t algorithm_ = CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM;
  std::size_t workspace_bytes_ = 0;
  std::shared_ptr<std::byte> no_bias_;
};

}  // namespace

Result<std::unique_ptr<Convolver>> make_cudnn_convolver(const ConvolutionCall& call,
                                                        cudnnHandle_t handle, Gpu& gpu) {
  auto convolver = std::make_unique<CudnnConvolver>(handle, call);
  OPSPLIT_CHECK(convolver->prepare());
  OPSPLIT_CHECK(convolver->choose_algorithm(gpu));
  return convolver;
}

}  // namespace opsplit::operators::cuda
