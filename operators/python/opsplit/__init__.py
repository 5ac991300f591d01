"""opsplit in Python: operators of your own, whole-task backends, and a client.

An operator stands in for an ONNX op, and gets tensors where they lie in shared memory:

    import numpy as np
    import opsplit

    @opsplit.operator("Relu")
    def relu(x, *, out):
        np.maximum(x.numpy(), 0, out=out.numpy())

    if __name__ == "__main__":
        opsplit.main(relu)

A client asks a deployment that runs:

    answer = opsplit.connect("digits").infer(image)
"""

from opsplit._backend import Task, TensorSpec, run_backend
from opsplit._client import Client, Request, connect
from opsplit._core import (
    AlreadyExists,
    EpochLost,
    Error,
    InvalidInput,
    LimitExceeded,
    NotFound,
    OperatorFailed,
    Refused,
    SystemFailed,
    Tensor,
    TimedOut,
    Unavailable,
    Unsupported,
    __version__,
)
from opsplit._operator import Gpu, Node, Operand, Operator, main, operator

__all__ = [
    "AlreadyExists",
    "Client",
    "EpochLost",
    "Error",
    "Gpu",
    "InvalidInput",
    "LimitExceeded",
    "Node",
    "NotFound",
    "Operand",
    "Operator",
    "OperatorFailed",
    "Refused",
    "Request",
    "SystemFailed",
    "Task",
    "Tensor",
    "TensorSpec",
    "TimedOut",
    "Unavailable",
    "Unsupported",
    "__version__",
    "connect",
    "main",
    "operator",
    "run_backend",
]
