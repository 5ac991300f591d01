#!/usr/bin/env python3
"""ONNX's own backend tests (onnx.backend.test, as the package has them), run by opsplit.onnx_backend: each model is a
deployment of its own, computed by opsplit's own kernels, all on one opsplitd.

usage: onnx_backend_test.py BIN_DIR [--only PATTERN] [--write]     the package opsplit must be in PYTHONPATH

Whatever opsplit does not refuse must be right, but for the exceptions that are listed here with their reasons; and as
much must pass as has passed. docs/operators.md is the table of what passes, and must be up to date: --write makes it.
"""

import argparse
import collections
import pathlib
import re
import textwrap
import unittest
import warnings

import onnx
import onnx.backend.test
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import BackendIsNotSupposedToImplementIt

from opsplit import onnx_backend

KINDS = {
    "node": "OnnxBackendNodeModelTest",
    "simple": "OnnxBackendSimpleModelTest",
    "pytorch-converted": "OnnxBackendPyTorchConvertedModelTest",
    "pytorch-operator": "OnnxBackendPyTorchOperatorModelTest",
}
LEAST_PASSED = 989  # of the node tests
EXCEPTIONS = {
    "test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_True": "the expected values count what "
    "ceil_mode adds beyond the padding; ONNX Runtime, and opsplit with it, does not",
    "test_resize_downsample_scales_linear_align_corners": "the expected values count parts of elements in the output's "
    "length; ONNX Runtime, and opsplit with it, does not",
    "test_log_example": "oneDNN's logarithm of 1 is -1.4e-6, more than 1e-7 from 0",
}
PAGE = pathlib.Path(__file__).resolve().parent.parent.parent / "docs/operators.md"


class Backend(onnx_backend.Backend):
    """What opsplit refuses is skipped, with its reason: ONNX's runner would count it as passed."""

    @classmethod
    def prepare(cls, model, device="CPU", **kwargs):
        try:
            return Rep(super().prepare(model, device, **kwargs))
        except BackendIsNotSupposedToImplementIt as refusal:
            raise Refused(str(refusal)) from refusal


class Refused(unittest.SkipTest):
    pass


class Rep:
    brokers: set[int] = set()  # that have been seen

    def __init__(self, rep):
        self._rep = rep

    def run(self, inputs, **kwargs):
        try:
            outputs = self._rep.run(inputs, **kwargs)
            self.brokers.add(self._rep.daemon.broker())
            return outputs
        except BackendIsNotSupposedToImplementIt as refusal:
            raise Refused(str(refusal)) from refusal


class Outcomes(unittest.TestResult):
    """What became of each case, by the name that its folder has."""

    def __init__(self):
        super().__init__()
        self.passed, self.refused, self.wrong = set(), {}, {}

    @staticmethod
    def _name(test):
        return test.id().rpartition(".")[2].removesuffix("_cpu")

    def addSuccess(self, test):
        self.passed.add(self._name(test))

    def addSkip(self, test, reason):
        self.refused[self._name(test)] = " ".join(reason.split())

    def addFailure(self, test, err):
        self.wrong[self._name(test)] = " ".join(str(err[1]).split())

    def addError(self, test, err):
        self.wrong[self._name(test)] = f"{err[0].__name__}: {' '.join(str(err[1]).split())}"


def run(kind, only):
    runner = onnx.backend.test.BackendTest(Backend, __name__)
    case = runner.test_cases[KINDS[kind]]
    names = [name for name in unittest.defaultTestLoader.getTestCaseNames(case) if name.endswith("_cpu")]
    outcomes = Outcomes()
    unittest.TestSuite(case(name) for name in names if re.search(only, name)).run(outcomes)
    return outcomes


def models():
    """Name, operator set (None: none of ONNX's own) and operations of each node test."""
    for case in load_model_tests(kind="node"):
        model = onnx.load(f"{case.model_dir}/model.onnx")
        versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
        yield case.name, max(versions, default=None), {node.op_type for node in model.graph.node}


def blamed(reason, operations):
    """The operations that a refusal is about."""
    named = re.match(r"node '[^']*' \((\w+)\)|.*no kernels for ([\w, .+]+),", reason)
    if named:
        return {name.partition("+")[0] for name in (named[1] or named[2]).split(", ")} & operations
    return operations if len(operations) == 1 else set()


def short(reason):
    """A refusal without what differs from case to case."""
    if "no kernels for" in reason:
        return "another form of it"
    reason = re.sub(r"^(node|input|output) '[^']*'( \([^)]*\))?: ", "", reason)
    reason = re.sub(r"element type (\d+)", lambda number: onnx.TensorProto.DataType.Name(int(number[1])), reason)
    reason = re.sub(r"^'[^']*' is (bfloat16).*", r"\1", reason)
    return re.split(r" \(TensorProto|, which|: | is not supported", reason.replace("'", "`"))[0]


def page(outcomes, totals):
    """docs/operators.md."""
    tested, passed, opsets, reasons = (collections.defaultdict(x) for x in (int, int, set, collections.Counter))
    for name, opset, operations in models():
        for operation in operations:
            tested[operation] += 1
            if name in outcomes.passed:
                passed[operation] += 1
                opsets[operation].add(opset)
        if name in outcomes.refused:
            reason = outcomes.refused[name]
            for operation in blamed(reason, operations):
                reasons[operation][short(reason)] += 1
    lines = [
        "# Operations",
        "",
        "What opsplit's own kernels compute, proved by ONNX's backend tests (`onnx.backend.test` of onnx "
        f"{onnx.__version__}), each run",
        "through `opsplit.onnx_backend` ([python.md](python.md)) on one opsplitd and one broker.",
        "`tests/system/onnx_backend_test.py --write` made this page, and fails without it where it is out of date.",
        "",
        "| tests | passed | refused by name | exceptions | all |",
        "|---|---|---|---|---|",
    ]
    for kind, found in totals.items():
        count = len(found.passed) + len(found.refused) + len(found.wrong)
        lines.append(f"| {kind} | {len(found.passed)} | {len(found.refused)} | {len(found.wrong)} | {count} |")
    lines += ["", "Exceptions, where the answer is another one:", ""]
    for name, reason in sorted(EXCEPTIONS.items()):
        lines += [f"- `{name}`:", *textwrap.wrap(reason, 118, initial_indent="  ", subsequent_indent="  ")]
    lines += [
        "",
        "Inputs that decide on the shapes of others (axes, sizes, pads ...) must be constants of the model; the tests",
        "feed them, and the backend makes them constants when a model is first run.",
        "",
        "Sign, Relu, Max and Min of what is no number (NaN) are none, as in ONNX Runtime, but for float32: there Relu",
        "makes 0 of it, whether it is part of a convolution or not, and Max and Min give the second of two operands",
        "where the first is none. That is what oneDNN computes; in a convolution it would take another pass over the",
        "output to do better.",
        "",
        "An operation is listed with every operator set whose tests it passes; `passed` counts the models in which it",
        "occurs.",
        "",
        "| operation | operator sets | passed | refused |",
        "|---|---|---|---|",
    ]
    for operation in sorted(tested):
        if not passed[operation]:
            continue
        sets = ", ".join(map(str, sorted(opsets[operation])))
        why = "; ".join(f"{text} ({count})" for text, count in sorted(reasons[operation].items()))
        lines.append(f"| {operation} | {sets} | {passed[operation]} of {tested[operation]} | {why} |")
    missing = sorted(operation for operation in tested if not passed[operation])
    lines += ["", *textwrap.wrap(f"Not there: {', '.join(missing)}.", 120), ""]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", type=pathlib.Path, metavar="BIN_DIR")
    parser.add_argument("--only", default="", metavar="PATTERN", help="cases whose names match; no page then")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    options = parser.parse_args()
    Backend.programs = options.programs
    failures = []
    totals = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numbers beyond a type's range, in the tests themselves
        for kind in KINDS:
            totals[kind] = run(kind, options.only)
    for kind, found in totals.items():
        for name, why in sorted(found.refused.items()):
            print(f"{name}: refused: {why}")
        for name, why in sorted(found.wrong.items()):
            print(f"{name}: {'EXCEPTION' if name in EXCEPTIONS else 'FAILED'}: {why[:300]}")
            if name not in EXCEPTIONS:
                failures.append(f"{name} is wrong")
        failures += [f"{name} passes: take it out of EXCEPTIONS" for name in sorted(found.passed & EXCEPTIONS.keys())]
        print(f"{kind}: {len(found.passed)} passed, {len(found.refused)} refused, {len(found.wrong)} wrong")
    if not options.only:
        if len(totals["node"].passed) < LEAST_PASSED:
            failures.append(f"{len(totals['node'].passed)} node tests passed, there were {LEAST_PASSED}")
        text = page(totals["node"], totals)
        if options.write:
            PAGE.write_text(text)
        elif PAGE.read_text() != text:
            failures.append(f"docs/{PAGE.name} is not what this run proves: {parser.prog} BIN_DIR --write")
    if len(Rep.brokers) != 1:
        failures.append(f"not one broker, but {len(Rep.brokers)}")
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
