"""ONNX ops as TensorFlow's functions. Its images are NHWC on CPUs: they are transposed around what needs that."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from opsplit._graph import Function, Window, shape_of, softmax_axes
from opsplit._operator import Node

Tensor = tf.Tensor
Make = Callable[[Node], Function]


def _same(function: Callable[..., Any]) -> Make:
    """Of a function that takes what the op takes, and no attributes."""
    return lambda node: lambda *inputs, out: function(*inputs)


def _each_two(function: Callable[..., Any]) -> Make:
    """Of an op of any number of inputs, by a function of two."""
    return lambda node: lambda *inputs, out: functools.reduce(function, inputs)


def _div(node: Node) -> Function:
    return lambda a, b, *, out: tf.divide(a, b) if a.dtype.is_floating else tf.truncatediv(a, b)


def _leaky_relu(node: Node) -> Function:
    alpha = node.attributes.get("alpha", 0.01)
    return lambda x, *, out: tf.nn.leaky_relu(x, alpha)


def _elu(node: Node) -> Function:
    alpha = node.attributes.get("alpha", 1.0)
    return lambda x, *, out: tf.maximum(x, 0) + alpha * tf.math.expm1(tf.minimum(x, 0))


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return tf.maximum(x, 0) + slope * tf.minimum(x, 0)


def _hard_sigmoid(node: Node) -> Function:
    alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    return lambda x, *, out: tf.clip_by_value(alpha * x + beta, 0, 1)


def _hard_swish(x: Tensor) -> Tensor:
    return x * tf.clip_by_value(x / 6 + 0.5, 0, 1)


def _clip(node: Node) -> Function:
    low, high = node.attributes.get("min"), node.attributes.get("max")  # before opset 11

    def run(x: Tensor, minimum: Tensor | None = None, maximum: Tensor | None = None, *, out: None) -> Tensor:
        minimum = low if minimum is None else minimum
        maximum = high if maximum is None else maximum
        x = x if minimum is None else tf.maximum(x, minimum)
        return x if maximum is None else tf.minimum(x, maximum)

    return run


def _softmax(function: Callable[..., Tensor]) -> Make:
    def make(node: Node) -> Function:
        seen, axis = softmax_axes(node)
        return lambda x, *, out: tf.reshape(function(tf.reshape(x, seen), axis), shape_of(node))

    return make


def _batch_normalization(node: Node) -> Function:
    epsilon = node.attributes.get("epsilon", 1e-5)
    per_channel = (-1,) + (1,) * (len(shape_of(node)) - 2)

    def run(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor, *, out: None) -> Tensor:
        factor = scale * tf.math.rsqrt(var + epsilon)
        return x * tf.reshape(factor, per_channel) + tf.reshape(bias - mean * factor, per_channel)

    return run


def _lrn(node: Node) -> Function:
    size, bias = node.attributes["size"], node.attributes.get("bias", 1.0)
    alpha, beta = node.attributes.get("alpha", 1e-4), node.attributes.get("beta", 0.75)
    shape = shape_of(node)
    as_image = (shape[0], shape[1], math.prod(shape[2:]), 1)  # of channels and positions

    def run(x: Tensor, *, out: None) -> Tensor:
        squares = tf.pad(tf.reshape(x * x, as_image), [(0, 0), ((size - 1) // 2, size // 2), (0, 0), (0, 0)])
        average = tf.nn.avg_pool2d(squares, (size, 1), 1, "VALID")  # over neighbouring channels
        return x / tf.reshape(tf.pow(average * alpha + bias, beta), shape)

    return run


def _gemm(node: Node) -> Function:
    alpha, beta = node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)
    a_lies, b_lies = bool(node.attributes.get("transA", 0)), bool(node.attributes.get("transB", 0))

    def run(a: Tensor, b: Tensor, c: Tensor | None = None, *, out: None) -> Tensor:
        result = tf.matmul(a, b, transpose_a=a_lies, transpose_b=b_lies)
        result = result if alpha == 1 else alpha * result
        if c is None:
            return result
        return result + (c if beta == 1 else beta * c)

    return run


def _matmul(node: Node) -> Function:
    shape = shape_of(node)

    def run(a: Tensor, b: Tensor, *, out: None) -> Tensor:
        a = a[None, :] if a.shape.rank == 1 else a
        b = b[:, None] if b.shape.rank == 1 else b
        return tf.reshape(tf.matmul(a, b), shape)

    return run


def _channels_last(x: Tensor) -> Tensor:
    return tf.transpose(x, [0, *range(2, x.shape.rank), 1])


def _channels_first(x: Tensor) -> Tensor:
    return tf.transpose(x, [0, x.shape.rank - 1, *range(1, x.shape.rank - 1)])


def _padded(x: Tensor, window: Window, value: float) -> Tensor:
    """Channels last."""
    if not any(pad for pads in window.pads for pad in pads):
        return x
    return tf.pad(x, [(0, 0), *window.pads, (0, 0)], constant_values=value)


def _conv(node: Node) -> Function:
    given = node.inputs[1]
    assert given is not None
    axes = len(given.shape) - 2
    if axes > 2:
        raise ValueError(f"node {node.name}: tensorflow convolves over two axes at the most; use backend: onnxruntime")
    window = Window.of(node, given.shape[2:]).in_two_dimensions()
    constant = None if given.constant is None else tf.constant(_kernel(given.constant, np.transpose))
    shape = shape_of(node)

    def run(x: Tensor, weights: Tensor, bias: Tensor | None = None, *, out: None) -> Tensor:
        x = _padded(_channels_last(x if axes == 2 else x[:, :, None]), window, 0)
        kernel = _kernel(weights, tf.transpose) if constant is None else constant
        x = tf.nn.conv2d(x, kernel, window.strides, "VALID", dilations=window.dilations)
        return tf.reshape(_channels_first(x if bias is None else x + bias), shape)

    return run


def _kernel(weights: Any, transpose: Callable[[Any, list[int]], Any]) -> Any:
    """As TensorFlow takes it: height, width, channels in, channels out."""
    return transpose(weights if len(weights.shape) == 4 else weights[:, :, None], [2, 3, 1, 0])


def _pool(x: Tensor, window: Window, kind: str) -> Tensor:
    """Channels last, padded."""
    strides = window.strides
    if all(dilation == 1 for dilation in window.dilations) and all(map(operator.le, strides, window.kernel)):
        return tf.nn.pool(x, window.kernel, kind, strides)
    # TensorFlow has strides or dilations, not both, and no windows that lie apart.
    every = tf.nn.pool(x, window.kernel, kind, dilations=window.dilations)
    return every[(slice(None), *(slice(None, None, stride) for stride in strides))]


def _max_pool(node: Node) -> Function:
    window = Window.of(node, node.attributes["kernel_shape"])
    shape = shape_of(node)

    def run(x: Tensor, *, out: None) -> Tensor:
        # Of more than the last window reaches, nothing is wanted.
        x = _pool(_padded(_channels_last(x), window, -math.inf), window, "MAX")
        return tf.ensure_shape(_channels_first(x), shape)

    return run


def _average_pool(node: Node) -> Function:
    window = Window.of(node, node.attributes["kernel_shape"])
    counts = window.averaged(node)
    elements = math.prod(window.kernel)
    # TensorFlow divides by all elements of a window: what is left to do where fewer count.
    correction = None if (counts == elements).all() else elements / counts

    def run(x: Tensor, *, out: None) -> Tensor:
        x = _channels_first(_pool(_padded(_channels_last(x), window, 0), window, "AVG"))
        return x if correction is None else x * tf.constant(correction, x.dtype)

    return run


def _global_pool(function: Callable[..., Tensor]) -> Make:
    def make(node: Node) -> Function:
        axes = list(range(2, len(shape_of(node))))
        return lambda x, *, out: function(x, axis=axes, keepdims=True)

    return make


def _concat(node: Node) -> Function:
    axis = node.attributes["axis"]
    return lambda *inputs, out: tf.concat(inputs, axis)


def _transpose(node: Node) -> Function:
    order = node.attributes.get("perm")
    return lambda x, *, out: tf.transpose(x, order)


def _view(node: Node) -> Function:
    shape = shape_of(node)
    return lambda x, *inputs, out: tf.reshape(x, shape)


OPS: dict[str, Make] = {
    "Abs": _same(tf.abs),
    "Add": _same(tf.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_normalization,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "Div": _div,
    "Dropout": _view,
    "Elu": _elu,
    "Erf": _same(tf.math.erf),
    "Exp": _same(tf.exp),
    "Flatten": _view,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool(tf.reduce_mean),
    "GlobalMaxPool": _global_pool(tf.reduce_max),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _same(_hard_swish),
    "Identity": _view,
    "LRN": _lrn,
    "LeakyRelu": _leaky_relu,
    "Log": _same(tf.math.log),
    "LogSoftmax": _softmax(tf.nn.log_softmax),
    "MatMul": _matmul,
    "Max": _each_two(tf.maximum),
    "MaxPool": _max_pool,
    "Min": _each_two(tf.minimum),
    "Mul": _same(tf.multiply),
    "Neg": _same(tf.negative),
    "PRelu": _same(_prelu),
    "Relu": _same(tf.nn.relu),
    "Reshape": _view,
    "Sigmoid": _same(tf.sigmoid),
    "Softmax": _softmax(tf.nn.softmax),
    "Sqrt": _same(tf.sqrt),
    "Squeeze": _view,
    "Sub": _same(tf.subtract),
    "Sum": _each_two(tf.add),
    "Tanh": _same(tf.tanh),
    "Transpose": _transpose,
    "Unsqueeze": _view,
}
