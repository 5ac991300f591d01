#!/usr/bin/env python3
"""Models with what opsplit does not look into (subgraphs, sequences, sizes that follow from data, functions, operator sets
that it does not know), split by type, against ONNX Runtime on the whole model.

usage: onnx_bundles_test.py BIN_DIR     the package opsplit must be in PYTHONPATH
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tools"))

import compare  # noqa: E402
import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
import opsplit  # noqa: E402
import seeded  # noqa: E402
from onnx import TensorProto, helper, numpy_helper, save  # noqa: E402

RTOL = 1e-4
FLOAT = TensorProto.FLOAT
PROGRAMS = pathlib.Path()


def info(name, shape, element=FLOAT):
    return helper.make_tensor_value_info(name, element, shape)


def constant(name, value):
    return numpy_helper.from_array(np.asarray(value), name)


def model(nodes, inputs, outputs, constants=(), opset=13, ir_version=8, value_info=(), **more):
    graph = helper.make_graph(nodes, "test", inputs, outputs, list(constants), value_info=list(value_info))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], **more)
    made.ir_version = ir_version
    return made


class Bundles(unittest.TestCase):
    def setUp(self):
        self.scope = tempfile.TemporaryDirectory()
        self.addCleanup(self.scope.cleanup)
        self.folder = pathlib.Path(self.scope.name)

    def opsplit(self, *arguments):
        done = subprocess.run(
            [PROGRAMS / "opsplit", *arguments], capture_output=True, text=True, timeout=120, check=False
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def failing(self, *arguments):
        done = subprocess.run(
            [PROGRAMS / "opsplit", *arguments], capture_output=True, text=True, timeout=60, check=False
        )
        self.assertNotEqual(done.returncode, 0)
        return done.stderr

    def assert_agrees(self, made, feed, bundles, *options):
        """`bundles`: what the plan says that opsplit has no kernels for, of each operator that has such."""
        path = self.folder / "model.onnx"
        save(made, str(path))
        plan = self.opsplit("plan", path, "--split", "by-type", *options)
        told = [line.rpartition(" for ")[2] for line in plan.splitlines() if "has no kernels for" in line]
        self.assertEqual(told, bundles)

        session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
        (self.folder / "expected").mkdir(exist_ok=True)
        for entry, value in zip(made.graph.output, session.run(None, feed)):
            np.save(self.folder / "expected" / seeded.file_name(entry.name), value)
        arguments = []
        for name, value in feed.items():
            np.save(self.folder / f"{name}.npy", value)
            arguments += ["--input", f"{name}={self.folder / name}.npy"]
        self.opsplit("run", path, "--split", "by-type", *options, *arguments, "--output-dir", self.folder / "actual")
        for name, agrees, text in compare.compare(self.folder / "expected", self.folder / "actual", RTOL):
            self.assertTrue(agrees, f"{name}: {text}")

    def x(self, *shape):
        return seeded.array(seeded.generator(1, self.id()), shape, np.float32)

    def test_if_with_what_lies_around_it(self):
        branches = {
            "then_branch": helper.make_graph(
                [helper.make_node("Add", ["r", "w"], ["sum"])], "then", [], [info("sum", [2, 3])]
            ),
            "else_branch": helper.make_graph(
                [helper.make_node("Mul", ["x", "inner"], ["product"])],
                "else",
                [],
                [info("product", [2, 3])],
                [constant("inner", np.float32([3, 4, 5]))],
            ),
        }
        nodes = [
            helper.make_node("Relu", ["x"], ["r"]),
            helper.make_node("If", ["c"], ["b"], **branches),
            helper.make_node("Tanh", ["b"], ["y"]),
        ]
        inputs = [info("c", [], TensorProto.BOOL), info("x", [2, 3])]
        made = model(nodes, inputs, [info("y", [2, 3])], [constant("w", np.float32([1, 2, 3]))])
        for choice in (True, False):
            self.assert_agrees(made, {"c": np.array(choice), "x": self.x(2, 3)}, ["If"])

    def test_loop_whose_result_is_declared(self):
        body = helper.make_graph(
            [
                helper.make_node("Identity", ["going"], ["goes_on"]),
                helper.make_node("MatMul", ["state", "r"], ["next"]),
            ],
            "body",
            [info("i", [], TensorProto.INT64), info("going", [], TensorProto.BOOL), info("state", [3, 3])],
            [info("goes_on", [], TensorProto.BOOL), info("next", [3, 3])],
        )
        nodes = [
            helper.make_node("Relu", ["x"], ["r"]),
            helper.make_node("Loop", ["times", "", "x"], ["l"], body=body),
            helper.make_node("Sigmoid", ["l"], ["y"]),
        ]
        made = model(
            nodes,
            [info("x", [3, 3])],
            [info("y", [3, 3])],
            [constant("times", np.int64(3))],
            value_info=[info("l", [3, 3])],
        )
        self.assert_agrees(made, {"x": self.x(3, 3)}, ["Loop"])

    def test_scan(self):
        body = helper.make_graph(
            [helper.make_node("Add", ["sum", "row"], ["next"]), helper.make_node("Identity", ["next"], ["seen"])],
            "body",
            [info("sum", [4]), info("row", [4])],
            [info("next", [4]), info("seen", [4])],
        )
        nodes = [
            helper.make_node("Abs", ["x"], ["a"]),
            helper.make_node("Scan", ["start", "a"], ["last", "all"], body=body, num_scan_inputs=1),
            helper.make_node("Sqrt", ["last"], ["y"]),
            helper.make_node("Sqrt", ["all"], ["z"]),
        ]
        made = model(
            nodes,
            [info("x", [5, 4])],
            [info("y", [4]), info("z", [5, 4])],
            [constant("start", np.zeros(4, np.float32))],
        )
        self.assert_agrees(made, {"x": self.x(5, 4)}, ["Scan"])

    def test_a_sequence_inside(self):
        nodes = [
            helper.make_node("Relu", ["x"], ["a"]),
            helper.make_node("Neg", ["x"], ["b"]),
            helper.make_node("SequenceConstruct", ["a", "b"], ["s"]),
            helper.make_node("ConcatFromSequence", ["s"], ["c"], axis=1),
            helper.make_node("Tanh", ["c"], ["y"]),
        ]
        made = model(nodes, [info("x", [2, 3])], [info("y", [2, 6])], value_info=[info("c", [2, 6])])
        self.assert_agrees(made, {"x": self.x(2, 3)}, ["SequenceConstruct+1"])

    def test_sizes_that_follow_from_data(self):
        nodes = [
            helper.make_node("Relu", ["x"], ["r"]),
            helper.make_node("NonZero", ["r"], ["where"]),
            helper.make_node("Transpose", ["where"], ["rows"]),
            helper.make_node("GatherND", ["r", "rows"], ["found"]),
            helper.make_node("ReduceSum", ["found"], ["sum"], keepdims=0),
            helper.make_node("Div", ["r", "sum"], ["y"]),
        ]
        made = model(nodes, [info("x", ["n", 5])], [info("y", ["n", 5])])
        made.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
        self.assert_agrees(made, {"x": self.x(4, 5)}, ["NonZero+3"])

    def test_an_output_with_declared_sizes(self):
        nodes = [
            helper.make_node("Unique", ["x"], ["u"], sorted=1),
            helper.make_node("TopK", ["u", "k"], ["y", "where"]),
        ]
        made = model(
            nodes,
            [info("x", [3, 4])],
            [info("y", [2]), info("where", [2], TensorProto.INT64)],
            [constant("k", np.int64([2]))],
        )
        self.assert_agrees(made, {"x": self.x(3, 4)}, ["Unique+1"])

    def test_strings_inside(self):
        nodes = [
            helper.make_node("Cast", ["x"], ["text"], to=TensorProto.STRING),
            helper.make_node("Concat", ["text", "more"], ["texts"], axis=0),
            helper.make_node("Cast", ["texts"], ["numbers"], to=FLOAT),
            helper.make_node("Relu", ["numbers"], ["y"]),
        ]
        words = helper.make_tensor("more", TensorProto.STRING, [2], [b"1.5", b"-2"])
        made = model(nodes, [info("x", [3])], [info("y", [5])], [words])
        self.assert_agrees(made, {"x": self.x(3)}, ["Cast+3"])
        nodes.insert(0, helper.make_node("Constant", [], ["more"], value_strings=["1.5", "-2"]))
        made = model(nodes, [info("x", [3])], [info("y", [5])])
        self.assert_agrees(made, {"x": self.x(3)}, ["Cast+3"])

    def test_functions_of_the_model(self):
        twice = helper.make_function(
            "local",
            "Twice",
            ["a"],
            ["b"],
            [helper.make_node("Add", ["a", "a"], ["b"])],
            [helper.make_opsetid("", 15)],
        )
        nodes = [
            helper.make_node("Twice", ["x"], ["t"], domain="local"),
            helper.make_node("Tanh", ["t"], ["y"]),
        ]
        made = model(nodes, [info("x", [2, 3])], [info("y", [2, 3])], opset=15, functions=[twice])
        made.opset_import.append(helper.make_opsetid("local", 1))
        self.assert_agrees(made, {"x": self.x(2, 3)}, ["local.Twice"])

    # Of sets that libonnx may know or not: an op each with the declared sizes between them, and none without
    # where it does not.
    def test_operator_sets_that_opsplit_does_not_know(self):
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("Gather", ["shape", "first"], ["n"]),
            helper.make_node("Concat", ["n", "minus"], ["sizes"], axis=0),
            helper.make_node("Reshape", ["b", "sizes"], ["flat"]),
            helper.make_node("Softmax", ["flat"], ["y"]),
        ]
        constants = [
            constant("w", self.x(4, 3, 3, 3)),
            constant("first", np.int64([0])),
            constant("minus", np.int64([-1])),
        ]
        declared = [info("a", [2, 4, 5, 5]), info("b", [2, 4, 5, 5]), info("flat", [2, 100])]
        for opset, ir_version in ((22, 10), (23, 11)):
            with self.subTest(opset=opset):
                made = model(
                    nodes,
                    [info("x", [2, 3, 5, 5])],
                    [info("y", [2, 100])],
                    constants,
                    opset,
                    ir_version,
                    declared,
                )
                self.assert_agrees(made, {"x": self.x(2, 3, 5, 5)}, ["Conv", "Relu", "Reshape", "Softmax"])

    def detector(self):
        """Boxes that overlap little, and how many there are of them."""
        constants = [
            constant("most", np.int64([5])),
            constant("overlap", np.float32([0.5])),
            constant("score", np.float32([0.1])),
        ]
        nodes = [
            helper.make_node("Abs", ["boxes"], ["positive"]),
            helper.make_node("Sigmoid", ["logits"], ["scores"]),
            helper.make_node(
                "NonMaxSuppression", ["positive", "scores", "most", "overlap", "score"], ["selected"], "select"
            ),
            helper.make_node("Shape", ["selected"], ["size"]),
            helper.make_node("Cast", ["size"], ["count"], to=FLOAT),
        ]
        return model(
            nodes,
            [info("boxes", [1, 8, 4]), info("logits", [1, 2, 8])],
            [info("selected", ["n", 3], TensorProto.INT64), info("count", [2])],
            constants,
        )

    def test_an_output_varies_within_its_bound(self):
        made = self.detector()
        for scores in (np.float32([2, 1, -9, 0, 3, -9, -9, 1]), np.full(8, -9, np.float32)):
            feed = {"boxes": np.float32(np.arange(32).reshape(1, 8, 4)), "logits": np.stack([scores, -scores])[None]}
            with self.subTest(scores=scores):
                self.assert_agrees(made, feed, ["NonMaxSuppression+1"], "--shape", "selected=10,3")

    def test_only_who_says_its_sizes_can_take_the_place_of_what_varies(self):
        path = self.folder / "model.onnx"
        save(self.detector(), str(path))
        self.opsplit("up", path, "--split", "by-type", "--name", "detector", "--shape", "selected=10,3")
        self.addCleanup(self.opsplit, "down", "detector")
        script = self.folder / "mine.py"
        script.write_text(
            "import opsplit\n"
            '@opsplit.operator("NonMaxSuppression+1")\n'
            "def mine(*inputs, out):\n    pass\n"
            "opsplit.main(mine)\n"
        )
        (operator,) = (
            instance["operator"]
            for instance in json.loads(self.opsplit("ps", "--json"))["deployments"][0]["instances"]
            if instance["operator"].startswith("nonmax")
        )
        refused = self.failing("swap", f"detector/{operator}", "--", sys.executable, "-B", str(script))
        self.assertIn("follow from data: run its whole task", refused)
        boxes, logits = np.float32(np.arange(32).reshape(1, 8, 4)), np.full((1, 2, 8), -9, np.float32)
        self.assertEqual(opsplit.connect("detector").infer(boxes=boxes, logits=logits)["selected"].shape, (0, 3))

    def test_an_output_larger_than_its_bound_fails_its_request_only(self):
        path = self.folder / "model.onnx"
        save(self.detector(), str(path))
        refused = self.failing("plan", path)
        self.assertIn("how large output 'selected' of the model gets is not known: say --shape selected=", refused)
        self.assertIn("it is ?x3, --shape says 4x4", self.failing("plan", path, "--shape", "selected=4,4"))
        self.assertIn("int64 2x3 at most", self.opsplit("plan", path, "--shape", "selected=2,3"))

        self.opsplit("up", path, "--name", "detector", "--shape", "selected=2,3")
        self.addCleanup(self.opsplit, "down", "detector")
        client = opsplit.connect("detector")
        self.assertEqual(client.outputs[0], opsplit.TensorSpec("selected", np.dtype(np.int64), (2, 3), True))
        boxes = np.float32(np.arange(32).reshape(1, 8, 4) ** 2)
        for count in (1, 2, 0, 1):
            logits = np.full((1, 2, 8), -9, np.float32)
            logits[0, 0, :count] = 1
            answer = client.infer(boxes=boxes, logits=logits)
            self.assertEqual(answer["selected"].tolist(), [[0, 0, box] for box in range(count)])
            self.assertEqual(answer["count"].tolist(), [count, 3])
            logits[0, 0, :3] = 1
            with self.assertRaisesRegex(opsplit.OperatorFailed, "has become 3x3, there is room for 2x3"):
                client.infer(boxes=boxes, logits=logits)


if __name__ == "__main__":
    PROGRAMS = pathlib.Path(sys.argv.pop(1))
    with tempfile.TemporaryDirectory() as scripts:
        os.environ["PATH"] = f"{scripts}:{os.environ['PATH']}"  # opsplitd's, too
        program = pathlib.Path(scripts) / "opsplit-operator-onnxruntime"  # as pip makes it
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -B -m opsplit.onnxruntime "$@"\n')
        program.chmod(0o755)
        ended = unittest.main(verbosity=2, exit=False)
        subprocess.run([PROGRAMS / "opsplit", "down"], capture_output=True, timeout=60, check=False)
    sys.exit(not ended.result.wasSuccessful())
