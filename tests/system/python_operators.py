#!/usr/bin/env python3
"""Operators in Python for the system tests and bench/python_hop.py.

usage: python_operators.py WHICH OPTION...     WHICH: one of the functions and classes below
"""

import json
import sys

import numpy as np

import opsplit


@opsplit.operator("Relu")
def relu(x, *, out):
    np.maximum(x.numpy(), 0, out=out.numpy())


@opsplit.operator("Relu")
def nothing(x, *, out):
    pass


@opsplit.operator("Relu")
def returns(x):
    return np.maximum(x, 0)


@opsplit.operator("Relu")
class Located:
    """Looks where its tensors lie: in memory that is shared by the broker."""

    def __init__(self, node):
        self.shared = None

    def __call__(self, x, *, out):
        if self.shared is None:
            self.shared = list(file_mappings("rw-s", "/dev/shm/"))
        for tensor in (x, out):
            if not any(tensor.data_ptr in mapping for mapping in self.shared):
                raise AssertionError(f"{tensor} is in none of {self.shared}")
        relu(x, out=out)


@opsplit.operator("Relu")
class Announced:
    def __init__(self, node):
        print(f"made for {node.name}", file=sys.stderr, flush=True)

    def __call__(self, x, *, out):
        relu(x, out=out)


def file_mappings(wanted, folder):
    """Address ranges of files."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            addresses, permissions, *rest = line.split()
            if permissions == wanted and rest[-1].startswith(folder):
                yield range(*(int(address, 16) for address in addresses.split("-")))


raised = []


@opsplit.operator("Relu")
def raises(x, *, out):
    """At its first request."""
    if not raised:
        raised.append(True)
        raise ValueError("no such luck")
    relu(x, out=out)


kept = []


@opsplit.operator("Relu")
def keeps(x, *, out):
    """At its first request."""
    relu(x, out=out)
    if not kept:
        kept.append(x.numpy()[0])


@opsplit.operator("Relu")
class Unmade:
    def __init__(self, node):
        raise RuntimeError(f"{node.name} has no weights")

    def __call__(self, x, *, out):
        pass


@opsplit.operator("Relu")
class TorchRelu:
    def __init__(self, node):
        import torch  # takes its time

        self.torch = torch

    def __call__(self, x, *, out):
        self.torch.clamp(self.torch.from_dlpack(x), min=0, out=self.torch.from_dlpack(out))


def tells_its_nodes():
    """A backend that prints what it is told of its nodes, and where the constants lie."""
    from opsplit import onnxruntime

    def make_task(task):
        mapped = list(file_mappings("r--p", "/"))
        for node in task.nodes:
            constants = [operand.constant for operand in node.inputs if operand.constant is not None]
            told = {
                "op_type": node.op_type,
                "reads": [operand.name for operand in node.inputs],
                "gives": [operand.name for operand in node.outputs],
                "constants": [list(constant.shape) for constant in constants],
                "mapped": all(any(constant.ctypes.data in part for part in mapped) for constant in constants),
                "writable": any(constant.flags.writeable for constant in constants),
            }
            print(json.dumps(told), file=sys.stderr, flush=True)
        return onnxruntime.make_task(task)

    opsplit.run_backend(make_task)


def asks_late():
    """A backend that wants the model when a request is there."""

    def make_task(task):
        assert task.model

        def run(inputs, outputs):
            task.model

        return run

    opsplit.run_backend(make_task)


# -- Modules in place of a task ---------------------------------------------------------------------


def pytorch_module():
    import torch

    from opsplit import pytorch

    pytorch.serve(torch.nn.ReLU())


def pytorch_wrong_module():
    from opsplit import pytorch

    pytorch.serve(lambda x: x[0])


def tensorflow_module():
    import tensorflow

    from opsplit import tensorflow as backend

    backend.serve(tensorflow.keras.layers.ReLU())


def tensorflow_wrong_module():
    from opsplit import tensorflow

    tensorflow.serve(lambda x: x[0])


if __name__ == "__main__":
    which = globals()[sys.argv.pop(1)]
    if isinstance(which, opsplit.Operator):
        opsplit.main(which)
    which()
