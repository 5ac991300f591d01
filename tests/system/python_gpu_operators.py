#!/usr/bin/env python3
"""Operators in Python on GPUs that are host memory, for python_gpu_test.py.

usage: python_gpu_operators.py FAKE WHICH OPTION...     FAKE: the folder of their opsplit._cuda; WHICH: one of `functions`
"""

import pathlib
import sys

import numpy as np

import opsplit

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "operators/python"))
from capsules import Capsule  # noqa: E402

NO_STREAM = -1  # the work is done when the function returns


@opsplit.operator("Relu")
class Relu:
    def __init__(self, node):
        if node.gpu is None:
            raise ValueError("made for a CPU")
        self.device = (2, node.gpu.number)

    def __call__(self, x, *, out):
        source, target = Capsule(x, NO_STREAM), Capsule(out, NO_STREAM)
        if (source.device, target.device) != (self.device, self.device):
            raise ValueError(f"{x} and {out} are not on GPU {self.device}")
        np.maximum(source.float32(), 0, out=target.float32())


def attached(argv):
    opsplit.main(Relu, argv=argv, gpu=True)


def on_cpus(argv):
    opsplit.main(Relu, argv=argv)


def backend(argv):
    """As opsplit.pytorch is one, of tasks that are a Relu."""

    def make_task(task):
        if [node.op_type for node in task.nodes] != ["Relu"] or task.gpu is None:
            raise ValueError(f"{task.name} is no Relu on a GPU")

        def run(inputs, outputs):
            source, target = Capsule(inputs[0], NO_STREAM), Capsule(outputs[0], NO_STREAM)
            np.maximum(source.float32(), 0, out=target.float32())

        return run

    opsplit.run_backend(make_task, argv, gpu=True)


functions = {"attached": attached, "on_cpus": on_cpus, "backend": backend}

if __name__ == "__main__":
    opsplit.__path__.insert(0, sys.argv[1])
    functions[sys.argv[2]]([sys.argv[0], *sys.argv[3:]])
