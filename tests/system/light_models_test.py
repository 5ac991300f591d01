#!/usr/bin/env python3
"""A real model, whole, in every split: its answers against ONNX Runtime's and against those of `fused`.

usage: light_models_test.py BIN_DIR MODEL_DIR SPLIT...

MODEL_DIR as tests/tools/light_models.py or detector.py, and expected.py, made it. Every split is started once and asked with every
input; each output, those before the softmax included, must agree to 1e-3 of the tensor's scale. Where a plan's limits
forbid a split, the error must name the limit and the way out. Nothing may be left after each.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tools"))

import compare  # noqa: E402
import numpy as np  # noqa: E402
import onnx  # noqa: E402
import seeded  # noqa: E402

RTOL = 1e-3
LIMITED = "per-node"  # the only split that may be refused


class Failure(Exception):
    pass


def opsplit(programs, *arguments):
    command = [programs / "opsplit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def succeed(programs, *arguments):
    outcome = opsplit(programs, *arguments)
    if outcome.returncode:
        raise Failure(f"opsplit {' '.join(map(str, arguments))}: {outcome.stderr}")


def input_names(model):
    """What the model is to be fed: old models list their weights among the inputs."""
    graph = onnx.load(str(model), load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    return [entry.name for entry in graph.input if entry.name not in weights]


def shape_options(folder, names):
    """The inputs' shapes, where the model leaves them open."""
    shapes = {name: np.load(folder / "input_0" / seeded.file_name(name), mmap_mode="r").shape for name in names}
    return sum([["--shape", f"{name}={','.join(map(str, shape))}"] for name, shape in shapes.items()], [])


def check(what, expected, actual):
    for name, agrees, text in compare.compare(expected, actual, RTOL):
        if not agrees:
            raise Failure(f"{what}: {name}: {text}")


def leftovers(programs):
    found = [str(path) for path in pathlib.Path("/dev/shm").iterdir()]
    found += [str(path) for path in pathlib.Path("/tmp").rglob("*") if path.is_socket()]
    here = os.readlink("/proc/self/ns/mnt")
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            program = os.readlink(process / "exe")
            if os.readlink(process / "ns/mnt") == here and program.startswith(f"{programs}/opsplit"):
                found.append(f"process {process.name}: {program}")
        except OSError:  # it has ended
            pass
    return found


def run_split(programs, folder, split, answers):
    """Answers of one split to every input, in answers/<split>/<k>. False if the split is refused as it should be."""
    names = input_names(folder / "model.onnx")
    shapes = shape_options(folder, names)
    outcome = opsplit(programs, "up", folder / "model.onnx", *shapes, "--split", split, "--name", "light")
    if outcome.returncode:
        error = outcome.stderr.splitlines()[-1]
        if split == LIMITED and "at most" in error and "stages:" in error:
            print(f"{split}: refused: {error}")
            return False
        raise Failure(f"{split}: {outcome.stderr}")
    for k in range(len(list(folder.glob("input_?")))):
        inputs = [["--input", f"{name}={folder / f'input_{k}' / seeded.file_name(name)}"] for name in names]
        succeed(programs, "infer", "light", *sum(inputs, []), "--output-dir", answers / split / str(k))
    succeed(programs, "down", "light")
    return True


def compare_split(folder, split, answers):
    for k in range(len(list(folder.glob("expected_?")))):
        check(f"{split}, input {k}, against ONNX Runtime", folder / f"expected_{k}", answers / split / str(k))
        check(f"{split}, input {k}, against fused", answers / "fused" / str(k), answers / split / str(k))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", type=pathlib.Path, metavar="BIN_DIR")
    parser.add_argument("folder", type=pathlib.Path, metavar="MODEL_DIR")
    parser.add_argument("splits", nargs="+", metavar="SPLIT", help="`fused` first: the others are compared with it")
    options = parser.parse_args()
    before = set(leftovers(options.programs))
    with tempfile.TemporaryDirectory() as answers:
        for split in options.splits:
            start = time.monotonic()
            try:
                if run_split(options.programs, options.folder, split, pathlib.Path(answers)):
                    compare_split(options.folder, split, pathlib.Path(answers))
                    print(f"{split}: agrees, {time.monotonic() - start:.1f} s", flush=True)
                left = set(leftovers(options.programs)) - before
                if left:
                    raise Failure(f"{split}: left behind: {sorted(left)}")
            except Failure as failure:
                print(f"FAILED {options.folder.name}, {failure}")
                opsplit(options.programs, "down")
                return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
