#include "daemon/deployment.hpp"

namespace opsplit::daemon {

std::string commented_example() {
  return R"(# A deployment of opsplit: a model, how it is split into operators, and what they run on.
# Every setting but `model` may be left out; what follows a '#' is a comment.
# The reference: docs/deployment.md
#
#   opsplit plan deployment.yaml      shows the operators; nothing is started
#   opsplit up deployment.yaml        starts them

# The ONNX model, relative to this file.
model: digits.onnx

# What `opsplit ps` calls the deployment: 1 to 32 of a-z, 0-9, '_' and '-'.
# Left out: the model's file name without its ending.
name: digits

# Which nodes run together, in a process of their own:
#   fused      all of them in one operator
#   by-type    one operator per type of node: all convolutions, all pools, ... (the default)
#   per-node   one operator per node
#   stages:4   four operators of about equal cost, one after the other
# To split by hand, leave `split` out and list the nodes of each operator below.
split: by-type

# Sizes of inputs for which the model has names instead of numbers, and the largest sizes of outputs
# whose sizes follow from data.
# shapes:
#   image: [1, 1, 8, 8]

# Requests in flight at most, 1 to 64. Each has its memory from the start: `opsplit plan` says how
# much that is.
depth: 8

# How many of them one client may have; left out: all.
# slots_per_client: 4

# What to do with cores that no operator asks for:
#   latency      operators take turns on a request, so each may use all of them (the default)
#   throughput   all operators work at the same time: the cores are divided by cost
objective: latency

# In containers: a program of the image opsplit/opsplitd that runs once beside the operators.
# client: [digits-classify, --data, .]

# Settings for operators, by the names that `opsplit plan` shows.
# operators:
#   conv:
#     cores: "0-1"        # these CPUs; or a number of cores, such as 2
#     instances: 2        # processes that share the operator's work
#     standby: 1          # and one more, that takes the place of one that dies
#     hung_after: 5       # seconds without progress on a task; default: by what its tasks take
#   pool: {cores: 1}
#   gemm: {backend: attach}  # nobody, until: opsplit attach NAME/gemm -- ./my_operator
#   head: {gpu: 0, stream: {priority: high}}  # on a GPU, as `opsplit doctor` numbers them
#   relu: {backend: pytorch}  # or onnxruntime, tensorflow: through opsplit's Python package
#
# Split by hand (instead of `split`): every node must be in one operator.
# operators:
#   features: {nodes: [conv1..pool2]}    # a range, in the order of execution
#   head: {ops: [Gemm, Softmax]}         # all nodes of these types
)";
}

}  // namespace opsplit::daemon
