"""Functions and classes as operators: opsplit.operator and opsplit.main."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from opsplit import _core


def type_text(dtype: Any, shape: Sequence[int]) -> str:
    return f"{dtype} {'x'.join(map(str, shape)) or 'scalar'}"


@dataclasses.dataclass(frozen=True)
class Operand:
    """An input or output of a node. `dtype` is a numpy.dtype, or 'bfloat16', which NumPy does not have."""

    name: str  # of the value in the model
    dtype: Any
    shape: tuple[int, ...]
    constant: Any = None  # a read-only numpy.ndarray, where the model has the values

    def __str__(self) -> str:
        return type_text(self.dtype, self.shape)


@dataclasses.dataclass(frozen=True)
class Gpu:
    """The GPU that an operator runs on. All its work goes on one stream: torch.cuda.ExternalStream(gpu.stream, gpu.number)."""

    number: int  # as this process counts them: torch.device("cuda", gpu.number)
    stream: int  # a cudaStream_t

    @classmethod
    def described(cls, described: tuple[int, int] | None) -> Gpu | None:
        """From what opsplit._core says of it."""
        return None if described is None else cls(*described)


@dataclasses.dataclass(frozen=True)
class Node:
    """A node of the model, as its operator is made for it. Absent inputs and outputs are None."""

    name: str
    op_type: str
    opset: int
    attributes: Mapping[str, Any]
    inputs: tuple[Operand | None, ...]
    outputs: tuple[Operand | None, ...]
    gpu: Gpu | None = None  # None: it runs on the CPU

    @classmethod
    def described(cls, described: tuple[Any, ...]) -> Node:
        """From what opsplit._core says of it."""
        *rest, inputs, outputs, gpu = described
        return cls(*rest, _operands(inputs), _operands(outputs), Gpu.described(gpu))


class Operator:
    """What runs the nodes of one ONNX op; made by opsplit.operator. Calling it calls what was decorated."""

    def __init__(self, op_type: str, implementation: Callable[..., Any]) -> None:
        self.op_type = op_type
        self.implementation = implementation
        functools.update_wrapper(self, implementation, updated=())

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self.implementation(*arguments, **keywords)

    def prepare(self, described: tuple[Any, ...]) -> tuple[Callable[..., int | None], dict[str, Any]]:
        """The function that computes a node, and its keyword arguments besides `out`. Called by opsplit._core."""
        node = Node.described(described)
        function: Any = self.implementation
        if inspect.isclass(self.implementation):
            function = function(node)
        parameters = inspect.signature(function).parameters.values()
        keyword_only = {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
        _check_positional(self.op_type, node, parameters)
        keywords = {key: value for key, value in node.attributes.items() if key in keyword_only and key != "out"}
        if "node" in keyword_only:
            keywords["node"] = node
        for parameter in parameters:
            if parameter.name in keyword_only - keywords.keys() - {"out"} and parameter.default is parameter.empty:
                raise TypeError(f"its parameter '{parameter.name}' has no default, and the node no such attribute")
        if "out" in keyword_only:
            return function, keywords
        if node.gpu is not None:
            raise TypeError("on a GPU it must write to `out`, a keyword-only parameter: nothing is copied there")
        return _Returning(function, node), keywords


def _operands(described: Sequence[tuple[Any, ...] | None]) -> tuple[Operand | None, ...]:
    return tuple(None if operand is None else Operand(*operand) for operand in described)


def _check_positional(op_type: str, node: Node, parameters: Any) -> None:
    """That the function takes as many inputs as the node has."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [parameter for parameter in parameters if parameter.kind in kinds]
    needed = sum(parameter.default is parameter.empty for parameter in positional)
    open_ended = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
    if not needed <= len(node.inputs) or (len(node.inputs) > len(positional) and not open_ended):
        takes = f"{needed} or more" if open_ended else str(len(positional))
        raise TypeError(f"it takes {takes} inputs, {op_type} of this node has {len(node.inputs)}")


class _Returning:
    """A function that returns its results: they are copied to where they belong, and the bytes counted."""

    def __init__(self, function: Callable[..., Any], node: Node) -> None:
        self.function = function
        self.outputs = node.outputs

    def __call__(self, *inputs: Any, out: Any, **keywords: Any) -> int:
        returned = self.function(*inputs, **keywords)
        single = len(self.outputs) == 1
        if not single and not isinstance(returned, (tuple, list)):
            raise TypeError(f"returned {type(returned).__name__}, must be a tuple of {len(self.outputs)} outputs")
        results = (returned,) if single else returned
        if len(results) != len(self.outputs):
            raise ValueError(f"returned {len(results)} outputs, must be {len(self.outputs)}")
        copied = 0
        for index, (result, target, spec) in enumerate(zip(results, (out,) if single else out, self.outputs)):
            if target is None or spec is None:
                continue  # nobody reads it
            array = np.asarray(result)
            if array.shape != spec.shape or array.dtype != spec.dtype:
                raise ValueError(f"output {index} is {type_text(array.dtype, array.shape)}, must be {spec}")
            np.copyto(target.numpy(), array)
            copied += array.nbytes
        return copied


def operator(op_type: str) -> Callable[[Callable[..., Any]], Operator]:
    """Decorates a function, or a class, that runs the nodes of one ONNX op.

    The function is called with a Tensor for each input of the node, in order, None where an optional one is absent. If it
    has a keyword-only parameter `out`, that is the Tensor to write to, or a tuple of them where the node has several
    outputs (None where nobody reads one), and it returns nothing. Otherwise it returns the arrays, which are checked
    and copied; the bytes are counted.

    Attributes of the node are passed to keyword-only parameters of their names; where the node has none, the parameter's
    default applies. `node`, keyword-only, is the Node itself.

    A class is made once for each node, `cls(node)`, when the operator starts; its __call__ is the function.

    On a GPU (`node.gpu`; opsplit.main(..., gpu=True)) Tensors lie in its memory and are taken by DLPack: torch.from_dlpack(x).
    The function only enqueues work, on the operator's stream or on the one that it has taken them for.

    Inputs and outputs are valid until the function returns: a view that is kept longer fails the request. So does an
    exception; the client gets its type and text, and the operator goes on.
    """

    def decorate(implementation: Callable[..., Any]) -> Operator:
        return Operator(op_type, implementation)

    return decorate


def main(*operators: Operator, argv: Sequence[str] | None = None, gpu: bool = False) -> NoReturn:
    """The whole of a program that runs operators: attaches to opsplitd as the command line says (--help), then runs tasks
    until the deployment ends, or SIGTERM or SIGINT comes. Nodes of other ops run on opsplit's own kernels.

    With `gpu` it may also be an operator that the deployment file puts on a GPU. There opsplit's own kernels are those that
    take no cuDNN and cuBLAS: convolutions and products of matrices must be functions here."""
    known = {}
    for entry in operators:
        if not isinstance(entry, Operator):
            raise TypeError(f"{entry!r} is no operator: decorate it with @opsplit.operator(ONNX_OP)")
        if entry.op_type in known:
            raise ValueError(f"two operators stand in for {entry.op_type}")
        known[entry.op_type] = entry.prepare
    sys.exit(_core.operator_main(list(sys.argv if argv is None else argv), known, gpu))
