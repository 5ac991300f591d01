#!/usr/bin/env python3
"""Tensors share their memory with whoever takes them, and only let inputs be read."""

import ctypes
import gc
import importlib.util
import sys
import unittest
import weakref

import numpy as np

import opsplit

DTYPES = "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool".split()


class TensorTest(unittest.TestCase):
    def setUp(self):
        self.array = np.arange(6, dtype=np.float32).reshape(2, 3)
        self.tensor = opsplit.Tensor(self.array)
        self.input = opsplit.Tensor(self.array, writable=False)

    def test_says_what_it_is(self):
        self.assertEqual(self.tensor.shape, (2, 3))
        self.assertEqual(self.tensor.dtype, np.float32)
        self.assertEqual(self.tensor.data_ptr, self.array.ctypes.data)
        self.assertIn("float32 2x3", repr(self.tensor))

    def test_has_every_element_type_of_numpy(self):
        for dtype in DTYPES:
            array = np.ones((2, 2), dtype)
            tensor = opsplit.Tensor(array)
            self.assertEqual(tensor.dtype, dtype)
            np.testing.assert_array_equal(tensor.numpy(), array, strict=True)

    def test_may_be_a_scalar_or_empty(self):
        for array in (np.full((), 3, np.float32), np.zeros((0, 4), np.float32)):
            np.testing.assert_array_equal(opsplit.Tensor(array).numpy(), array, strict=True)

    def test_numpy_is_the_same_memory(self):
        self.tensor.numpy()[0, 1] = 7
        self.assertEqual(self.array[0, 1], 7)
        self.assertTrue(np.shares_memory(np.asarray(self.input), self.array))
        self.assertTrue(np.shares_memory(np.maximum(self.input, 0, out=self.array), self.array))

    def test_an_input_is_read_only(self):
        self.assertFalse(self.input.numpy().flags.writeable)
        self.assertTrue(memoryview(self.input).readonly)
        with self.assertRaises(ValueError):
            self.input.numpy()[...] = 0
        with self.assertRaisesRegex(TypeError, "not writable"):
            (ctypes.c_char * 24).from_buffer(self.input)

    def test_copy_is_memory_of_its_own(self):
        copy = self.input.copy()
        self.array[...] = 0
        self.assertEqual(copy[1, 2], 5)
        self.assertTrue(copy.flags.writeable)

    def test_numpy_takes_it_by_dlpack(self):
        taken = np.from_dlpack(self.tensor)
        self.assertTrue(np.shares_memory(taken, self.array))
        self.assertFalse(np.from_dlpack(self.input).flags.writeable)
        self.assertEqual(self.tensor.__dlpack_device__(), (1, 0))
        with self.assertRaises(BufferError):
            self.tensor.__dlpack__(copy=True)

    def test_a_capsule_holds_the_tensor_until_it_goes(self):
        references = sys.getrefcount(self.tensor)
        for version in (None, (1, 0)):
            capsule = self.tensor.__dlpack__(max_version=version)
            self.assertIn("versioned" if version else '"dltensor"', repr(capsule))
            self.assertEqual(sys.getrefcount(self.tensor), references + 1)
            del capsule  # that nobody took
            self.assertEqual(sys.getrefcount(self.tensor), references)
        taken = np.from_dlpack(self.tensor)
        self.assertEqual(sys.getrefcount(self.tensor), references + 1)
        del taken
        self.assertEqual(sys.getrefcount(self.tensor), references)

    def test_it_keeps_the_array_that_it_was_made_over(self):
        class Array(np.ndarray):
            pass

        array = np.zeros(4, np.float32).view(Array)
        gone = weakref.ref(array)
        view = opsplit.Tensor(array).numpy()
        del array
        gc.collect()
        self.assertIsNotNone(gone())
        del view
        gc.collect()
        self.assertIsNone(gone())

    def test_what_is_no_contiguous_array_is_refused(self):
        with self.assertRaises((BufferError, ValueError)):
            opsplit.Tensor(self.array.T)
        with self.assertRaises(TypeError):
            opsplit.Tensor(np.zeros(3, np.complex64))
        with self.assertRaises(opsplit.LimitExceeded):
            opsplit.Tensor(np.zeros((1,) * 9, np.float32))

    @unittest.skipUnless(importlib.util.find_spec("torch"), "PyTorch is not installed")
    def test_pytorch_takes_it_by_dlpack(self):
        import torch

        taken = torch.from_dlpack(self.tensor)
        taken[0, 0] = 42
        self.assertEqual(self.array[0, 0], 42)
        self.assertEqual(taken.data_ptr(), self.tensor.data_ptr)


if __name__ == "__main__":
    unittest.main()
