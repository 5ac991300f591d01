#!/usr/bin/env python3
"""examples/mnist/evaluate.py: what it says where there is nothing to evaluate. What it says of a deployment that runs:
mnist_test.py.

The package opsplit must be in PYTHONPATH.
"""

import pathlib
import subprocess
import sys
import tempfile
import unittest

import numpy as np

PROGRAM = pathlib.Path(__file__).resolve().parents[2] / "examples" / "mnist" / "evaluate.py"


class EvaluateTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        for name in ("test_images", "test_labels", "predictions"):
            np.save(self.folder / f"{name}.npy", np.zeros(3))

    def expect_error(self, folder, text):
        command = [sys.executable, "-B", PROGRAM, "mnist", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, text)
        self.assertEqual(done.stderr.count("\n"), 1)

    def test_a_folder_that_is_not_there_is_named(self):
        missing = self.folder / "nobody"
        self.expect_error(missing, f"^{missing}/test_images.npy: No such file or directory: data.py and the training")

    def test_a_file_that_is_not_there_or_no_array_is_named(self):
        predictions = self.folder / "predictions.npy"
        predictions.unlink()
        self.expect_error(self.folder, f"^{predictions}: No such file")
        for content in (b"", b"no array", np.lib.format.MAGIC_PREFIX):
            predictions.write_bytes(content)
            self.expect_error(self.folder, f"^{predictions}: ")


if __name__ == "__main__":
    unittest.main()
