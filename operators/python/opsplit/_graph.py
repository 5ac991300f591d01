"""Tasks in a framework: their nodes one after the other, or a function of the user's in place of all of them."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from opsplit._backend import MakeTask, RunTask, Task, TensorSpec
from opsplit._core import Tensor
from opsplit._operator import Node, type_text

Function = Callable[..., Any]  # function(*inputs, out) -> result; `out` is where it may write its result, or None
Compute = Callable[[list[Any], list[Any]], Sequence[Any]]  # compute(inputs, places) -> outputs


@dataclasses.dataclass(frozen=True)
class Framework:
    """What differs from one to the next. Its tensors are opaque here."""

    name: str  # of the backend
    ops: Mapping[str, Callable[[Node], Function]]  # what computes a node, by its ONNX op
    constant: Callable[[Any], Any]  # a tensor with the values of an Operand.constant
    view: Callable[[Tensor], Any]  # a tensor in the same memory
    place: Callable[[Tensor], Any]  # the same to write to; None where the framework can't
    tensor: type | tuple[type, ...]  # of its tensors
    described: Callable[[Any], tuple[str, tuple[int, ...]]]  # dtype and shape of a tensor
    store: Callable[[Any, Tensor], int]  # copies a result to where it belongs, unless it is there; the bytes
    running: Callable[[int], AbstractContextManager[Any]]  # around a run on so many threads
    compiled: Callable[[Compute, Task], Compute] = lambda compute, task: compute  # of a task's nodes, when it starts
    written: Callable[[Any], bool] = lambda tensor: False  # whether somebody has written to the view of an input


def shape_of(node: Node) -> tuple[int, ...]:
    """The shape of what the node gives."""
    assert node.outputs[0] is not None
    return node.outputs[0].shape


def nodes_as_task(framework: Framework) -> MakeTask:
    """Tasks of any nodes whose ops the framework's table has."""

    def make_task(task: Task) -> RunTask:
        return _running(framework, task, framework.compiled(_Walk(framework, task), task))

    return make_task


def function_as_task(framework: Framework, function: Function) -> MakeTask:
    """The function in place of the task: called with its inputs in order, returns its output, or a tuple of them."""

    def make_task(task: Task) -> RunTask:
        def call(inputs: list[Any], places: list[Any]) -> Sequence[Any]:
            returned = function(*inputs)
            results = returned if isinstance(returned, (tuple, list)) else (returned,)
            if len(results) != len(task.outputs):
                names = ", ".join(spec.name for spec in task.outputs)
                raise ValueError(f"{len(results)} outputs returned, the task has {len(task.outputs)}: {names}")
            return results

        return _running(framework, task, call)

    return make_task


def _running(framework: Framework, task: Task, compute: Compute) -> RunTask:
    def run(inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> int:
        with framework.running(task.threads):
            views = list(map(framework.view, inputs))
            results = compute(views, list(map(framework.place, outputs)))
            for spec, view in zip(task.inputs, views):
                if framework.written(view):  # others read it, or this task once more: better no answer than a wrong one
                    raise ValueError(f"input '{spec.name}' was written to: take inplace=False, or a clone() of it")
            return sum(map(functools.partial(_deliver, framework), results, task.outputs, outputs))

    return run


def _deliver(framework: Framework, result: Any, spec: TensorSpec, output: Tensor) -> int:
    if not isinstance(result, framework.tensor):
        raise TypeError(f"output '{spec.name}' is a {type(result).__name__}, must be a {framework.name} tensor")
    dtype, shape = framework.described(result)
    if spec.varies and dtype == str(spec.dtype):
        return framework.store(result, output.resize(shape))
    if dtype != str(spec.dtype) or shape != spec.shape:
        wanted = type_text(spec.dtype, spec.shape)
        raise ValueError(f"output '{spec.name}' is {type_text(dtype, shape)}, the task's is {wanted}")
    return framework.store(result, output)


@dataclasses.dataclass(frozen=True)
class _Step:
    function: Function
    reads: tuple[str | None, ...]
    gives: str
    drops: tuple[str, ...]  # what nobody reads afterwards


class _Walk:
    """Computes the nodes in their order, intermediate results in the framework's own memory."""

    def __init__(self, framework: Framework, task: Task) -> None:
        self.inputs = tuple(spec.name for spec in task.inputs)
        self.outputs = tuple(spec.name for spec in task.outputs)
        self.constants: dict[str, Any] = {}
        steps: list[_Step] = []
        kept = {*self.inputs, *self.outputs}
        for node in reversed(task.nodes):
            reads = tuple(None if read is None else read.name for read in node.inputs)
            for read in node.inputs:
                if read is not None and read.constant is not None and read.name not in self.constants:
                    self.constants[read.name] = framework.constant(read.constant)
            gives = next(given.name for given in node.outputs if given is not None)
            drops = tuple({read for read in reads if read is not None} - kept - self.constants.keys())
            kept.update(drops)
            steps.append(_Step(_function(framework, node), reads, gives, drops))
        self.steps = tuple(reversed(steps))
        known = {*self.inputs, *self.constants, *(step.gives for step in steps)}
        for name in self.outputs:
            if name not in known:
                raise ValueError(f"task {task.name}: no node gives its output '{name}'; use backend: native")

    def __call__(self, inputs: list[Any], places: list[Any]) -> Sequence[Any]:
        values = {None: None, **self.constants, **dict(zip(self.inputs, inputs))}
        by_name = dict(zip(self.outputs, places))
        for step in self.steps:
            values[step.gives] = step.function(*(values[name] for name in step.reads), out=by_name.get(step.gives))
            for name in step.drops:
                del values[name]
        return [values[name] for name in self.outputs]


def _function(framework: Framework, node: Node) -> Function:
    make = framework.ops.get(node.op_type)
    if make is None:
        raise ValueError(
            f"node {node.name}: {framework.name} has no {node.op_type}; use backend: onnxruntime "
            f"({framework.name} has {', '.join(sorted(framework.ops))})"
        )
    if any(output is not None for output in node.outputs[1:]):
        raise ValueError(
            f"node {node.name}: {framework.name} gives the first output of {node.op_type} only; "
            "use backend: onnxruntime"
        )
    for attribute, value in node.attributes.items():
        if attribute not in _ATTRIBUTES.get(node.op_type, "").split() and _NEUTRAL.get(attribute) != value:
            raise ValueError(
                f"node {node.name}: {framework.name}'s {node.op_type} does not know {attribute}={value!r}; "
                "use backend: onnxruntime"
            )
    if node.op_type == "Dropout" and len(node.inputs) > 2 and node.inputs[2] is not None:
        training = node.inputs[2].constant
        if training is None or training:
            raise ValueError(f"node {node.name}: its training_mode is not false: export the model for inference")
    return make(node)


# What the tables read, or what the shape of a result says. Nodes come with others where opsplit has no kernel for them.
_ATTRIBUTES = {
    "AveragePool": "kernel_shape strides pads dilations ceil_mode count_include_pad",
    "BatchNormalization": "epsilon momentum",
    "Clip": "min max",
    "Concat": "axis",
    "Conv": "kernel_shape strides pads dilations group",
    "Dropout": "ratio seed",
    "Elu": "alpha",
    "Flatten": "axis",
    "Gemm": "alpha beta transA transB",
    "HardSigmoid": "alpha beta",
    "LRN": "size alpha beta bias",
    "LeakyRelu": "alpha",
    "LogSoftmax": "axis",
    "MaxPool": "kernel_shape strides pads dilations ceil_mode",
    "Reshape": "allowzero",
    "Softmax": "axis",
    "Squeeze": "axes",
    "Transpose": "perm",
    "Unsqueeze": "axes",
}
# Values that say what is so without them.
_NEUTRAL = {"auto_pad": "NOTSET", "spatial": 1, "storage_order": 0, "training_mode": 0}


@dataclasses.dataclass(frozen=True)
class Window:
    """A window that moves over an image, as a convolution's or a pool's; one entry per spatial axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]  # padding
    # Padding that the output's size implies: with ceil_mode more than the model says, where the last window does not
    # fit exactly less, down to negative.
    end: tuple[int, ...]

    @classmethod
    def of(cls, node: Node, kernel: Sequence[int]) -> Window:
        image = node.inputs[0]
        assert image is not None
        axes = len(kernel)
        strides = node.attributes.get("strides", [1] * axes)
        dilations = node.attributes.get("dilations", [1] * axes)
        begin = node.attributes.get("pads", [0] * 2 * axes)[:axes]
        sizes = zip(image.shape[2:], shape_of(node)[2:], kernel, strides, dilations, begin)
        end = tuple((y - 1) * stride + (k - 1) * dilation + 1 - x - pad for x, y, k, stride, dilation, pad in sizes)
        return cls(tuple(kernel), tuple(strides), tuple(dilations), tuple(begin), end)

    @property
    def pads(self) -> list[tuple[int, int]]:
        """What must be there for every window; no element beyond it is in one."""
        return [(begin, max(end, 0)) for begin, end in zip(self.begin, self.end)]

    @property
    def symmetric(self) -> bool:
        """Whether padding by `begin` on both sides gives as many windows."""
        return all(0 <= begin - end < stride for begin, end, stride in zip(self.begin, self.end, self.strides))

    def in_two_dimensions(self) -> Window:
        """The same over an image of one row, where there is one axis."""
        if len(self.kernel) != 1:
            return self
        return Window((1, *self.kernel), (1, *self.strides), (1, *self.dilations), (0, *self.begin), (0, *self.end))

    def averaged(self, node: Node) -> np.ndarray:
        """By how many elements AveragePool divides each of its outputs, of shape 1 x 1 x image."""
        image = node.inputs[0]
        assert image is not None
        axes = len(self.kernel)
        declared = node.attributes.get("pads", [0] * 2 * axes)[axes:]
        counts_padding = node.attributes.get("count_include_pad", 0)
        per_axis = []
        for axis, (size, windows) in enumerate(zip(image.shape[2:], shape_of(node)[2:])):
            starts = np.arange(windows) * self.strides[axis] - self.begin[axis]
            positions = starts[:, None] + np.arange(self.kernel[axis]) * self.dilations[axis]
            low, high = (-self.begin[axis], size + declared[axis]) if counts_padding else (0, size)
            per_axis.append(np.maximum(((positions >= low) & (positions < high)).sum(axis=1), 1))
        counts = functools.reduce(operator.mul, np.ix_(*per_axis))
        return counts[None, None]


def softmax_axes(node: Node) -> tuple[tuple[int, ...], int]:
    """The shape that Softmax sees its input in, and the axis there: before opset 13 a matrix."""
    shape = shape_of(node)
    axis = node.attributes.get("axis", -1 if node.opset >= 13 else 1)
    if node.opset >= 13:
        return shape, axis
    axis %= len(shape)
    return (int(np.prod(shape[:axis])), int(np.prod(shape[axis:]))), 1
