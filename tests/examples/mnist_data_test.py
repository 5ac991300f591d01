#!/usr/bin/env python3
"""examples/mnist/data.py: how it divides images, and what it says of files that are no MNIST."""

import gzip
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

import numpy as np

PROGRAM = pathlib.Path(__file__).resolve().parents[2] / "examples" / "mnist" / "data.py"


def idx(array, kind=8):
    return struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


class DataTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.data = pathlib.Path(folder.name) / "data"
        self.out = pathlib.Path(folder.name) / "out"
        self.data.mkdir()
        self.write("t10k", 10)

    def write(self, prefix, count, ending=""):
        """Images of 3x2 pixels; the k-th consists of k, and is a k % 10."""
        numbers = np.arange(count)
        images = idx(np.broadcast_to(numbers[:, None, None], (count, 3, 2)))
        for name, content in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", idx(numbers % 10))):
            content = gzip.compress(content) if ending else content
            (self.data / f"{prefix}-{name}{ending}").write_bytes(content)

    def run_program(self):
        command = [sys.executable, "-B", PROGRAM, self.out, "--data", self.data]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def arrays(self):
        done = self.run_program()
        self.assertEqual(done.returncode, 0, done.stderr)
        names = ("train_images", "train_labels", "test_images", "test_labels")
        return [np.load(self.out / f"{name}.npy") for name in names]

    def expect_error(self, text):
        done = self.run_program()
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, text)
        self.assertEqual(done.stderr.count("\n"), 1)
        self.assertFalse(self.out.exists())

    def test_test_images_alone_are_divided_in_their_order(self):
        train, train_labels, test, test_labels = self.arrays()
        self.assertEqual((train.shape, train.dtype, test.shape), ((8, 3, 2), np.float32, (2, 3, 2)))
        np.testing.assert_array_equal(train_labels, np.arange(8))
        np.testing.assert_array_equal(test_labels, [8, 9])
        np.testing.assert_array_equal(test[:, 2, 1], np.float32([8, 9]) / np.float32(255))

    def test_all_of_mnist_is_used_as_it_is_meant(self):
        self.write("train", 30, ".gz")
        train, train_labels, test, test_labels = self.arrays()
        self.assertEqual((len(train), len(train_labels), len(test), len(test_labels)), (30, 30, 10, 10))
        np.testing.assert_array_equal(train[:, 0, 0], np.arange(30, dtype=np.float32) / np.float32(255))

    def test_a_folder_without_mnist_is_named(self):
        (self.data / "t10k-labels-idx1-ubyte").unlink()
        self.expect_error("holds no t10k-images-idx3-ubyte")

    def test_a_file_that_is_cut_off_is_named(self):
        path = self.data / "t10k-images-idx3-ubyte"
        content = path.read_bytes()
        for cut, text in ((content[:-1], "holds 59 bytes, its header says"), (content[:15], "is no idx file")):
            path.write_bytes(cut)
            self.expect_error(text)

    def test_a_damaged_gz_is_named(self):
        path = self.data / "t10k-images-idx3-ubyte"
        packed = gzip.compress(path.read_bytes())
        path.unlink()
        for damaged in (packed[:-9], b"no gz at all", packed[:12] + b"\xff\xff\xff" + packed[15:]):
            (self.data / "t10k-images-idx3-ubyte.gz").write_bytes(damaged)
            self.expect_error("t10k-images-idx3-ubyte.gz: cannot be read")

    def test_sizes_that_overflow_do_not_fit(self):
        huge = struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1)
        (self.data / "t10k-images-idx3-ubyte").write_bytes(huge)
        self.expect_error("holds 0 bytes")

    def test_other_elements_than_bytes_are_refused(self):
        (self.data / "t10k-labels-idx1-ubyte").write_bytes(idx(np.arange(10), kind=13))
        self.expect_error("is no idx file of bytes with 1 dimension:")

    def test_a_folder_that_can_not_be_made_is_named(self):
        self.out.write_text("a file")
        done = self.run_program()
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, rf"^{self.out}: File exists: name another FOLDER, or make room\n$")

    def test_labels_must_be_as_many_as_images_and_digits(self):
        labels = self.data / "t10k-labels-idx1-ubyte"
        labels.write_bytes(idx(np.arange(9)))
        self.expect_error("10 t10k images and 9 labels")
        labels.write_bytes(idx(np.arange(1, 11)))
        self.expect_error("a t10k label is 10")


if __name__ == "__main__":
    unittest.main()
