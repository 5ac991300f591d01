"""Runs the tasks of an operator in TensorFlow, on the tensors where they lie.

python3 -m opsplit.tensorflow --socket ... --deployment ... --operator ...
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import tensorflow as tf

import numpy as np

from opsplit import Task, Tensor, run_backend
from opsplit._backend import RunTask
from opsplit._graph import Compute, Framework, function_as_task, nodes_as_task


def make_task(task: Task) -> RunTask:
    """Of any nodes whose ops _tensorflow_ops has."""
    _use_threads(task.threads)
    return nodes_as_task(_framework())(task)


def serve(model: Callable[..., Any], argv: Sequence[str] | None = None) -> NoReturn:
    """The whole of a program that runs a model of yours in place of its operator's nodes.

    `model`, of Keras, a tf.function or any callable, is called with the task's inputs in their order and returns its
    output, or a tuple of them. They must have the very shape (or one no larger, of an output that varies) and dtype, are
    copied, and the bytes counted.
    """

    def make(task: Task) -> RunTask:
        _use_threads(task.threads)
        return function_as_task(_framework(), model)(task)

    run_backend(make, argv)


def _use_threads(threads: int) -> None:
    """TensorFlow keeps those that it has begun to compute with, be it to make a user's model."""
    import tensorflow as tf

    if tf.config.threading.get_intra_op_parallelism_threads() == threads:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        text = "TensorFlow keeps the threads that it has begun to compute with"
        print(f"opsplit.tensorflow: the operator is to use {threads}, but {text}", file=sys.stderr, flush=True)


def _framework() -> Framework:
    import tensorflow as tf  # main() has looked whether it is there

    from opsplit._tensorflow_ops import OPS

    def compiled(compute: Compute, task: Task) -> Compute:
        signature = [tf.TensorSpec(spec.shape, spec.dtype) for spec in task.inputs]
        nowhere = [None] * len(task.outputs)
        graph = tf.function(lambda *inputs: compute(list(inputs), nowhere), autograph=False)
        function = graph.get_concrete_function(*signature)
        return lambda inputs, places: function(*inputs)

    return Framework(
        name="tensorflow",
        ops=OPS,
        constant=tf.convert_to_tensor,
        view=lambda tensor: tf.experimental.dlpack.from_dlpack(tensor.__dlpack__()),
        place=lambda tensor: None,  # it computes to memory of its own only
        tensor=tf.Tensor,
        described=lambda tensor: (tensor.dtype.name, tuple(tensor.shape)),
        store=_store,
        running=lambda threads: contextlib.nullcontext(),
        compiled=compiled,
    )


def _store(result: tf.Tensor, output: Tensor) -> int:
    array = np.asarray(memoryview(result))  # unlike numpy(), no copy
    np.copyto(output.numpy(), array)
    return array.nbytes


def main() -> NoReturn:
    if importlib.util.find_spec("tensorflow") is None:
        sys.exit("opsplit.tensorflow: TensorFlow is not installed: pip install tensorflow-cpu")
    run_backend(make_task)


if __name__ == "__main__":
    main()
