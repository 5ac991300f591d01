#!/usr/bin/env python3
"""Functions and classes as operators: what they are called with, and what becomes of what they do wrong."""

import contextlib
import functools
import gc
import io
import unittest

import numpy as np

import opsplit
from opsplit import _core

FLOAT32 = np.dtype(np.float32)


class Kernel:
    """An operator's kernel for one node whose inputs (arrays, None: absent) and outputs are all of these."""

    def __init__(self, operator, inputs, outputs, attributes=None):
        operands = self._operands("x", inputs), self._operands("y", outputs)
        described = ("n", operator.op_type, 17, attributes or {}, *operands, None)
        function, keywords = operator.prepare(described)
        self.inputs = [None if array is None else opsplit.Tensor(array, writable=False) for array in inputs]
        self.outputs = [opsplit.Tensor(array) for array in outputs]
        self.kernel = _core.TestKernel(function, "node", keywords, self.inputs, self.outputs)

    @staticmethod
    def _operands(letter, arrays):
        return tuple(
            None if array is None else (f"{letter}{index}", array.dtype, array.shape, None)
            for index, array in enumerate(arrays)
        )

    def run(self):
        return self.kernel.run(self.inputs, self.outputs)


class OperatorTest(unittest.TestCase):
    def setUp(self):
        self.x = np.array([[-1, 0, 1, 2]], np.float32)
        self.y = np.full((1, 4), 9, np.float32)

    def kernel(self, function, inputs=None, outputs=None, attributes=None):
        return Kernel(opsplit.operator("Op")(function), inputs or [self.x], outputs or [self.y], attributes)

    def assert_fails(self, kernel, text):
        with self.assertRaisesRegex(opsplit.OperatorFailed, text) as raised, contextlib.redirect_stderr(io.StringIO()):
            kernel.run()
        self.assertNotIn("\n", str(raised.exception))

    def test_writes_where_it_is_to(self):
        def relu(x, *, out):
            np.maximum(x.numpy(), 0, out=out.numpy())

        kernel = self.kernel(relu)
        self.assertEqual(kernel.run(), 0)
        np.testing.assert_array_equal(self.y, [[0, 0, 1, 2]])
        self.x[0, 0] = 5
        self.assertEqual(kernel.run(), 0)
        self.assertEqual(self.y[0, 0], 5)

    def test_can_still_be_called(self):
        @opsplit.operator("Op")
        def twice(x):
            """Doubles."""
            return 2 * x

        self.assertEqual(twice(3), 6)
        self.assertEqual(twice.__doc__, "Doubles.")

    def test_attributes_and_defaults_are_keywords(self):
        seen = {}

        def clip(x, *, out, alpha, beta=2.0, node):
            seen.update(alpha=alpha, beta=beta, node=node)

        self.kernel(clip, attributes={"alpha": 0.5, "unasked": 1}).run()
        self.assertEqual((seen["alpha"], seen["beta"]), (0.5, 2.0))
        node = seen["node"]
        self.assertEqual((node.name, node.op_type, node.opset), ("n", "Op", 17))
        self.assertEqual(node.attributes["unasked"], 1)
        self.assertEqual(node.inputs, (opsplit.Operand("x0", FLOAT32, (1, 4)),))
        with self.assertRaisesRegex(TypeError, "'alpha' has no default, and the node no such attribute"):
            self.kernel(clip)

    def test_takes_as_many_inputs_as_the_node_has(self):
        with self.assertRaisesRegex(TypeError, "it takes 2 inputs, Op of this node has 1"):
            self.kernel(lambda a, b, *, out: None)
        with self.assertRaisesRegex(TypeError, "it takes 1 inputs, Op of this node has 2"):
            self.kernel(lambda a, *, out: None, inputs=[self.x, self.x])
        self.kernel(lambda *inputs, out: None, inputs=[self.x, self.x]).run()

    def test_an_absent_input_is_none(self):
        seen = []

        def op(x, minimum, maximum, *, out):
            seen.extend((minimum, maximum.shape))

        self.kernel(op, inputs=[self.x, None, self.x]).run()
        self.assertEqual(seen, [None, (1, 4)])

    def test_several_outputs_are_a_tuple(self):
        def both(x, *, out):
            out[0].numpy()[...] = 1
            out[1].numpy()[...] = 2

        other = np.zeros((1, 4), np.float32)
        self.kernel(both, outputs=[self.y, other]).run()
        self.assertEqual((self.y[0, 0], other[0, 0]), (1, 2))
        self.assertEqual(self.kernel(lambda x: (x.copy(), x.copy()), outputs=[self.y, other]).run(), 32)

    def test_what_is_returned_is_copied_and_counted(self):
        self.assertEqual(self.kernel(lambda x: np.abs(x.numpy())).run(), 16)
        np.testing.assert_array_equal(self.y, [[1, 0, 1, 2]])

    def test_what_is_returned_must_have_shape_and_type(self):
        self.assert_fails(self.kernel(lambda x: np.zeros(4, np.float32)), "output 0 is float32 4, must be float32 1x4")
        self.assert_fails(self.kernel(lambda x: np.zeros((1, 4))), "output 0 is float64 1x4, must be float32 1x4")
        self.assert_fails(self.kernel(lambda x: (x, x, x), outputs=[self.y, self.y]), "returned 3 outputs, must be 2")
        self.assert_fails(self.kernel(lambda x: x.copy(), outputs=[self.y, self.y]), "must be a tuple of 2 outputs")

    def test_who_has_out_returns_nothing(self):
        self.assert_fails(self.kernel(lambda x, *, out: x.shape), "returned an object of type tuple")

    def test_an_exception_is_the_error_and_the_next_call_goes_on(self):
        calls = []

        def fails_once(x, *, out):
            calls.append(None)
            if len(calls) == 1:
                view = x.numpy()  # in the traceback's frame
                raise ValueError(f"no such\nluck {view.size}")

        kernel = self.kernel(fails_once)
        self.assert_fails(kernel, "ValueError: no such luck 4$")
        kernel.run()

    def test_what_is_kept_is_refused_by_name(self):
        ways = {
            "a view": lambda x: x.numpy(),
            "a part of a view": lambda x: x.numpy()[:, 1:],
            "the tensor": lambda x: x,
            "another array over it": np.asarray,
            "a memoryview": memoryview,
            "DLPack": np.from_dlpack,
        }
        for what, way in ways.items():
            for name, which in (("input 0", 0), ("output 0", 1)):
                with self.subTest(what, name=name):
                    kept = []

                    def keeps(x, *, out):
                        if not kept:
                            kept.append(way((x, out)[which]))

                    kernel = self.kernel(keeps)
                    self.assert_fails(kernel, f"^{name} is still in use after the call.* copy")
                    kernel.run()  # the others are not to blame

    def test_copies_and_garbage_may_be_kept(self):
        kept = []

        def op(x, *, out):
            kept.append(x.copy())
            cycle = [x.numpy()]
            cycle.append(cycle)

        gc.disable()
        self.addCleanup(gc.enable)
        kernel = self.kernel(op)
        for _ in range(3):
            kernel.run()
        self.assertEqual(len(kept), 3)

    def test_arguments_are_made_once_for_each_place(self):
        seen = []
        kernel = self.kernel(lambda x, *, out: seen.append((id(x), id(x.numpy()), id(out))))
        kernel.run()
        kernel.run()
        self.assertEqual(seen[0], seen[1])
        elsewhere = opsplit.Tensor(self.x.copy(), writable=False)
        kernel.kernel.run([elsewhere], kernel.outputs)
        kernel.run()
        self.assertNotEqual(seen[2], seen[0])
        self.assertEqual(seen[3], seen[0])

    def test_many_places_come_and_go(self):
        kernel = self.kernel(lambda x: x.numpy() + 1)
        for value in range(600):
            x = opsplit.Tensor(np.full((1, 4), value, np.float32), writable=False)
            kernel.inputs = [x]
            kernel.outputs = [opsplit.Tensor(np.zeros((1, 4), np.float32))]
            kernel.run()
            self.assertEqual(kernel.outputs[0].numpy()[0, 0], value + 1)

    def test_a_class_is_made_once_for_each_node(self):
        made = []

        class Scale:
            def __init__(self, node):
                self.factor = node.attributes["factor"]
                made.append(node.name)

            def __call__(self, x, *, out):
                np.multiply(x.numpy(), self.factor, out=out.numpy())

        kernel = self.kernel(Scale, attributes={"factor": 3.0})
        kernel.run()
        kernel.run()
        np.testing.assert_array_equal(self.y, 3 * self.x)
        self.assertEqual(made, ["n"])

    def test_a_partial_function_is_one_too(self):
        self.kernel(functools.partial(lambda factor, x: factor * x.numpy(), 2)).run()
        np.testing.assert_array_equal(self.y, 2 * self.x)

    def test_main_refuses_what_is_no_operator(self):
        with self.assertRaisesRegex(TypeError, "is no operator: decorate it"):
            opsplit.main(lambda x: x)
        relu = opsplit.operator("Relu")(lambda x: x)
        with self.assertRaisesRegex(ValueError, "two operators stand in for Relu"):
            opsplit.main(relu, relu)


if __name__ == "__main__":
    unittest.main()
