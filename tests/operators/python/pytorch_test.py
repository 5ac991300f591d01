#!/usr/bin/env python3
"""PyTorch as a backend: its table of ops, modules of the user's, and what is computed in place."""

import unittest

import numpy as np
import torch
from framework_cases import FLOAT32, FrameworkCases, Running, task_of

import opsplit
from opsplit import _graph, pytorch


class PyTorchTest(FrameworkCases, unittest.TestCase):
    framework = pytorch

    @staticmethod
    def address(tensor):
        return tensor.data_ptr()

    def serve(self, function, inputs, outputs):
        task = task_of([], [(f"x{i}", array.dtype, array.shape) for i, array in enumerate(inputs)], outputs)
        return Running(_graph.function_as_task(pytorch._framework(), function)(task), inputs, outputs)

    def test_a_result_that_is_in_its_place_is_not_copied(self):
        x = self.values(4, 4)
        outputs = [("y", FLOAT32, (4, 4))]
        running = self.serve(lambda a: torch.clamp_min(a, 0, out=torch.from_dlpack(running.places[0])), [x], outputs)
        self.assertEqual(running.run(), 0)
        np.testing.assert_array_equal(running.outputs[0], np.maximum(x, 0))

    def test_a_module_that_writes_to_its_input_fails(self):
        """Others read it, too."""
        x = self.values(4, 4)
        outputs = [("y", FLOAT32, (4, 4))]
        for module in (torch.nn.ReLU(inplace=True), lambda a: a.view(16).mul_(2).view(4, 4)):
            with self.assertRaisesRegex(opsplit.OperatorFailed, "input 'x0' was written to: take inplace=False"):
                self.serve(module, [x], outputs).run()
        later = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Sigmoid(), torch.nn.ReLU(inplace=True))
        running = self.serve(later, [x], outputs)
        running.run()
        np.testing.assert_allclose(running.outputs[0], 1 / (1 + np.exp(-x)), rtol=1e-5)

    def test_nothing_is_recorded_for_gradients(self):
        module = torch.nn.Linear(5, 3)
        x = self.values(2, 5)
        recorded = []

        def function(a):
            result = module(a)
            recorded.append(result.requires_grad)
            return result

        running = self.serve(function, [x], [("y", FLOAT32, (2, 3))])
        self.assertEqual(running.run(), 24)
        self.assertEqual(recorded, [False])
        expected = x @ module.weight.detach().numpy().T + module.bias.detach().numpy()
        np.testing.assert_allclose(running.outputs[0], expected, rtol=1e-5, atol=1e-6)

    def test_computes_on_the_task_s_threads(self):
        seen = []
        for threads in (2, 1):
            task = task_of([], [("x", FLOAT32, (2,))], [("y", FLOAT32, (2,))], threads)
            make = _graph.function_as_task(pytorch._framework(), lambda a: (seen.append(torch.get_num_threads()), a)[1])
            Running(make(task), [self.values(2)], [("y", FLOAT32, (2,))]).run()
        self.assertEqual(seen, [2, 1])

    def test_a_dilated_average_is_refused(self):
        x = self.values(1, 1, 9, 9)
        with self.assertRaisesRegex(ValueError, "node the_AveragePool: pytorch's AveragePool has no dilations"):
            self.run_node("AveragePool", [x], (1, 1, 5, 5), {"kernel_shape": [3, 3], "dilations": [2, 2]}, opset=19)


if __name__ == "__main__":
    unittest.main()
