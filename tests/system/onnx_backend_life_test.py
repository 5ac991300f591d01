#!/usr/bin/env python3
"""What opsplit.onnx_backend starts ends, however the script ends that has used it; and what else its users stumble over.

usage: onnx_backend_life_test.py BIN_DIR [TEST...]     the package opsplit must be in PYTHONPATH
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import unittest

import numpy as np
from onnx import helper, numpy_helper
from onnx.backend.test.runner import BackendIsNotSupposedToImplementIt

import opsplit
from opsplit import onnx_backend

LIMIT_S = 60
X = np.float32([[-1, 2], [3, -4]])
programs = pathlib.Path()

# Prints opsplitd's pid (0: somebody else's), then answers each line that it reads with a Relu, until there is none.
SCRIPT = """
import pathlib, signal, sys
import numpy as np
from opsplit import onnx_backend
sys.path.insert(0, {folder!r})
from onnx_backend_life_test import X, relu

signal.signal(signal.SIGINT, lambda *_: print("interrupted", flush=True))
onnx_backend.Backend.programs = pathlib.Path({programs!r})
rep = onnx_backend.prepare(relu())
rep.run([X])
print(getattr(rep.daemon._process, "pid", 0), flush=True)
for _ in iter(sys.stdin.readline, ""):
    (y,) = rep.run([X])
    print("right" if (y == np.maximum(X, 0)).all() else "wrong", flush=True)
"""


def relu():
    return model(helper.make_node("Relu", ["x"], ["y"]), ["x"])


def model(node, inputs, constants=()):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "small",
        [value(name, 1, X.shape) for name in inputs],
        [value("y", 1, X.shape)],
        [numpy_helper.from_array(array, name) for name, array in constants],
    )
    result = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    result.ir_version = 7
    return result


def runs(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class LifeTest(unittest.TestCase):
    def start(self):
        """A script that has computed once, and the pid of the opsplitd that it has started."""
        text = SCRIPT.format(folder=str(pathlib.Path(__file__).resolve().parent), programs=str(programs))
        script = subprocess.Popen(
            [sys.executable, "-B", "-c", text],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

        def end():
            script.kill()
            script.communicate(timeout=LIMIT_S)

        self.addCleanup(end)
        return script, int(script.stdout.readline())

    def ask(self, script):
        script.stdin.write("\n")
        script.stdin.flush()
        self.assertEqual(script.stdout.readline(), "right\n")

    def expect_end_of(self, pid):
        """And that of whatever opsplitd has followed it: with the last one goes what is in /dev/shm."""
        deadline = time.monotonic() + LIMIT_S
        while runs(pid) or self.left():
            self.assertLess(time.monotonic(), deadline, f"opsplitd ({pid}) or a later one still runs: {self.left()}")
            time.sleep(0.05)

    def left(self):
        return [entry.name for entry in pathlib.Path("/dev/shm").iterdir() if "opsplit" in entry.name]

    def test_opsplitd_ends_however_the_script_ends(self):
        for how in (None, signal.SIGTERM, signal.SIGKILL):
            with self.subTest(how=how):
                script, daemon = self.start()
                self.assertTrue(runs(daemon))
                if how is not None:
                    script.send_signal(how)
                script.communicate(timeout=LIMIT_S)  # nobody else holds its output
                self.expect_end_of(daemon)

    def test_ctrl_c_is_the_script_s(self):
        """Where it goes on, as a notebook does."""
        script, daemon = self.start()
        os.killpg(script.pid, signal.SIGINT)
        self.assertEqual(script.stdout.readline(), "interrupted\n")
        self.ask(script)
        script.communicate(timeout=LIMIT_S)
        self.expect_end_of(daemon)

    def test_who_has_started_opsplitd_may_end_before_others_that_use_it(self):
        first, daemon = self.start()
        second, none = self.start()
        self.assertEqual(none, 0)
        first.communicate(timeout=LIMIT_S)
        self.ask(second)
        second.communicate(timeout=LIMIT_S)
        self.expect_end_of(daemon)

    def status(self):
        return json.loads(subprocess.run([programs / "opsplit", "ps", "--json"], capture_output=True, check=True).stdout)

    def kill_opsplitd(self, pid):
        """And waits for what ends with it: until then its deployments still answer."""
        instances = (instance for deployment in self.status()["deployments"] for instance in deployment["instances"])
        pids = [pid, *(instance["pid"] for instance in instances)]
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + LIMIT_S
        while any(map(runs, pids)):
            self.assertLess(time.monotonic(), deadline, f"of {pids} one still runs")
            time.sleep(0.01)

    def test_a_model_is_started_again_where_opsplitd_or_the_broker_has_died(self):
        for victim in ("opsplitd", "broker"):
            with self.subTest(victim=victim):
                script, daemon = self.start()
                if victim == "opsplitd":
                    self.kill_opsplitd(daemon)
                else:
                    os.kill(self.status()["broker"], signal.SIGKILL)
                self.ask(script)
                self.ask(script)
                script.communicate(timeout=LIMIT_S)
                self.expect_end_of(daemon)

    def test_who_uses_an_opsplitd_of_another_script_that_dies_starts_one(self):
        first, daemon = self.start()
        second, none = self.start()
        self.assertEqual(none, 0)
        self.kill_opsplitd(daemon)
        self.ask(second)
        self.ask(first)
        for script in (first, second):
            script.communicate(timeout=LIMIT_S)
        self.expect_end_of(daemon)


class ModelsTest(unittest.TestCase):
    def test_more_inputs_than_the_model_takes_are_refused(self):
        rep = onnx_backend.prepare(model(helper.make_node("Add", ["x", "w"], ["y"]), ["x", "w"], [("w", 10 * X)]))
        np.testing.assert_array_equal(rep.run([X])[0], 11 * X)
        with self.assertRaisesRegex(opsplit.InvalidInput, "^2 inputs are given, the model takes 1: x$"):
            rep.run([X, X])

    def test_another_device_than_the_cpu_is_refused(self):
        for ask in (
            lambda: onnx_backend.prepare(relu(), "CUDA"),
            lambda: onnx_backend.run_model(relu(), [X], "CUDA:1"),
            lambda: onnx_backend.run_node(helper.make_node("Relu", ["x"], ["y"]), [X], "CUDA"),
        ):
            with self.assertRaisesRegex(BackendIsNotSupposedToImplementIt, "^device 'CUDA.*': opsplit computes on the "):
                ask()

    def check_node(self, op_type, inputs, expected):
        try:
            (y,) = onnx_backend.run_node(helper.make_node(op_type, inputs, ["y"]), [X] * len(inputs))
        except BackendIsNotSupposedToImplementIt as refusal:  # unittest would count it as skipped
            self.fail(str(refusal))
        np.testing.assert_array_equal(y, expected)

    def test_a_node_of_the_newest_operator_set_that_both_have(self):
        self.check_node("Relu", ["x"], np.maximum(X, 0))

    def test_a_node_that_takes_the_same_twice(self):
        self.check_node("Mul", ["x", "x"], X * X)


if __name__ == "__main__":
    programs = onnx_backend.Backend.programs = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main(verbosity=2)
