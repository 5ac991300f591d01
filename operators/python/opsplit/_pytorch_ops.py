"""ONNX ops as PyTorch's functions: each writes to `out` where PyTorch can."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch

from opsplit._graph import Function, Window, shape_of, softmax_axes
from opsplit._operator import Gpu, Node

Tensor = torch.Tensor
aten = torch.ops.aten  # where the functions of torch.nn.functional can write to `out`


def device_of(gpu: Gpu | None) -> torch.device:
    return torch.device("cpu") if gpu is None else torch.device("cuda", gpu.number)


def _into(function: Callable[..., Any], *arguments: Any, out: Tensor | None) -> Any:
    """Of functions that do not take None for `out`."""
    return function(*arguments) if out is None else function(*arguments, out=out)


def _with(function: Callable[..., Any], *attributes: Any) -> Function:
    """function(*inputs, *attributes, out=)"""
    return lambda *inputs, out: _into(function, *inputs, *attributes, out=out)


def _same(function: Callable[..., Any]) -> Callable[[Node], Function]:
    """Of a function that takes what the op takes, and no attributes."""
    return lambda node: function


def _each_two(function: Callable[..., Any]) -> Callable[[Node], Function]:
    """Of an op of any number of inputs, by a function of two."""

    def run(first: Tensor, *others: Tensor, out: Tensor | None) -> Tensor:
        if not others:
            return first
        # What comes before may be smaller: the last one broadcasts it.
        return function(functools.reduce(function, others[:-1], first), others[-1], out=out)

    return lambda node: run


def _div(node: Node) -> Function:
    def run(a: Tensor, b: Tensor, *, out: Tensor | None) -> Tensor:
        return torch.div(a, b, rounding_mode=None if a.is_floating_point() else "trunc", out=out)

    return run


def _relu(node: Node) -> Function:
    return lambda x, *, out: torch.clamp_min(x, 0, out=out)


def _leaky_relu(node: Node) -> Function:
    return _with(aten.leaky_relu, node.attributes.get("alpha", 0.01))


def _elu(node: Node) -> Function:
    return _with(aten.elu, node.attributes.get("alpha", 1.0))


def _prelu(node: Node) -> Function:
    return lambda x, slope, *, out: torch.addcmul(torch.clamp_min(x, 0), slope, torch.clamp_max(x, 0), out=out)


def _hard_sigmoid(node: Node) -> Function:
    alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    return lambda x, *, out: torch.mul(x, alpha, out=out).add_(beta).clamp_(0, 1)


def _hard_swish(node: Node) -> Function:
    return _with(aten.hardswish)


def _clip(node: Node) -> Function:
    low, high = node.attributes.get("min"), node.attributes.get("max")  # before opset 11

    def run(x: Tensor, minimum: Tensor | None = None, maximum: Tensor | None = None, *, out: Tensor | None) -> Tensor:
        limits = [value for value in (minimum, maximum, low, high) if value is not None]
        if not limits:
            return x
        return torch.clamp(x, low if minimum is None else minimum, high if maximum is None else maximum, out=out)

    return run


def _softmax(function: Callable[..., Any]) -> Callable[[Node], Function]:
    def make(node: Node) -> Function:
        seen, axis = softmax_axes(node)
        shape = shape_of(node)

        def run(x: Tensor, *, out: Tensor | None) -> Tensor:
            target = None if out is None else out.view(seen)
            result = _into(function, x.reshape(seen), axis, False, out=target)
            return result.view(shape) if out is None else out

        return run

    return make


def _batch_normalization(node: Node) -> Function:
    epsilon = node.attributes.get("epsilon", 1e-5)
    per_channel = (-1,) + (1,) * (len(shape_of(node)) - 2)

    def run(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor, *, out: Tensor | None) -> Tensor:
        factor = scale / torch.sqrt(var + epsilon)
        shift = bias - mean * factor
        return torch.addcmul(shift.view(per_channel), x, factor.view(per_channel), out=out)

    return run


def _lrn(node: Node) -> Function:
    size, bias = node.attributes["size"], node.attributes.get("bias", 1.0)
    alpha, beta = node.attributes.get("alpha", 1e-4), node.attributes.get("beta", 0.75)

    def run(x: Tensor, *, out: Tensor | None) -> Tensor:
        squares = torch.nn.functional.pad((x * x).flatten(2)[:, None], (0, 0, (size - 1) // 2, size // 2))
        average = torch.nn.functional.avg_pool2d(squares, (size, 1), 1)  # over neighbouring channels
        return torch.div(x, average.mul_(alpha).add_(bias).pow_(beta).view(x.shape), out=out)

    return run


def _gemm(node: Node) -> Function:
    alpha, beta = node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)
    a_lies, b_lies = node.attributes.get("transA", 0), node.attributes.get("transB", 0)

    def run(a: Tensor, b: Tensor, c: Tensor | None = None, *, out: Tensor | None) -> Tensor:
        a, b = a.t() if a_lies else a, b.t() if b_lies else b
        if c is not None:
            return torch.addmm(c, a, b, alpha=alpha, beta=beta, out=out)
        result = torch.mm(a, b, out=out)
        return result if alpha == 1 else result.mul_(alpha)

    return run


def _padded(x: Tensor, window: Window, value: float) -> Tensor:
    return torch.nn.functional.pad(x, [pad for pads in reversed(window.pads) for pad in pads], value=value)


def _conv(node: Node) -> Function:
    weights = node.inputs[1]
    assert weights is not None
    window = Window.of(node, weights.shape[2:])
    group = node.attributes.get("group", 1)
    padding = window.begin if window.symmetric else (0,) * len(window.kernel)

    # PyTorch's convolutions only write to memory of their own.
    def run(x: Tensor, weights: Tensor, bias: Tensor | None = None, *, out: Tensor | None) -> Tensor:
        x = x if window.symmetric else _padded(x, window, 0)
        return torch.convolution(
            x, weights, bias, window.strides, padding, window.dilations, False, (0,) * len(window.kernel), group
        )

    return run


def _pool(make: Callable[[Node, Window], Function]) -> Callable[[Node], Function]:
    """Of images with one axis, pooled as images of one row, two or three."""

    def make_pool(node: Node) -> Function:
        window = Window.of(node, node.attributes["kernel_shape"])
        if len(window.kernel) > 3:
            raise ValueError(f"node {node.name}: pytorch pools over three axes at the most; use backend: onnxruntime")
        function = make(node, window)
        if len(window.kernel) > 1:
            return function

        def run(x: Tensor, *, out: Tensor | None) -> Tensor:
            result = function(x.unsqueeze(2), out=None if out is None else out.unsqueeze(2))
            return result.squeeze(2) if out is None else out

        return run

    return make_pool


def _max_pool(node: Node, window: Window) -> Function:
    window = window.in_two_dimensions()
    function = aten.max_pool2d_with_indices if len(window.kernel) == 2 else aten.max_pool3d_with_indices
    built_in = window.symmetric and all(2 * pad <= size for pad, size in zip(window.begin, window.kernel))
    padding = window.begin if built_in else (0,) * len(window.kernel)

    def run(x: Tensor, *, out: Tensor | None) -> Tensor:
        x = x if built_in else _padded(x, window, -math.inf)
        arguments = x, window.kernel, window.strides, padding, window.dilations
        if out is None:
            return function(*arguments)[0]
        function(*arguments, out=out, indices=torch.empty_like(out, dtype=torch.int64))
        return out

    return run


def _average_pool(node: Node, window: Window) -> Function:
    if any(dilation != 1 for dilation in window.dilations):
        raise ValueError(f"node {node.name}: pytorch's AveragePool has no dilations; use backend: onnxruntime")
    counts = window.averaged(node)
    if len(window.kernel) == 1:
        counts = counts[:, :, None]
    window = window.in_two_dimensions()
    average = aten.avg_pool2d if len(window.kernel) == 2 else aten.avg_pool3d
    padded = any(pad for pads in window.pads for pad in pads)
    elements = math.prod(window.kernel)
    # PyTorch divides by all elements of a window: what is left to do where fewer count.
    correction = None
    if (counts != elements).any():
        correction = torch.from_numpy((elements / counts).astype("float32")).to(device_of(node.gpu))

    def run(x: Tensor, *, out: Tensor | None) -> Tensor:
        x = _padded(x, window, 0) if padded else x
        result = _into(average, x, window.kernel, window.strides, out=out)
        return result if correction is None else torch.mul(result, correction, out=out)

    return run


def _global_pool(function: Callable[..., Any]) -> Callable[[Node], Function]:
    def make(node: Node) -> Function:
        axes = tuple(range(2, len(shape_of(node))))
        return lambda x, *, out: function(x, dim=axes, keepdim=True, out=out)

    return make


def _concat(node: Node) -> Function:
    axis = node.attributes["axis"]
    return lambda *inputs, out: torch.cat(inputs, axis, out=out)


def _transpose(node: Node) -> Function:
    order = node.attributes.get("perm", list(reversed(range(len(shape_of(node))))))

    def run(x: Tensor, *, out: Tensor | None) -> Tensor:
        seen = x.permute(order)
        return seen if out is None else out.copy_(seen)

    return run


def _view(node: Node) -> Function:
    shape = shape_of(node)
    return lambda x, *inputs, out: x.reshape(shape)


OPS: dict[str, Callable[[Node], Function]] = {
    "Abs": _same(torch.abs),
    "Add": _same(torch.add),
    "AveragePool": _pool(_average_pool),
    "BatchNormalization": _batch_normalization,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "Div": _div,
    "Dropout": _view,
    "Elu": _elu,
    "Erf": _same(torch.erf),
    "Exp": _same(torch.exp),
    "Flatten": _view,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool(torch.mean),
    "GlobalMaxPool": _global_pool(torch.amax),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "Identity": _view,
    "LRN": _lrn,
    "LeakyRelu": _leaky_relu,
    "Log": _same(torch.log),
    "LogSoftmax": _softmax(aten._log_softmax),
    "MatMul": _same(torch.matmul),
    "Max": _each_two(torch.maximum),
    "MaxPool": _pool(_max_pool),
    "Min": _each_two(torch.minimum),
    "Mul": _same(torch.mul),
    "Neg": _same(torch.neg),
    "PRelu": _prelu,
    "Relu": _relu,
    "Reshape": _view,
    "Sigmoid": _same(torch.sigmoid),
    "Softmax": _softmax(aten._softmax),
    "Sqrt": _same(torch.sqrt),
    "Squeeze": _view,
    "Sub": _same(torch.sub),
    "Sum": _each_two(torch.add),
    "Tanh": _same(torch.tanh),
    "Transpose": _transpose,
    "Unsqueeze": _view,
}
