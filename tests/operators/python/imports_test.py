#!/usr/bin/env python3
"""opsplit shares a process with others that bring a protobuf of their own, whoever comes first."""

import importlib.util
import itertools
import subprocess
import sys
import unittest

OTHERS = ("onnx", "onnxruntime", "torch", "tensorflow")
USE = {
    "onnx": "onnx.helper.make_model(onnx.GraphProto()).SerializeToString()",
    "onnxruntime": "onnxruntime.SessionOptions()",
    "torch": "torch.zeros(3) + 1",
    "tensorflow": "tensorflow.zeros(3) + 1",
}


class ImportsTest(unittest.TestCase):
    def check(self, names):
        code = "; ".join([f"import {name}" for name in names] + [USE[name] for name in names if name in USE])
        code += "; import numpy; assert opsplit.Tensor(numpy.zeros(3)).shape == (3,)"
        result = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, check=False)
        self.assertEqual(result.returncode, 0, f"{code}: {result.stderr}")

    def test_shows_nothing_but_its_entry(self):
        from opsplit import _core

        listed = subprocess.run(
            ["nm", "-D", "--defined-only", _core.__file__], capture_output=True, text=True, check=True
        )
        self.assertEqual([line.split()[-1] for line in listed.stdout.splitlines()], ["PyInit__core"])


def add_test(other):
    def test(self):
        if importlib.util.find_spec(other) is None:
            self.skipTest(f"{other} is not installed")
        for names in itertools.permutations(("opsplit", other)):
            self.check(names)

    setattr(ImportsTest, f"test_goes_with_{other}", test)


for name in OTHERS:
    add_test(name)


if __name__ == "__main__":
    unittest.main()
