"""What the tests of PyTorch and TensorFlow as backends share: every op against NumPy, in tasks made by hand.

A test class of a framework says `framework`, its module of the package, and what it copies.
"""

import contextlib
import io
import itertools
import math
import pathlib
import re

import numpy as np

import opsplit
from opsplit import _core

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent.parent
FLOAT32 = np.dtype(np.float32)


def aligned(array):
    """A copy that begins where a place in the arena may."""
    memory = np.zeros(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    result = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    result[...] = array
    return result


def read_only(array):
    array = aligned(array)
    array.flags.writeable = False
    return array


def node(op_type, inputs, output, attributes=None, opset=17):
    """`inputs`: (name, array, whether it is a constant), or None; `output`: (name, dtype, shape)."""
    operands = tuple(
        value and opsplit.Operand(value[0], value[1].dtype, value[1].shape, read_only(value[1]) if value[2] else None)
        for value in inputs
    )
    return opsplit.Node(f"the_{op_type}", op_type, opset, attributes or {}, operands, (opsplit.Operand(*output),))


def no_model():
    raise AssertionError("a framework computes nodes, and must not have the model made")


def task_of(nodes, inputs, outputs, threads=1):
    """`inputs` and `outputs`: (name, dtype, shape) each."""
    specs = (tuple(opsplit.TensorSpec(*spec) for spec in tensors) for tensors in (inputs, outputs))
    return opsplit.Task("the_task", no_model, *specs, threads, tuple(nodes))


class Running:
    """A task as an operator runs it."""

    def __init__(self, run, inputs, output_specs):
        self.inputs = [opsplit.Tensor(aligned(array), writable=False) for array in inputs]
        self.outputs = [aligned(np.full(shape, 77, dtype)) for _, dtype, shape in output_specs]
        self.places = [opsplit.Tensor(output) for output in self.outputs]
        self.kernel = _core.TestKernel(run, "task", {}, self.inputs, self.places)

    def run(self):
        with contextlib.redirect_stderr(io.StringIO()):
            return self.kernel.run(self.inputs, self.places)


# -- What the ops mean, in NumPy ----------------------------------------------------------------------


class Sliding:
    """A window over an image, by the words of ONNX: `see` gives what each window sees, N x C x outputs x kernel."""

    def __init__(self, image, kernel, strides=None, pads=None, dilations=None, ceil_mode=0):
        axes = len(kernel)
        self.kernel, self.image, self.ceil_mode = kernel, image, ceil_mode
        self.strides, self.dilations = strides or [1] * axes, dilations or [1] * axes
        self.pads = pads or [0] * 2 * axes
        self.axes = axes
        self.sizes = []
        for axis, size in enumerate(image):
            begin, end = self.pads[axis], self.pads[axis + axes]
            steps = (size + begin + end - self.extent(axis)) / self.strides[axis]
            windows = (math.ceil if ceil_mode else math.floor)(steps) + 1
            if ceil_mode and (windows - 1) * self.strides[axis] >= size + begin:
                windows -= 1
            self.sizes.append(windows)

    def extent(self, axis):
        return (self.kernel[axis] - 1) * self.dilations[axis] + 1

    def see(self, x, fill, padding=None):
        """`padding` is what lies in the declared padding, `fill` beyond it."""
        padding = fill if padding is None else padding
        beyond = [self.extent(axis) + self.strides[axis] for axis in range(self.axes)]
        begin, end = self.pads[: self.axes], self.pads[self.axes :]
        x = np.pad(x, [(0, 0), (0, 0), *zip(begin, end)], constant_values=padding)
        x = np.pad(x, [(0, 0), (0, 0), *((0, more) for more in beyond)], constant_values=fill)
        for axis in range(self.axes):
            at = np.arange(self.sizes[axis])[:, None] * self.strides[axis]
            at = at + np.arange(self.kernel[axis]) * self.dilations[axis]
            x = np.moveaxis(np.take(x, at, axis=2 + axis), 3 + axis, -1)
        return x

    def conv(self, x, weights, bias, group):
        seen = self.see(x.astype(np.float64), 0)
        parts = []
        for images, kernels in zip(np.split(seen, group, axis=1), np.split(weights, group, axis=0)):
            letters = "hwd"[: self.axes], "ijk"[: self.axes]
            parts.append(np.einsum(f"nc{''.join(letters)},oc{letters[1]}->no{letters[0]}", images, kernels))
        result = np.concatenate(parts, axis=1)
        return result if bias is None else result + bias.reshape(-1, *[1] * self.axes)

    def pooled(self, x, average, counts_padding=0):
        over = tuple(range(-self.axes, 0))
        if not average:
            return self.see(x, -np.inf).max(axis=over)
        counted = self.see(np.ones_like(x), 0, counts_padding).sum(axis=over)
        return self.see(x, 0).sum(axis=over) / counted


def softmax(x, axis):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


erf = np.vectorize(math.erf)


class FrameworkCases:
    """Mixed into a unittest.TestCase."""

    framework = None
    copies_all = False  # it can't write to memory that it is given
    tolerance = 2e-6

    def setUp(self):
        self.random = np.random.default_rng(5)

    def values(self, *shape):
        return self.random.standard_normal(shape).astype(np.float32)

    def run_node(self, op_type, inputs, shape, attributes=None, opset=17, constants=(), dtype=FLOAT32):
        """The node's result, and how many bytes were copied. `constants`: which inputs the model has."""
        named = [
            None if array is None else (f"x{index}", array, index in constants) for index, array in enumerate(inputs)
        ]
        changing = [value for value in named if value is not None and not value[2]]
        output = ("y", dtype, shape)
        task = task_of(
            [node(op_type, named, output, attributes, opset)],
            [(name, array.dtype, array.shape) for name, array, _ in changing],
            [output],
        )
        running = Running(self.framework.make_task(task), [array for _, array, _ in changing], [output])
        copied = running.run()
        return running.outputs[0], copied

    def check(self, op_type, inputs, expected, attributes=None, opset=17, constants=(), copies=False, tolerance=None):
        expected = np.asarray(expected)
        dtype = next(array.dtype for array in inputs if array is not None)
        result, copied = self.run_node(op_type, inputs, expected.shape, attributes, opset, constants, dtype)
        tolerance = tolerance or self.tolerance
        np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance, err_msg=f"{op_type} {attributes}")
        self.assertEqual(copied, result.nbytes if copies or self.copies_all else 0, op_type)

    # -- One by one ----------------------------------------------------------------------------------

    def test_activations(self):
        x = 3 * self.values(2, 3, 5, 7)
        relu = np.maximum(x, 0)
        for op_type, expected, attributes in (
            ("Relu", relu, {}),
            ("LeakyRelu", np.where(x < 0, 0.01 * x, x), {}),
            ("LeakyRelu", np.where(x < 0, 0.3 * x, x), {"alpha": 0.3}),
            ("Sigmoid", 1 / (1 + np.exp(-x)), {}),
            ("Tanh", np.tanh(x), {}),
            ("Elu", np.where(x < 0, np.expm1(x), x), {}),
            ("Elu", np.where(x < 0, 0.5 * np.expm1(x), x), {"alpha": 0.5}),
            ("HardSigmoid", np.clip(0.2 * x + 0.5, 0, 1), {}),
            ("HardSigmoid", np.clip(0.3 * x + 0.4, 0, 1), {"alpha": 0.3, "beta": 0.4}),
            ("HardSwish", x * np.clip(x / 6 + 0.5, 0, 1), {}),
            ("Abs", np.abs(x), {}),
            ("Neg", -x, {}),
            ("Exp", np.exp(x), {}),
            ("Erf", erf(x), {}),
        ):
            self.check(op_type, [x], expected, attributes)
        self.check("Sqrt", [np.abs(x)], np.sqrt(np.abs(x)))
        self.check("Log", [np.abs(x) + 1], np.log(np.abs(x) + 1))

    def test_prelu_has_a_slope_per_channel(self):
        x, slope = self.values(2, 3, 4, 5), self.values(3, 1, 1)
        self.check("PRelu", [x, slope], np.where(x < 0, slope * x, x), constants=[1])

    def test_clip_takes_its_limits_as_attributes_or_inputs(self):
        x = 3 * self.values(4, 7)
        low, high = np.array(-0.5, np.float32), np.array(1.25, np.float32)
        self.check("Clip", [x], np.clip(x, -0.5, 1.25), {"min": -0.5, "max": 1.25}, opset=6)
        self.check("Clip", [x], np.maximum(x, -0.5), {"min": -0.5}, opset=6)
        self.check("Clip", [x, low, high], np.clip(x, low, high), constants=[1, 2])
        self.check("Clip", [x, low, high], np.clip(x, low, high))
        self.check("Clip", [x, None, high], np.minimum(x, high), constants=[2])
        self.check("Clip", [x], x, copies=True)

    def test_arithmetic_broadcasts(self):
        for shapes in (((2, 3, 5), (2, 3, 5)), ((2, 3, 5), (3, 1)), ((1, 5), (2, 3, 5))):
            a, b = (self.values(*shape) for shape in shapes)
            for op_type, function in (("Add", np.add), ("Sub", np.subtract), ("Mul", np.multiply), ("Div", np.divide)):
                self.check(op_type, [a, b], function(a, b))
                self.check(op_type, [a, b], function(a, b), constants=[1])
        integers = np.array([7, -7, 8], np.int64), np.array([2, 2, -3], np.int64)
        self.check("Div", list(integers), [3, -3, -2])

    def test_ops_of_any_number_of_inputs(self):
        arrays = [self.values(1, 4), self.values(1, 4), self.values(3, 4), self.values(3, 1)]
        for op_type, function in (("Sum", np.add), ("Max", np.maximum), ("Min", np.minimum)):
            self.check(op_type, arrays, function(function(function(*arrays[:2]), arrays[2]), arrays[3]))
            self.check(op_type, arrays[:1], arrays[0], copies=True)

    def test_convolutions(self):
        for image, weights, group, attributes in (
            ((2, 3, 9, 7), (5, 3, 3, 3), 1, {"pads": [1, 1, 1, 1]}),
            ((1, 3, 9, 7), (5, 3, 3, 2), 1, {"pads": [0, 1, 2, 0], "strides": [2, 1]}),
            ((1, 3, 8, 8), (4, 3, 3, 3), 1, {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
            ((1, 4, 11, 9), (6, 2, 3, 3), 2, {"dilations": [2, 3], "pads": [1, 0, 2, 3]}),
            ((1, 4, 11, 12), (6, 2, 3, 3), 2, {"dilations": [2, 2], "strides": [2, 3]}),
            ((2, 6, 7, 5), (6, 1, 3, 3), 6, {"pads": [1, 1, 1, 1]}),
            ((1, 3, 6, 6), (4, 3, 1, 1), 1, {"strides": [2, 2]}),
            ((2, 3, 13), (4, 3, 5), 1, {"pads": [2, 1], "strides": [2]}),
            ((1, 4, 13), (4, 2, 3), 2, {"pads": [2, 2], "dilations": [2]}),
        ):
            x, w, b = self.values(*image), self.values(*weights), self.values(weights[0])
            sliding = Sliding(image[2:], weights[2:], **attributes)
            attributes = {**attributes, "group": group, "kernel_shape": list(weights[2:])}
            for bias, constants in ((b, [1, 2]), (None, [1]), (b, [])):
                inputs = [x, w] if bias is None else [x, w, bias]
                expected = sliding.conv(x, w, bias, group)
                self.check("Conv", inputs, expected, attributes, constants=constants, copies=True, tolerance=2e-5)

    def test_pools(self):
        for image, kernel, attributes in (
            ((2, 3, 8, 6), [2, 2], {"strides": [2, 2]}),
            ((1, 3, 9, 7), [3, 3], {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
            ((1, 3, 8, 8), [3, 3], {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
            ((1, 2, 9, 8), [3, 2], {"pads": [0, 1, 2, 0]}),
            ((1, 2, 10, 11), [3, 3], {"strides": [2, 3], "pads": [0, 0, 1, 1]}),
            ((2, 2, 11), [3], {"strides": [2], "pads": [1, 0]}),
            ((2, 2, 12), [4], {"strides": [3]}),
            ((1, 2, 9, 8), [1, 2], {"strides": [2, 3]}),
            ((1, 2, 8, 8), [2, 2], {"strides": [3, 3], "pads": [1, 1, 1, 1]}),
        ):
            x = self.values(*image)
            for ceil_mode in (0, 1):
                sliding = Sliding(image[2:], kernel, ceil_mode=ceil_mode, **attributes)
                common = {**attributes, "kernel_shape": kernel, "ceil_mode": ceil_mode}
                self.check("MaxPool", [x], sliding.pooled(x, False), common)
                for counts in (0, 1):
                    expected = sliding.pooled(x, True, counts)
                    self.check("AveragePool", [x], expected, {**common, "count_include_pad": counts})

    def test_pools_of_other_types_than_float(self):
        x = self.values(1, 2, 8, 6).astype(np.float64)
        attributes = {"pads": [1, 1, 1, 1]}
        sliding = Sliding((8, 6), [3, 3], **attributes)
        attributes["kernel_shape"] = [3, 3]
        self.check("AveragePool", [x], sliding.pooled(x, True), attributes)
        self.check("MaxPool", [x], sliding.pooled(x, False), attributes)

    def test_a_dilated_max_pool(self):
        x = self.values(2, 3, 12, 11)
        for attributes in ({"dilations": [2, 3]}, {"dilations": [2, 1], "strides": [2, 3], "pads": [1, 0, 1, 1]}):
            expected = Sliding((12, 11), [3, 3], **attributes).pooled(x, False)
            self.check("MaxPool", [x], expected, {**attributes, "kernel_shape": [3, 3]})

    def test_global_pools(self):
        for shape in ((2, 3, 5, 7), (2, 3, 9)):
            x = self.values(*shape)
            axes = tuple(range(2, len(shape)))
            self.check("GlobalAveragePool", [x], x.mean(axis=axes, keepdims=True))
            self.check("GlobalMaxPool", [x], x.max(axis=axes, keepdims=True))

    def test_batch_normalization(self):
        for shape in ((2, 3, 5, 4), (4, 3)):
            x, scale, bias, mean = self.values(*shape), self.values(3), self.values(3), self.values(3)
            var = np.abs(self.values(3)) + 0.5
            scaled, shift, middle, deviation = (
                value.reshape(-1, *[1] * (len(shape) - 2)) for value in (scale, bias, mean, np.sqrt(var + 0.01))
            )
            expected = (x - middle) / deviation * scaled + shift
            attributes = {"epsilon": 0.01}
            self.check("BatchNormalization", [x, scale, bias, mean, var], expected, attributes, constants=[1, 2, 3, 4])

    def test_lrn(self):
        for shape, size in (((2, 7, 4, 3), 5), ((1, 6, 5), 4), ((1, 3, 4, 4), 9)):
            x = self.values(*shape)
            squares = np.zeros_like(x)
            for channel in range(shape[1]):
                first, last = max(0, channel - (size - 1) // 2), channel + size // 2
                squares[:, channel] = (x[:, first : last + 1] ** 2).sum(axis=1)
            for alpha, beta, bias in ((0.3, 0.75, 1.0), (0.1, 0.5, 2.0)):
                attributes = {"size": size, "alpha": alpha, "beta": beta, "bias": bias}
                self.check("LRN", [x], x / (bias + alpha / size * squares) ** beta, attributes)

    def test_gemm(self):
        for a_lies, b_lies, alpha, beta in itertools.product((0, 1), (0, 1), (1.0, 0.5), (1.0, 0.25)):
            a, b = self.values(3, 5), self.values(5, 4)
            attributes = {"transA": a_lies, "transB": b_lies, "alpha": alpha, "beta": beta}
            given = [a.T.copy() if a_lies else a, b.T.copy() if b_lies else b]
            self.check("Gemm", given, alpha * (a @ b), attributes, constants=[1])
            for c in (self.values(4), self.values(3, 4), self.values(3, 1), self.values()):
                c = np.asarray(c, np.float32)
                self.check("Gemm", [*given, c], alpha * (a @ b) + beta * c, attributes, constants=[1, 2])

    def test_matmul_as_numpys(self):
        for a, b in (((3, 5), (5, 4)), ((2, 3, 5), (5, 4)), ((2, 1, 3, 5), (6, 5, 4)), ((5,), (5, 4)), ((3, 5), (5,))):
            a, b = self.values(*a), self.values(*b)
            self.check("MatMul", [a, b], a @ b)

    def test_softmax_sees_a_matrix_before_opset_13(self):
        x = self.values(2, 3, 5)
        as_matrix = {0: (1, 30), 1: (2, 15), 2: (6, 5), -1: (6, 5)}
        for axis, seen in as_matrix.items():
            self.check("Softmax", [x], softmax(x, axis), {"axis": axis}, opset=13)
            old = softmax(x.reshape(seen), 1).reshape(x.shape)
            self.check("Softmax", [x], old, {"axis": axis}, opset=11)
            self.check("LogSoftmax", [x], np.log(old), {"axis": axis}, opset=11)
        self.check("Softmax", [x], softmax(x, -1), opset=13)
        self.check("Softmax", [x], softmax(x.reshape(2, 15), 1).reshape(x.shape), opset=11)

    def test_what_moves_elements(self):
        a, b = self.values(2, 3, 4), self.values(2, 5, 4)
        for axis in (1, -2):
            self.check("Concat", [a, b, a], np.concatenate([a, b, a], axis=1), {"axis": axis})
        self.check("Transpose", [a], a.transpose(2, 0, 1), {"perm": [2, 0, 1]})
        self.check("Transpose", [a], a.transpose())

    def test_views_are_copied_where_they_are_an_output(self):
        x = self.values(2, 3, 1, 4)
        shape = np.array([2, 12], np.int64)
        for op_type, inputs, seen in (
            ("Reshape", [x, shape], (2, 12)),
            ("Flatten", [x], (2, 12)),
            ("Squeeze", [x, np.array([2], np.int64)], (2, 3, 4)),
            ("Unsqueeze", [x, np.array([0], np.int64)], (1, 2, 3, 1, 4)),
            ("Identity", [x], x.shape),
            ("Dropout", [x], x.shape),
        ):
            self.check(op_type, inputs, x.reshape(seen), constants=[1], copies=True)

    # -- Tasks of several nodes ----------------------------------------------------------------------

    def test_a_task_of_several_nodes_gives_all_its_outputs(self):
        x, w, b = self.values(2, 6), self.values(6, 5), self.values(5)
        names = {"h": (2, 5), "r": (2, 5), "v": (5, 2), "y": (5, 2)}
        outputs = [("r", FLOAT32, (2, 5)), ("y", FLOAT32, (5, 2))]
        of = {name: (name, np.zeros(shape, np.float32), False) for name, shape in names.items()}
        nodes = [
            node("Gemm", [("x", x, False), ("w", w, True), ("b", b, True)], ("h", FLOAT32, (2, 5))),
            node("Relu", [of["h"]], ("r", FLOAT32, (2, 5))),
            node("Reshape", [of["r"], ("shape", np.array([5, 2], np.int64), True)], ("v", FLOAT32, (5, 2))),
            node("Add", [of["v"], of["v"]], ("y", FLOAT32, (5, 2))),
        ]
        running = Running(self.framework.make_task(task_of(nodes, [("x", FLOAT32, (2, 6))], outputs)), [x], outputs)
        relu = np.maximum(x @ w + b, 0)
        for _ in range(3):
            self.assertEqual(running.run(), 2 * relu.nbytes if self.copies_all else 0)
            np.testing.assert_allclose(running.outputs[0], relu, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(running.outputs[1], 2 * relu.reshape(5, 2), rtol=1e-5, atol=1e-5)
            for output in running.outputs:
                output[...] = 77

    def test_the_reference_lists_its_ops(self):
        reference = (ROOT / "docs/python.md").read_text()
        listed = re.search(r"PyTorch and TensorFlow have ([^.]*)\. An operator", reference).group(1)
        self.assertEqual(sorted(re.split(r",\s+|\s+and\s+", listed)), sorted(self.framework._framework().ops))

    def test_an_op_that_it_does_not_have_is_refused_by_name(self):
        x = self.values(2, 3)
        name = self.framework.__name__.rpartition(".")[2]
        with self.assertRaisesRegex(
            ValueError, f"^node the_Foo: {name} has no Foo; use backend: onnxruntime .{name} has Abs, .*Unsqueeze.$"
        ):
            self.run_node("Foo", [x], x.shape)

    def test_what_it_does_not_know_of_an_op_is_refused_by_name(self):
        x, name = self.values(1, 1, 4, 4), self.framework.__name__.rpartition(".")[2]
        pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
        for attribute, value in (("auto_pad", "SAME_UPPER"), ("storage_order", 1)):
            with self.assertRaisesRegex(ValueError, f"node the_MaxPool: {name}'s MaxPool does not know {attribute}="):
                self.run_node("MaxPool", [x], (1, 1, 2, 2), {**pool, attribute: value})
        expected = x.reshape(2, 2, 2, 2).max(axis=(1, 3)).reshape(1, 1, 2, 2)
        self.check("MaxPool", [x], expected, {**pool, "auto_pad": "NOTSET", "storage_order": 0})

    def test_a_dropout_that_is_to_train_is_refused(self):
        x, ratio, training = self.values(2, 3), np.array(0.5, np.float32), np.array(True)
        for constants in ([1, 2], [1]):
            with self.assertRaisesRegex(ValueError, "node the_Dropout: its training_mode is not false"):
                self.run_node("Dropout", [x, ratio, training], x.shape, constants=constants)
        self.check("Dropout", [x, ratio, np.array(False)], x, constants=[1, 2], copies=True)

    def test_inputs_and_results_are_where_they_are_to_be(self):
        """By a function in place of the task, which sees the framework's tensors."""
        seen = []

        def function(x):
            seen.append((self.address(x), tuple(x.shape)))
            return x + 1

        x = self.values(2, 5)
        running = self.serve(function, [x], [("y", FLOAT32, (2, 5))])
        self.assertEqual(running.run(), x.nbytes)
        self.assertEqual(seen, [(running.inputs[0].data_ptr, (2, 5))])
        np.testing.assert_array_equal(running.outputs[0], x + 1)

    def test_a_function_gives_one_output_or_a_tuple(self):
        x, y = self.values(3), self.values(3)
        specs = [("sum", FLOAT32, (3,)), ("product", FLOAT32, (3,))]
        running = self.serve(lambda a, b: (a + b, a * b), [x, y], specs)
        self.assertEqual(running.run(), 24)
        np.testing.assert_allclose(running.outputs, [x + y, x * y], rtol=1e-6)

    def test_what_a_function_returns_is_checked_by_name(self):
        x = self.values(2, 3)
        two = [("first", FLOAT32, (2, 3)), ("second", FLOAT32, (2, 3))]
        for function, specs, text in (
            (lambda a: a[:1], two[:1], "output 'first' is float32 1x3, the task's is float32 2x3"),
            (lambda a: a > 0, two[:1], "output 'first' is bool 2x3, the task's is float32 2x3"),
            (lambda a: (a, a[0]), two, "output 'second' is float32 3, the task's is float32 2x3"),
            (lambda a: a, two, "1 outputs returned, the task has 2: first, second"),
            (lambda a: (a, a), two[:1], "2 outputs returned, the task has 1: first"),
            (lambda a: None, two[:1], "output 'first' is a NoneType, must be a .* tensor"),
        ):
            with self.assertRaisesRegex(opsplit.OperatorFailed, text):
                self.serve(function, [x], specs).run()
