#!/usr/bin/env python3
"""Tasks as callables, and ONNX Runtime on tensors where they lie."""

import importlib.util
import unittest

import numpy as np

import opsplit
from opsplit import _core

HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))


class BackendTest(unittest.TestCase):
    def test_a_task_gets_its_inputs_and_outputs_as_tuples(self):
        def run(inputs, outputs):
            np.add(inputs[0], inputs[1], out=outputs[0].numpy())

        inputs = [opsplit.Tensor(np.full(3, value, np.float32), writable=False) for value in (1, 2)]
        output = np.zeros(3, np.float32)
        kernel = _core.TestKernel(run, "task", {}, inputs, [opsplit.Tensor(output)])
        self.assertEqual(kernel.run(inputs, [opsplit.Tensor(output)]), 0)
        np.testing.assert_array_equal(output, [3, 3, 3])

    def test_it_may_say_what_it_copied(self):
        x = [opsplit.Tensor(np.zeros(3, np.float32))]
        self.assertEqual(_core.TestKernel(lambda inputs, outputs: 12, "task", {}, x, x).run(x, x), 12)

    def test_an_output_that_varies_is_as_large_as_its_function_says(self):
        def run(inputs, outputs):
            x = inputs[0].numpy()
            found = np.flatnonzero(x)
            outputs[0].resize(found.shape).numpy()[...] = x[found]

        x, y = np.array([0, 5, 0, 7], np.float32), np.zeros(3, np.float32)
        inputs, outputs = [opsplit.Tensor(x)], [opsplit.Tensor(y)]
        kernel = _core.TestKernel(run, "task", {}, inputs, outputs, varies=True)
        kernel.run(inputs, outputs)
        self.assertEqual(kernel.output_shape(0), (2,))
        np.testing.assert_array_equal(y, [5, 7, 0])
        x[...] = 0
        kernel.run(inputs, outputs)
        self.assertEqual(kernel.output_shape(0), (0,))
        x[...] = 1
        with self.assertRaisesRegex(opsplit.OperatorFailed, "output 'y' has become 4, there is room for 3"):
            kernel.run(inputs, outputs)

    def test_an_output_that_varies_must_be_resized_in_each_run(self):
        sizes = [(2,), None]

        def run(inputs, outputs):
            size = sizes.pop(0)
            if size is not None:
                outputs[0].resize(size)

        x = [opsplit.Tensor(np.zeros(3, np.float32))]
        kernel = _core.TestKernel(run, "task", {}, x, x, varies=True)
        kernel.run(x, x)
        self.assertEqual(kernel.output_shape(0), (2,))
        kernel.run(x, x)
        self.assertIsNone(kernel.output_shape(0))  # which fails the request: operators/host.cpp
        fixed = _core.TestKernel(lambda inputs, outputs: outputs[0].resize((1,)), "task", {}, x, x)
        with self.assertRaisesRegex(opsplit.OperatorFailed, "only outputs whose sizes vary"):
            fixed.run(x, x)

    def test_what_resize_gives_is_not_to_be_kept(self):
        kept = []
        x = [opsplit.Tensor(np.zeros(3, np.float32))]
        kernel = _core.TestKernel(
            lambda inputs, outputs: kept.append(outputs[0].resize((2,)).numpy()), "task", {}, x, x, varies=True
        )
        with self.assertRaisesRegex(opsplit.OperatorFailed, "output 0 is still in use"):
            kernel.run(x, x)

    def test_a_tuple_that_is_kept_is_refused(self):
        kept = []
        x = [opsplit.Tensor(np.zeros(3, np.float32))]
        kernel = _core.TestKernel(lambda inputs, outputs: kept.append(inputs[0]), "task", {}, x, x)
        with self.assertRaisesRegex(opsplit.OperatorFailed, "input 0 is still in use"):
            kernel.run(x, x)


@unittest.skipUnless(HAS_ONNX, "onnx and onnxruntime are not both installed")
class OnnxRuntimeTest(unittest.TestCase):
    def setUp(self):
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        from opsplit import onnxruntime

        weights = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(3, 4), "w")
        values = [
            helper.make_tensor_value_info(*value)
            for value in (("x", TensorProto.FLOAT, [2, 3]), ("y", TensorProto.FLOAT, [2, 4]))
        ]
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])], "t", values[:1], values[1:], [weights]
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        float32 = np.dtype(np.float32)
        task = opsplit.Task(
            "t",
            model.SerializeToString,
            (opsplit.TensorSpec("x", float32, (2, 3)),),
            (opsplit.TensorSpec("y", float32, (2, 4)),),
            1,
        )
        self.run_task = onnxruntime.make_task(task)
        self.weights = numpy_helper.to_array(weights)

    def test_computes_in_place(self):
        x = np.ones((2, 3), np.float32)
        y = np.zeros((2, 4), np.float32)
        inputs, outputs = [opsplit.Tensor(x, writable=False)], [opsplit.Tensor(y)]
        kernel = _core.TestKernel(self.run_task, "task", {}, inputs, outputs)
        for factor in (1, 2):
            x[...] = factor
            self.assertEqual(kernel.run(inputs, outputs), 0)
            np.testing.assert_allclose(y, x @ self.weights)


if __name__ == "__main__":
    unittest.main()
