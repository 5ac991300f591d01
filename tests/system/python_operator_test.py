#!/usr/bin/env python3
"""Operators, backends and clients in Python, in real deployments of the digits model.

usage: python_operator_test.py BIN_DIR [TEST...]     the package opsplit must be in PYTHONPATH
"""

import asyncio
import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import numpy as np

import opsplit

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MODEL = ROOT / "examples/digits/digits.onnx"
IMAGES = np.load(ROOT / "examples/digits/test_images.npy").astype(np.float32)[:40].reshape(-1, 1, 1, 8, 8) / 16
BY_TYPE = f"model: {MODEL}\nname: digits\nsplit: by-type\noperators:\n  {{}}: {{{{backend: attach}}}}\n"
# Its tensors are no images, so that they lie row-major whoever makes them.
ONE_RELU = f"""model: {MODEL}
name: digits
operators:
  trunk: {{nodes: [conv1..dense1]}}
  relu: {{nodes: [relu4], backend: attach}}
  head: {{nodes: [dense2, probabilities]}}
"""
WHOLE = f"model: {MODEL}\nname: digits\noperators:\n  all: {{nodes: [conv1..probabilities], backend: attach}}\n"
HAS_ONNX = importlib.util.find_spec("onnx") is not None
HAS_ONNXRUNTIME = HAS_ONNX and importlib.util.find_spec("onnxruntime") is not None
LIMIT_S = 120
programs = pathlib.Path()


def start(*arguments):
    return subprocess.Popen(list(map(str, arguments)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run_opsplit(*arguments):
    return subprocess.run(
        [programs / "opsplit", *map(str, arguments)], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


def native_answers():
    """Of our own kernels, to all images."""
    outcome = run_opsplit("up", MODEL, "--name", "native")
    if outcome.returncode:
        raise AssertionError(outcome.stderr)
    client = opsplit.connect("native")
    answers = [client.infer(image) for image in IMAGES]
    run_opsplit("down")
    return answers


def determinants(folder):
    """A model with an op between others that opsplit has no kernels for."""
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node(*node) for node in (("Relu", ["x"], ["a"]), ("Det", ["a"], ["b"]), ("Relu", ["b"], ["y"]))
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [7, 3, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [7])
    model = helper.make_model(
        helper.make_graph(nodes, "determinants", [x], [y]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.save(model, folder / "determinants.onnx")
    return folder / "determinants.onnx"


class PythonOperatorTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.expected = native_answers()

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = pathlib.Path(folder.name) / "digits.yaml"
        self.processes = []
        self.addCleanup(self.end)

    def end(self):
        run_opsplit("down")
        for process in self.processes:
            try:
                process.communicate(timeout=LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                self.fail(f"still running after `down`: {process.args}")

    def attach(self, op, *command):
        process = start(*command, "--deployment", "digits", "--operator", op, "--wait", LIMIT_S)
        self.processes.append(process)
        return process

    def up(self, deployment, op, *command):
        """Starts a deployment one of whose operators `command` is; until that is ready."""
        self.file.write_text(deployment)
        up = start(programs / "opsplit", "up", self.file)
        self.processes.append(up)
        operator = self.attach(op, *command, "--socket", self.socket())
        self.wait_for(up, op, operator)
        return operator

    def wait_for(self, up, op, operator):
        """For `up` to end well and the operator to be ready, unless that ends before."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            self.assertIsNone(operator.poll(), operator.poll() is not None and operator.communicate()[1])
            try:
                self.assertEqual(up.wait(0.1), 0, up.args)
            except subprocess.TimeoutExpired:
                continue
            if all(instance["state"] == "ready" for instance in self.instances(op)):
                return
        self.fail(f"not ready within {LIMIT_S} s")

    def up_relu(self, which, deployment=ONE_RELU):
        return self.up(deployment, "relu", sys.executable, "-B", ROOT / "tests/system/python_operators.py", which)

    @staticmethod
    def socket():
        return opsplit._core.default_socket()

    def assert_answers(self, client, tolerance):
        for image, answer in zip(IMAGES, self.expected):
            np.testing.assert_allclose(client.infer(image), answer, rtol=tolerance, atol=tolerance)

    @staticmethod
    def instances(op):
        deployments = json.loads(run_opsplit("ps", "--json").stdout)["deployments"]
        instances = next(entry for entry in deployments if entry["name"] == "digits")["instances"]
        return [instance for instance in instances if instance["operator"] == op]

    def bytes_copied(self, op):
        return sum(instance["bytes_copied"] for instance in self.instances(op))

    @staticmethod
    def bytes_copied_by_one_request(client):
        with client.request() as request:
            request.inputs["image"][...] = IMAGES[0]
            request.submit()
            request.wait(LIMIT_S)
            return request.bytes_copied

    def test_a_function_takes_part_in_a_deployment(self):
        self.up_relu("relu", BY_TYPE.format("relu"))
        self.assert_answers(opsplit.connect("digits"), 1e-6)
        self.assertEqual(self.bytes_copied("relu"), 0)

    def test_its_tensors_lie_in_the_arena_and_nothing_is_copied(self):
        self.up_relu("Located")
        client = opsplit.connect("digits")
        self.assert_answers(client, 1e-6)
        self.assertEqual(self.bytes_copied_by_one_request(client), 0)
        self.assertEqual(self.bytes_copied("relu"), 0)

    def test_what_it_returns_is_copied_and_counted(self):
        self.up_relu("returns")
        client = opsplit.connect("digits")
        self.assert_answers(client, 1e-6)
        self.assertEqual(self.bytes_copied_by_one_request(client), 64 * 4)
        self.assertEqual(self.bytes_copied("relu"), (len(IMAGES) + 1) * 64 * 4)

    def test_an_exception_arrives_at_the_client_and_the_operator_goes_on(self):
        operator = self.up_relu("raises")
        client = opsplit.connect("digits")
        with self.assertRaises(opsplit.OperatorFailed) as raised:
            client.infer(IMAGES[0])
        self.assertEqual(
            str(raised.exception), "operator 'relu' failed at 'relu4': node relu4: ValueError: no such luck"
        )
        self.assert_answers(client, 1e-6)
        operator.send_signal(signal.SIGTERM)
        _, errors = operator.communicate(timeout=LIMIT_S)
        self.assertEqual(operator.returncode, 0, errors)
        self.assertIn('raise ValueError("no such luck")', errors, "its own log says where")

    def test_a_view_that_is_kept_fails_the_request(self):
        self.up_relu("keeps")
        client = opsplit.connect("digits")
        with self.assertRaisesRegex(opsplit.OperatorFailed, "node relu4: input 0 is still in use .* copy"):
            client.infer(IMAGES[0])
        self.assert_answers(client, 1e-6)

    def test_one_that_can_not_be_made_says_why_and_ends(self):
        self.file.write_text(ONE_RELU)
        self.processes.append(start(programs / "opsplit", "up", self.file))
        command = (sys.executable, "-B", ROOT / "tests/system/python_operators.py", "Unmade")
        operator = self.attach("relu", *command, "--socket", self.socket())
        _, errors = operator.communicate(timeout=LIMIT_S)
        self.assertEqual(operator.returncode, 1)
        self.assertIn("node relu4: its kernel was not made: RuntimeError: relu4 has no weights", errors)

    def test_many_requests_of_asyncio_get_their_own_answers(self):
        self.up_relu("relu")
        client = opsplit.connect("digits")

        async def ask_all():
            return await asyncio.gather(*(client.infer_async(image) for image in IMAGES))

        for answer, own in zip(asyncio.run(ask_all()), self.expected):
            np.testing.assert_allclose(answer, own, rtol=1e-6, atol=1e-6)

    def test_a_client_refuses_wrong_inputs_and_says_what_is_right(self):
        self.up_relu("relu")
        client = opsplit.connect("digits")
        self.assertEqual(client.inputs, (opsplit.TensorSpec("image", np.dtype(np.float32), (1, 1, 8, 8)),))
        self.assertEqual([spec.name for spec in client.outputs], ["probabilities"])
        image = IMAGES[0]
        for wrong, text in (
            ({"image": image[0]}, "input 'image' is float32 1x8x8, the deployment takes float32 1x1x8x8"),
            ({"image": image.astype(float)}, "is float64 1x1x8x8, the deployment takes float32"),
            ({}, "input 'image' .* is missing"),
            ({"image": image, "other": image}, "has no input 'other', it has: image"),
        ):
            with self.assertRaisesRegex(opsplit.InvalidInput, text):
                client.infer(**wrong)
        with self.assertRaisesRegex(opsplit.NotFound, "other"):
            opsplit.connect("other")

    def test_a_request_is_used_in_place_and_holds_its_slot_while_it_is_seen(self):
        self.up_relu("relu", ONE_RELU + "depth: 1\n")
        client = opsplit.connect("digits")
        with client.request() as request:
            request.inputs["image"][...] = IMAGES[0]
            with self.assertRaisesRegex(opsplit.InvalidInput, "not been submitted"):
                request.wait(0)
            request.submit()
            request.wait(LIMIT_S)
            self.assertTrue(request.ready())
            seen = request.outputs["probabilities"]
            self.assertFalse(seen.flags.writeable)
        with self.assertRaisesRegex(opsplit.Unavailable, "all 1 slots are taken"):
            client.request(wait_for_slot=0)
        answer = seen.copy()
        del seen
        np.testing.assert_array_equal(client.infer(IMAGES[0]), answer)
        with self.assertRaisesRegex(opsplit.InvalidInput, "has been closed"):
            request.submit()

    def test_a_wait_has_an_end(self):
        operator = self.up_relu("relu")
        client = opsplit.connect("digits")
        operator.send_signal(signal.SIGSTOP)
        try:
            with client.request() as request:
                request.inputs["image"][...] = IMAGES[0]
                request.submit()
                begun = time.monotonic()
                with self.assertRaisesRegex(opsplit.TimedOut, "deployment 'digits': no answer within 250 ms"):
                    request.wait(0.25)
                self.assertGreaterEqual(time.monotonic() - begun, 0.25)
                self.assertFalse(request.ready())
        finally:
            operator.send_signal(signal.SIGCONT)

    @unittest.skipUnless({0, 1} <= os.sched_getaffinity(0), "CPUs 0 and 1 are not both ours")
    def test_other_cores_make_its_kernels_anew_while_it_serves(self):
        operator = self.up_relu("Announced", ONE_RELU.replace("backend: attach", 'backend: attach, cores: "0-1"'))
        client = opsplit.connect("digits")
        outcome = run_opsplit("set", "digits/relu", "cores=0-0")
        self.assertEqual(outcome.returncode, 0, outcome.stderr)
        self.assert_answers(client, 1e-6)
        made = [operator.stderr.readline() for _ in range(2)]  # the second one waits until it is there
        self.assertEqual(made, ["made for relu4\n"] * 2)
        self.assert_answers(client, 1e-6)

    def test_the_command_line_is_that_of_opsplit_operator(self):
        command = [sys.executable, "-B", str(ROOT / "tests/system/python_operators.py"), "relu"]
        for options, text in ((["--help"], "--deployment"), (["--socket", "x"], "--deployment is required")):
            outcome = subprocess.run(command + options, capture_output=True, text=True, check=False)
            self.assertIn(text, outcome.stdout + outcome.stderr)

    @unittest.skipUnless(importlib.util.find_spec("onnxruntime"), "onnxruntime is not installed")
    def test_onnx_runtime_runs_one_type_of_nodes(self):
        self.up(BY_TYPE.format("conv"), "conv", sys.executable, "-B", "-m", "opsplit.onnxruntime")
        self.assert_answers(opsplit.connect("digits"), 1e-4)

    @unittest.skipUnless(importlib.util.find_spec("onnxruntime"), "onnxruntime is not installed")
    def test_onnx_runtime_runs_the_whole_model_in_place(self):
        self.up(WHOLE, "all", sys.executable, "-B", "-m", "opsplit.onnxruntime")
        self.assert_answers(opsplit.connect("digits"), 1e-4)
        self.assertEqual(self.bytes_copied("all"), 0)

    @unittest.skipUnless(importlib.util.find_spec("onnxruntime"), "onnxruntime is not installed")
    def test_a_backend_is_told_its_nodes_with_constants_where_the_weights_are_mapped(self):
        script = ROOT / "tests/system/python_operators.py"
        operator = self.up(WHOLE, "all", sys.executable, "-B", script, "tells_its_nodes")
        told = [json.loads(operator.stderr.readline()) for _ in range(13)]
        common = {"mapped": True, "writable": False}
        names = {"reads": ["image", "conv1.weight", "conv1.bias"], "gives": ["conv1"]}
        self.assertEqual(told[0], {"op_type": "Conv", **names, "constants": [[64, 1, 3, 3], [64]], **common})
        self.assertEqual(told[8]["op_type"], "Flatten", "views are nodes, too")
        names = {"reads": ["dense2"], "gives": ["probabilities"]}
        self.assertEqual(told[-1], {"op_type": "Softmax", **names, "constants": [], **common})
        self.assert_answers(opsplit.connect("digits"), 1e-4)

    def test_a_model_that_is_asked_for_late_is_an_error(self):
        self.up_relu("asks_late")
        with self.assertRaisesRegex(opsplit.OperatorFailed, "Unavailable: a task's model is there until"):
            opsplit.connect("digits").infer(IMAGES[0])

    @unittest.skipUnless(HAS_ONNXRUNTIME, "onnxruntime or onnx is not installed")
    def test_what_opsplit_has_no_kernels_for_runs_in_onnx_runtime_by_itself(self):
        self.file.write_text(f"model: {determinants(self.file.parent)}\nname: digits\n")
        planned = run_opsplit("plan", self.file)
        self.assertRegex(planned.stdout, r"(?m)^det +onnxruntime .*$")
        self.assertIn("det: opsplit has no kernels for Det\n", planned.stdout)
        outcome = run_opsplit("up", self.file)
        self.assertEqual(outcome.returncode, 0, outcome.stderr)
        x = np.random.default_rng(1).standard_normal((7, 3, 3)).astype(np.float32)
        answer = opsplit.connect("digits").infer(x)
        np.testing.assert_allclose(answer, np.maximum(np.linalg.det(np.maximum(x, 0)), 0), rtol=1e-5, atol=1e-6)
        self.assertEqual([instance["backend"] for instance in self.instances("det")], ["onnxruntime"])
        self.assertEqual([instance["backend"] for instance in self.instances("relu")], ["native"])
        self.assertEqual(self.bytes_copied("det"), 0)

    def write_whole(self, backend, nodes, inputs, outputs, constants=()):
        """A deployment of one operator, of a model of these nodes: (op type, inputs, output). Types as
        make_tensor_value_info takes them."""
        import onnx
        from onnx import helper, numpy_helper

        graph = helper.make_graph(
            [helper.make_node(op_type, reads, [gives], gives) for op_type, reads, gives in nodes],
            "small",
            [helper.make_tensor_value_info(*value) for value in inputs],
            [helper.make_tensor_value_info(*value) for value in outputs],
            [numpy_helper.from_array(array, name) for name, array in constants],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, self.file.with_suffix(".onnx"))
        whole = f"all: {{nodes: [{nodes[0][2]}..{nodes[-1][2]}], backend: {backend}}}"
        self.file.write_text(f"model: digits.onnx\nname: digits\noperators:\n  {whole}\n")

    @unittest.skipUnless(HAS_ONNXRUNTIME, "onnxruntime or onnx is not installed")
    def test_what_fails_on_some_inputs_starts_if_it_computes_ones_or_zeros(self):
        int32, int64 = 6, 7  # TensorProto's
        a, row = np.array([[7, 9]], np.int32), np.array([0], np.int64)
        for op_type, b, b_type, answer in (
            ("Div", a, int32, [[1, 1]]),  # not by 0
            ("Gather", row, int64, a),  # there is no row 1
        ):
            inputs = [("a", int32, a.shape), ("b", b_type, b.shape)]
            self.write_whole("onnxruntime", [(op_type, ["a", "b"], "y")], inputs, [("y", int32, a.shape)])
            outcome = run_opsplit("up", self.file)
            self.assertEqual(outcome.returncode, 0, outcome.stderr)
            np.testing.assert_array_equal(opsplit.connect("digits").infer(a=a, b=b), answer)
            run_opsplit("down")

    @unittest.skipUnless(HAS_ONNXRUNTIME, "onnxruntime or onnx is not installed")
    def test_what_computes_neither_ones_nor_zeros_starts_where_it_attaches(self):
        float32, int64 = 1, 7
        nodes = [("Add", ["index", "five"], "row"), ("Gather", ["x", "row"], "y")]
        model = (
            nodes,
            [("x", float32, [3]), ("index", int64, [1])],
            [("y", float32, [1])],
            [("five", np.array([5], np.int64))],
        )
        self.write_whole("onnxruntime", *model)
        outcome = run_opsplit("up", self.file)
        self.assertEqual(outcome.returncode, 1)
        self.assertRegex(outcome.stderr, "task row computes neither ones nor zeros: .*indices element out of data")
        self.write_whole("attach", *model)
        self.up(self.file.read_text(), "all", sys.executable, "-B", "-m", "opsplit.onnxruntime")
        x = np.array([1, 2, 3], np.float32)
        np.testing.assert_array_equal(opsplit.connect("digits").infer(x=x, index=np.array([-4], np.int64)), x[1:2])

    @unittest.skipUnless(HAS_ONNX and importlib.util.find_spec("torch"), "PyTorch or onnx is not installed")
    def test_what_pytorch_can_not_compute_does_not_start_and_says_why(self):
        import torch

        try:
            torch.softmax(torch.ones(1, 4, dtype=torch.float16), 1)
            self.skipTest("this PyTorch computes float16")
        except RuntimeError as error:
            why = str(error)
        float16 = 10
        self.write_whole("pytorch", [("Softmax", ["x"], "y")], [("x", float16, [1, 4])], [("y", float16, [1, 4])])
        outcome = run_opsplit("up", self.file)
        self.assertEqual(outcome.returncode, 1)
        self.assertIn("task y computes neither ones nor zeros: ", outcome.stderr)
        self.assertIn(why, outcome.stderr)

    @unittest.skipUnless(importlib.util.find_spec("torch"), "PyTorch is not installed")
    def test_pytorch_computes_in_place(self):
        self.up_relu("TorchRelu")
        self.assert_answers(opsplit.connect("digits"), 1e-6)
        self.assertEqual(self.bytes_copied("relu"), 0)


class Backend:
    """Tests of one that opsplitd starts, for PythonOperatorTest."""

    def __init__(self, name, copies_answer):
        self.name = name
        self.copies_answer = copies_answer  # computed to memory of its own

    def up(self, test, deployment):
        test.file.write_text(deployment.replace("backend: attach", f"backend: {self.name}"))
        outcome = run_opsplit("up", test.file)
        test.assertEqual(outcome.returncode, 0, outcome.stderr)
        return opsplit.connect("digits")

    def runs_one_type_of_nodes(self, test):
        for op in ("conv", "gemm"):
            client = self.up(test, BY_TYPE.format(op))
            test.assert_answers(client, 1e-4)
            test.assertEqual([instance["backend"] for instance in test.instances(op)], [self.name])
            run_opsplit("down")

    def runs_relu_and_counts_what_it_copies(self, test):
        client = self.up(test, ONE_RELU)
        test.assert_answers(client, 1e-6)
        test.assertEqual(test.bytes_copied_by_one_request(client), 64 * 4 if self.copies_answer else 0)

    def runs_the_whole_model(self, test):
        client = self.up(test, WHOLE)
        test.assert_answers(client, 1e-4)
        test.assertEqual(test.bytes_copied_by_one_request(client), 10 * 4 if self.copies_answer else 0)

    def runs_a_module_of_the_user_s(self, test):
        test.up_relu(f"{self.name}_module")
        client = opsplit.connect("digits")
        test.assert_answers(client, 1e-6)
        test.assertEqual(test.bytes_copied_by_one_request(client), 64 * 4)

    def refuses_what_a_module_returns_wrongly_by_name(self, test):
        test.up_relu(f"{self.name}_wrong_module")
        with test.assertRaisesRegex(opsplit.OperatorFailed, "ValueError: output 'relu4' is float32 64, the task"):
            opsplit.connect("digits").infer(IMAGES[0])

    def takes_the_place_of_an_operator_under_way(self, test):
        client = self.up(test, BY_TYPE.format("relu").replace("backend: attach", "backend: native"))
        swap = start(programs / "opsplit", "swap", "digits/relu", "--backend", self.name)
        test.processes.append(swap)
        while swap.poll() is None:
            test.assert_answers(client, 1e-4)
        output, errors = swap.communicate()
        test.assertEqual(swap.returncode, 0, output + errors)
        test.assert_answers(client, 1e-4)
        test.assertIn((self.name, "ready"), [(entry["backend"], entry["state"]) for entry in test.instances("relu")])

    def add_tests(self, module):
        there = unittest.skipUnless(importlib.util.find_spec(module), f"{module} is not installed")
        for name in vars(Backend):
            if name.startswith(("runs_", "takes_", "refuses_")):
                setattr(PythonOperatorTest, f"test_{self.name}_{name}", there(self.test(name)))

    def test(self, name):
        def run(test):
            getattr(self, name)(test)

        return run

    def add_program(self, folder):
        """opsplit-operator-NAME, as pip makes it."""
        program = folder / f"opsplit-operator-{self.name}"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -B -m opsplit.{self.name} "$@"\n')
        program.chmod(0o755)


if __name__ == "__main__":
    programs = pathlib.Path(sys.argv.pop(1))
    with tempfile.TemporaryDirectory() as scripts:
        os.environ["PATH"] = f"{scripts}:{os.environ['PATH']}"  # opsplitd's, too
        for backend, module in ((Backend("pytorch", False), "torch"), (Backend("tensorflow", True), "tensorflow")):
            backend.add_tests(module)
            backend.add_program(pathlib.Path(scripts))
        Backend("onnxruntime", False).add_program(pathlib.Path(scripts))
        unittest.main(verbosity=2)
