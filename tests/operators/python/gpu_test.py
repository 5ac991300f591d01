#!/usr/bin/env python3
"""Operators on a GPU: their tensors as whoever takes DLPack sees them, and the streams that are tied to theirs.

usage: gpu_test.py FAKE [TEST...]     FAKE: the folder of an opsplit._cuda whose GPUs are host memory
"""

import contextlib
import importlib.util
import io
import os
import pathlib
import subprocess
import sys
import unittest

import numpy as np
from capsules import READ_ONLY, Capsule

import opsplit
from opsplit import _core

STREAM = 0x7000  # the operator's
LEGACY, OF_THE_THREAD, NONE = 1, 2, -1  # DLPack's numbers


class GpuTest(unittest.TestCase):
    def setUp(self):
        self.x = np.array([[-1, 0, 1], [2, -3, 4]], np.float32)
        self.y = np.full((2, 3), 9, np.float32)

    def run_on_gpu(self, function, gpu="1", runs=1):
        """The ties between streams, for each run, of a function of a node."""
        inputs = [opsplit.Tensor(self.x, writable=False)]
        outputs = [opsplit.Tensor(self.y)]
        described = ("n", "Op", 17, {}, (("x", self.x.dtype, (2, 3), None),), (("y", self.y.dtype, (2, 3), None),))
        prepared, keywords = opsplit.operator("Op")(function).prepare((*described, (int(gpu), STREAM)))
        self.kernel = _core.TestCudaKernel(prepared, "node", keywords, inputs, outputs, gpu, STREAM)
        from opsplit import _cuda

        ties = []
        try:
            for _ in range(runs):
                self.kernel.run(inputs, outputs)
                ties.append(_cuda.take_ties())
        except opsplit.OperatorFailed:
            self.ties_of_failure = _cuda.take_ties()
            raise
        return ties

    def test_a_capsule_says_where_the_tensor_lies(self):
        seen = []

        def look(x, *, out):
            for tensor in (x, out):
                capsule = Capsule(tensor)
                seen.append((tensor.__dlpack_device__(), capsule.device, capsule.shape, capsule.strides))
                seen.append((capsule.address, tensor.data_ptr, capsule.flags))
                seen.append(Capsule(tensor, versioned=False).device)

        self.run_on_gpu(look)
        for array, flags, said in ((self.x, READ_ONLY, seen[:3]), (self.y, 0, seen[3:])):
            self.assertEqual(said[0], ((2, 1), (2, 1), (2, 3), (3, 1)))
            self.assertEqual(said[1], (array.ctypes.data, array.ctypes.data, flags))
            self.assertEqual(said[2], (2, 1))

    def test_output_is_written_in_place(self):
        def relu(x, *, out):
            source, target = Capsule(x, NONE), Capsule(out, NONE)
            np.maximum(source.float32(), 0, out=target.float32())

        self.assertEqual(self.run_on_gpu(relu, runs=2), [[], []])
        np.testing.assert_array_equal(self.y, np.maximum(self.x, 0))

    def test_the_consumers_stream_waits_for_the_operators_and_that_for_it(self):
        for stream, number in ((None, LEGACY), (LEGACY, LEGACY), (OF_THE_THREAD, OF_THE_THREAD), (0x9000, 0x9000)):
            with self.subTest(stream):
                ties = self.run_on_gpu(lambda x, *, out, on=stream: Capsule(x, on) and Capsule(out, on) and None, runs=2)
                self.assertEqual(ties, [[(number, STREAM), (number, STREAM), (STREAM, number)]] * 2)

    def test_several_streams_are_waited_for(self):
        def forks(x, *, out):
            Capsule(x, 0x8000)
            Capsule(x, 0x9000)

        self.assertEqual(
            self.run_on_gpu(forks), [[(0x8000, STREAM), (0x9000, STREAM), (STREAM, 0x8000), (STREAM, 0x9000)]]
        )

    def test_the_operators_own_stream_and_none_need_no_ties(self):
        for stream in (STREAM, NONE):
            self.assertEqual(self.run_on_gpu(lambda x, *, out, on=stream: Capsule(x, on) and None), [[]])

    def test_what_was_enqueued_before_an_exception_is_waited_for(self):
        def fails(x, *, out):
            Capsule(out, LEGACY)
            raise ValueError("no luck")

        with self.assertRaisesRegex(opsplit.OperatorFailed, "no luck"), contextlib.redirect_stderr(io.StringIO()):
            self.run_on_gpu(fails)
        self.assertEqual(self.ties_of_failure, [(LEGACY, STREAM), (STREAM, LEGACY)])

    def test_what_is_no_stream_is_refused(self):
        refused = []

        def tries(x, *, out):
            for stream, kind in ((0, ValueError), (-2, ValueError), ("1", TypeError)):
                try:
                    x.__dlpack__(stream=stream)
                except kind:
                    refused.append(stream)

        self.assertEqual(self.run_on_gpu(tries), [[]])
        self.assertEqual(refused, [0, -2, "1"])

    def test_what_needs_the_hosts_memory_is_refused(self):
        refused = []

        def tries(x, *, out):
            for way in (
                lambda: x.numpy(),
                x.copy,
                lambda: np.asarray(x),
                lambda: memoryview(x),
                lambda: x.__dlpack__(dl_device=(1, 0)),
                lambda: x.__dlpack__(copy=True),
            ):
                try:
                    way()
                except BufferError as error:
                    refused.append(str(error))

        self.run_on_gpu(tries)
        self.assertEqual(len(refused), 6, refused)
        self.assertEqual(sum("torch.from_dlpack" in text for text in refused), 4, refused)

    def test_what_is_kept_fails_the_request(self):
        for name, which in (("input 0", 0), ("output 0", 1)):
            kept = []
            with self.subTest(name), self.assertRaisesRegex(opsplit.OperatorFailed, f"^{name} is still in use after"):
                self.run_on_gpu(lambda x, *, out, which=which, kept=kept: kept.append(Capsule((x, out)[which])))
            tensor = kept[0].tensor
            self.assertEqual(tensor.device_type, 2, "whoever keeps it has it still")

    def test_a_tensor_that_outlives_its_operator_is_handed_out_no_more(self):
        kept = []
        with self.assertRaises(opsplit.OperatorFailed):
            self.run_on_gpu(lambda x, *, out: kept.append(x))
        del self.kernel
        with self.assertRaisesRegex(opsplit.Unavailable, "has ended"):
            kept[0].__dlpack__()

    def test_the_node_knows_its_gpu(self):
        seen = []
        self.run_on_gpu(lambda x, *, out, node: seen.append(node.gpu))
        self.assertEqual(seen, [opsplit.Gpu(number=1, stream=STREAM)])

    def test_results_that_would_be_copied_are_refused_when_it_starts(self):
        with self.assertRaisesRegex(TypeError, "it must write to `out`"):
            self.run_on_gpu(lambda x: x)

    def test_a_task_is_run_in_the_same_way(self):
        def run(inputs, outputs):
            np.negative(Capsule(inputs[0], NONE).float32(), out=Capsule(outputs[0], NONE).float32())
            return 7  # bytes, as if it had copied them

        x, y = [opsplit.Tensor(self.x, writable=False)], [opsplit.Tensor(self.y)]
        kernel = _core.TestCudaKernel(run, "task", {}, x, y, "0", STREAM)
        self.assertEqual(kernel.run(x, y), 7)
        np.testing.assert_array_equal(self.y, -self.x)

    def test_without_the_module_it_says_what_to_install(self):
        code = (
            "import sys, opsplit; from opsplit import _core; sys.modules['opsplit._cuda'] = None; "
            "_core.TestCudaKernel(print, 'node', {}, [], [], '0', 7)"
        )
        result = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, check=False)
        self.assertRegex(result.stderr.splitlines()[-1], "opsplit.Unsupported: .*cannot use a GPU .*CUDA Toolkit")

    def test_the_package_itself_needs_no_cuda(self):
        libraries = subprocess.run(["ldd", _core.__file__], capture_output=True, text=True, check=True).stdout
        for name in ("cuda", "cudnn", "cublas"):
            self.assertNotIn(name, libraries)
        real = importlib.util.find_spec("opsplit").submodule_search_locations[-1]
        for module in pathlib.Path(real).glob("_cuda.*.so"):
            libraries = subprocess.run(["ldd", module], capture_output=True, text=True, check=True).stdout
            for name in ("cudnn", "cublas", "not found"):
                self.assertNotIn(name, libraries)
        code = "import sys, opsplit; assert 'opsplit._cuda' not in sys.modules"
        subprocess.run([sys.executable, "-B", "-c", code], check=True)


if __name__ == "__main__":
    fake = sys.argv.pop(1)
    if not os.path.isdir(fake):
        print(f"skipped: no {fake}: built without CUDA")
        sys.exit(77)
    opsplit.__path__.insert(0, fake)
    unittest.main()
