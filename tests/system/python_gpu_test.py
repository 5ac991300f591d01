#!/usr/bin/env python3
"""Operators in Python on GPUs that are host memory, in real deployments of the digits model.

usage: python_gpu_test.py BIN_DIR FAKE [TEST...]     FAKE: the folder of their opsplit._cuda
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

import numpy as np

import opsplit

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MODEL = ROOT / "examples/digits/digits.onnx"
IMAGES = np.load(ROOT / "examples/digits/test_images.npy").astype(np.float32)[:20].reshape(-1, 1, 1, 8, 8) / 16
OPERATORS = ROOT / "tests/system/python_gpu_operators.py"
LIMIT_S = 120
programs = fake = pathlib.Path()


class PythonGpuTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.processes = []
        self.addCleanup(self.end)

    def end(self):
        self.opsplit("down")
        for process in self.processes:
            try:
                process.communicate(timeout=LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                self.fail(f"still running after `down`: {process.args}")

    @staticmethod
    def opsplit(*arguments, **options):
        command = [programs / "fake-gpu/opsplit", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False, **options)

    def start(self, *command):
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        self.processes.append(subprocess.Popen(list(map(str, command)), text=True, **pipes))
        return self.processes[-1]

    def deployment(self, backend):
        """Convolutions and what follows them on one GPU; the rest on CPUs."""
        file = self.folder / "digits.yaml"
        file.write_text(
            f"model: {MODEL}\nname: digits\nsplit: by-type\noperators:\n"
            f"  conv: {{gpu: 1}}\n  relu: {{gpu: 1, backend: {backend}}}\n"
        )
        return file

    def attach(self, which):
        return self.start(
            *(sys.executable, "-B", OPERATORS, fake, which, "--socket", opsplit._core.default_socket()),
            *("--deployment", "digits", "--operator", "relu", "--wait", LIMIT_S),
        )

    def relu(self):
        (digits,) = json.loads(self.opsplit("ps", "--json").stdout)["deployments"]
        return next(instance for instance in digits["instances"] if instance["operator"] == "relu")

    def wait_until_ready(self):
        deadline = time.monotonic() + LIMIT_S
        while self.relu()["state"] != "ready":
            self.assertLess(time.monotonic(), deadline, self.relu())
            time.sleep(0.05)

    def assert_answers(self):
        client = opsplit.connect("digits")
        answers = [client.infer(image) for image in IMAGES]
        self.opsplit("up", MODEL, "--name", "native")
        native = opsplit.connect("native")
        for image, answer in zip(IMAGES, answers):
            np.testing.assert_allclose(answer, native.infer(image), rtol=1e-5, atol=1e-5)

    def test_a_function_attaches(self):
        up = self.start(programs / "fake-gpu/opsplit", "up", self.deployment("attach"))
        self.attach("attached")
        self.assertEqual(up.wait(LIMIT_S), 0)
        self.wait_until_ready()
        self.assert_answers()

    def test_a_function_that_is_for_cpus_is_refused(self):
        up = self.start(programs / "fake-gpu/opsplit", "up", self.deployment("attach"))
        refused = self.attach("on_cpus")
        self.assertEqual(refused.wait(LIMIT_S), 1)
        self.assertIn("operator 'relu' of 'digits' runs on a GPU, which the program", refused.stderr.read())
        self.assertEqual(up.wait(LIMIT_S), 0)

    def test_opsplitd_starts_a_backend(self):
        program = self.folder / "opsplit-operator-pytorch"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -B {OPERATORS} {fake} backend "$@"\n')
        program.chmod(0o755)
        path = {**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}"}
        up = self.opsplit("up", self.deployment("pytorch"), env=path)
        self.assertEqual(up.returncode, 0, up.stderr)
        self.assert_answers()


if __name__ == "__main__":
    programs, fake = pathlib.Path(sys.argv.pop(1)), pathlib.Path(sys.argv.pop(1))
    if not fake.is_dir():
        print(f"skipped: no {fake}: built without CUDA")
        sys.exit(77)
    unittest.main()
