#!/usr/bin/env python3
"""TensorFlow as a backend: its table of ops, models of the user's, and what lies where."""

import unittest

import numpy as np
import tensorflow as tf
from framework_cases import FLOAT32, FrameworkCases, Running, Sliding, task_of

from opsplit import _graph, tensorflow


class TensorFlowTest(FrameworkCases, unittest.TestCase):
    framework = tensorflow
    copies_all = True

    @classmethod
    def setUpClass(cls):
        tensorflow._use_threads(1)

    @staticmethod
    def address(tensor):
        return np.asarray(memoryview(tensor)).ctypes.data

    def serve(self, function, inputs, outputs):
        task = task_of([], [(f"x{i}", array.dtype, array.shape) for i, array in enumerate(inputs)], outputs)
        return Running(_graph.function_as_task(tensorflow._framework(), function)(task), inputs, outputs)

    def test_a_model_of_keras_and_a_tf_function(self):
        x = self.values(2, 5)
        model = tf.keras.Sequential([tf.keras.Input((5,)), tf.keras.layers.Dense(3, "relu", bias_initializer="ones")])
        weights, bias = model.get_weights()
        for function in (model, tf.function(model)):
            running = self.serve(function, [x], [("y", FLOAT32, (2, 3))])
            for _ in range(2):
                self.assertEqual(running.run(), 24)
                np.testing.assert_allclose(running.outputs[0], np.maximum(x @ weights + bias, 0), rtol=1e-5, atol=1e-6)

    def test_nothing_holds_an_input_after_many_runs(self):
        """Its executor's threads may be the last to let go of one."""
        x = self.values(64, 64)
        running = self.serve(tf.function(lambda a: tf.nn.relu(tf.matmul(a, a)) + a), [x], [("y", FLOAT32, (64, 64))])
        for _ in range(500):
            self.assertEqual(running.run(), x.nbytes)  # fails where one is still in use

    def test_computes_on_the_first_task_s_threads(self):
        self.assertEqual(tf.config.threading.get_intra_op_parallelism_threads(), 1)

    def test_a_dilated_average(self):
        x = self.values(1, 2, 9, 10)
        attributes = {"dilations": [2, 2], "pads": [1, 0, 1, 1], "strides": [1, 2]}
        expected = Sliding((9, 10), [3, 3], **attributes).pooled(x, True)
        self.check("AveragePool", [x], expected, {**attributes, "kernel_shape": [3, 3]}, opset=19)


if __name__ == "__main__":
    unittest.main()
