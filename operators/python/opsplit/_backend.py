"""Backends: programs that run whole tasks, whatever ops they are made of."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Optional

from opsplit import _core
from opsplit._operator import Gpu, Node


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """A tensor by name. `dtype` is a numpy.dtype, or 'bfloat16', which NumPy does not have. Of an output that `varies` the
    sizes follow from data, and are at most those of `shape`."""

    name: str
    dtype: Any
    shape: tuple[int, ...]
    varies: bool = False


@dataclasses.dataclass(frozen=True)
class Task:
    """Nodes that run in one go."""

    name: str
    make_model: Callable[[], bytes]
    inputs: tuple[TensorSpec, ...]  # that change from request to request
    outputs: tuple[TensorSpec, ...]
    threads: int  # to compute with
    nodes: tuple[Node, ...] = ()  # the same as nodes, in the order of execution; they name what they read and give
    gpu: Gpu | None = None  # None: it runs on the CPU

    @property
    def model(self) -> bytes:
        """A serialized ONNX model of just these nodes, weights included: made anew, until make_task returns."""
        return self.make_model()


def _specs(described: Sequence[tuple[Any, ...]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(*spec) for spec in described)


RunTask = Callable[[tuple[_core.Tensor, ...], tuple[_core.Tensor, ...]], Optional[int]]
MakeTask = Callable[[Task], RunTask]


def run_backend(make_task: MakeTask, argv: Sequence[str] | None = None, *, gpu: bool = False) -> NoReturn:
    """The whole of a program whose tasks are each run by one callable: as opsplit.main, for any ops.

    `make_task(task)` is called once for each task when the operator starts, and again if it gets another number of
    threads. What it returns is called with the task's inputs and outputs, tuples of Tensors in their order, valid until it
    returns. It returns None, or how many bytes it had to copy. Of an output that varies it must say the sizes, even if they
    are the largest: it writes to the Tensor that `output.resize(shape)` returns.

    With `gpu` it may also be an operator that the deployment file puts on a GPU (`task.gpu`). Tensors then lie in its memory
    and are taken by DLPack; what is called only enqueues work, on the operator's stream or on the one it has taken them for.
    """

    def make(described: tuple[Any, ...]) -> Callable[..., Any]:
        name, make_model, inputs, outputs, threads, nodes, on_gpu = described
        known = tuple(map(Node.described, nodes))
        return make_task(
            Task(name, make_model, _specs(inputs), _specs(outputs), threads, known, Gpu.described(on_gpu))
        )

    sys.exit(_core.backend_main(list(sys.argv if argv is None else argv), make, gpu))
