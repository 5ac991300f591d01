// The SDK's GPU side: operators with CUDA kernels of your own. What it shares with the CPU's, nodes and their
// attributes, is in <opsplit/operator.hpp>.
//
//   #include <opsplit/cuda_operator.hpp>
//
//   __global__ void scale(const float* x, float* y, std::size_t count, float factor) {
//     const std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
//     if (i < count) y[i] = factor * x[i];
//   }
//
//   class Scale : public opsplit::sdk::CudaKernel {
//    public:
//     explicit Scale(const opsplit::sdk::Node& node) : factor_(node.real("factor", 1)) {}
//     void launch(opsplit::sdk::DeviceInputs inputs, opsplit::sdk::DeviceOutputs outputs,
//                 const opsplit::sdk::CudaContext& context) override {
//       const std::size_t count = inputs[0].elements();
//       scale<<<(count + 255) / 256, 256, 0, context.stream()>>>(inputs[0].as<float>(), outputs[0].as<float>(),
//                                                                count, factor_);
//     }
//
//    private:
//     float factor_;
//   };
//
//   int main(int argc, char** argv) {
//     using opsplit::sdk::make;
//     return opsplit::sdk::cuda_operator_main(argc, argv, {{"Scale", make<Scale>}});
//   }
//
// Such a program runs operators that the deployment file puts on a GPU (gpu: 0), whose nodes are of the ops that it
// names, or of those that opsplit has kernels on a GPU for; its own go first. CMake: find_package(opsplit) and
// opsplit_add_cuda_operator(NAME SOURCE.cu).
//
// The stream's rules:
//   - All work of launch() goes on context.stream(). What gives the inputs is on it already, or done; what reads the
//     outputs comes behind it. A library gets the stream too (cublasSetStream). Work on a stream of your own is tied
//     to it by events, at both ends.
//   - launch() returns once its work is enqueued. It never waits: no cudaDeviceSynchronize(), which waits for others,
//     no cudaStreamSynchronize(), no default stream, no copy that is not asynchronous.
//   - A node is done when the stream has come past all that launch() put on it. opsplit records an event there, and
//     commits the task once it is complete.
//   - cudaMalloc() and cudaFree() wait for the device: call them when the kernel is made. Memory to compute in comes
//     from workspace_bytes().
//   - The GPU is current for the thread that makes and launches kernels: leave it so. Do not fork without exec.
#pragma once

#include <cuda_runtime_api.h>

#include <opsplit/operator.hpp>

struct __half;
struct __nv_bfloat16;

namespace opsplit::sdk {

// Whether elements of this type can be used as T on a GPU: as on the CPU, and float16 as __half.
template <class T>
constexpr bool lies_on_device_as(DType dtype) {
  if constexpr (std::is_same_v<T, __half>) return dtype == DType::float16;
  if constexpr (std::is_same_v<T, __nv_bfloat16>) return dtype == DType::bfloat16;
  return lies_as<T>(dtype);
}

// A tensor in device memory: row-major, its first element 256-byte aligned or, of what opsplit computes on the way,
// 64. Owns nothing. An optional input that is absent, and an output that nobody reads, has no data.
template <class Byte>
struct BasicDeviceTensor {
  DType dtype = DType::float32;
  std::span<const std::int64_t> shape;
  Byte* data = nullptr;  // the device's: nothing on the host may follow it

  [[nodiscard]] bool present() const { return data != nullptr; }
  [[nodiscard]] std::size_t elements() const {
    std::size_t count = 1;  // no overflow: the plan has checked the type
    for (const std::int64_t dim : shape) count *= static_cast<std::size_t>(dim);
    return count;
  }
  // Where its elements lie. Throws std::invalid_argument if they are of another type, or it is absent.
  template <class T>
  [[nodiscard]] auto as() const {
    using Element = std::conditional_t<std::is_const_v<Byte>, const T, T>;
    if (!lies_on_device_as<T>(dtype) || !present())
      throw std::invalid_argument("a tensor is " +
                                  std::string(present() ? name_of(dtype) : "absent") +
                                  ", which is not what the kernel takes it for");
    return reinterpret_cast<Element*>(data);
  }
};
using DeviceTensor = BasicDeviceTensor<const std::byte>;
using MutableDeviceTensor = BasicDeviceTensor<std::byte>;

// In the order of the node's. They may be used until what was enqueued with them has run; an output never overlaps
// an input, and what was in it before is of no meaning.
using DeviceInputs = std::span<const DeviceTensor>;
using DeviceOutputs = std::span<const MutableDeviceTensor>;

// Where a launch belongs.
class CudaContext {
 public:
  CudaContext(cudaStream_t stream, std::byte* workspace) : stream_(stream), workspace_(workspace) {}
  [[nodiscard]] cudaStream_t stream() const { return stream_; }
  // workspace_bytes() bytes of device memory, 256-byte aligned, for this launch alone.
  [[nodiscard]] std::byte* workspace() const { return workspace_; }

 private:
  cudaStream_t stream_;
  std::byte* workspace_;
};

// What computes a node on a GPU. It is made when the operator starts, with weights (Operand::constant) in the
// host's memory: here is the time for what takes long. An exception from the constructor keeps the operator from
// starting; one from launch(), or a launch that CUDA refuses, fails the request, and the operator goes on. A fault
// on the device (an illegal address) ends the process, the only way to use the GPU again; its work is run by the
// next one.
class CudaKernel {
 public:
  CudaKernel() = default;
  CudaKernel(const CudaKernel&) = delete;
  CudaKernel& operator=(const CudaKernel&) = delete;
  virtual ~CudaKernel() = default;

  // Device memory that a launch needs to compute in. Asked once.
  [[nodiscard]] virtual std::size_t workspace_bytes() const { return 0; }
  // One call at a time, on the thread that made it. By the rules above.
  virtual void launch(DeviceInputs inputs, DeviceOutputs outputs, const CudaContext& context) = 0;
};

using MakeCudaKernel = std::function<std::unique_ptr<CudaKernel>(const Node&)>;
using CudaKernels = std::map<std::string, MakeCudaKernel>;  // by ONNX op

// What the launches before it left behind (null: nothing), and takes it away. CUDA's runtime keeps that for itself,
// and a program is linked with a runtime of its own, other than the library's.
using LastCudaError = const char* (*)();
inline const char* last_cuda_error() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

// As operator_main(), on the GPU that opsplitd says.
OPSPLIT_SDK int cuda_operator_main(int argc, char** argv, const CudaKernels& kernels,
                                   LastCudaError last_error = last_cuda_error);

}  // namespace opsplit::sdk
