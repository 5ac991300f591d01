#!/usr/bin/env python3
"""Runs examples/mnist/run.sh as a new user would: from training to the comparison, prediction by prediction. Then
spoils one of the framework's predictions, which the comparison must find.

usage: mnist_test.py BIN_DIR pytorch|tensorflow [--image IMAGE]

With real MNIST where it lies beside the repository, else with scikit-learn's digits. Exit code 77, skipped: BIN_DIR is
not that of preset release, the framework is missing, or there are no images.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "mnist"
MNIST = ROOT.parent / "shared" / "data" / "mnist"
DEBIAN_PYTHON = "/usr/bin/python3"
PYTHONS = {"pytorch": DEBIAN_PYTHON, "tensorflow": str(ROOT / "build/venv-tensorflow/bin/python")}
MODULES = {"pytorch": ("torch", "onnx"), "tensorflow": ("tensorflow", "onnx")}


def expect(condition, what):
    if not condition:
        sys.exit(f"FAILED: {what}")


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True, check=False, **options)
    print(done.stdout, flush=True)
    return done


def missing_modules(python, modules):
    found = f"import importlib.util as it; print(*(m for m in {modules!r} if it.find_spec(m) is None))"
    try:
        return subprocess.run([python, "-c", found], capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        return [python]


def why_skipped(programs, framework, image):
    """What is missing here, or None."""
    if programs != ROOT / "build" / "release" / "bin":
        return f"{programs} is not that of preset release"
    if not (programs.parent / "python" / "opsplit").is_dir():
        return "opsplit's Python package is not built"
    if image:
        if not shutil.which("docker"):
            return "no docker"
        if subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode:
            return f"no Docker engine answers, or it has no image {image}"
    else:
        missing = missing_modules(PYTHONS[framework], MODULES[framework])
        if missing:
            return f"no {', '.join(missing)}"
    if not MNIST.is_dir() and missing_modules(DEBIAN_PYTHON, ("sklearn",)):
        return f"no MNIST in {MNIST}, and no scikit-learn (python3-sklearn)"
    return None


def check_output(output):
    """The accuracies, and that no prediction differs."""
    own = re.search(r"the framework's accuracy: +(\S+) % of (\d+) test images", output)
    split = re.search(r"the split deployment's: +(\S+) %", output)
    same = re.search(r"the same prediction: (\d+) of (\d+)", output)
    expect(own and split and same, "the comparison is not printed")
    expect(own[1] == split[1], f"accuracies: {own[1]} % and {split[1]} %")
    expect(same[1] == same[2] == own[2], f"{same[1]} of {same[2]} predictions are the same, of {own[2]} images")
    if MNIST.is_dir():
        expect(int(own[2]) >= 2000, f"only {own[2]} images")
        expect(float(split[1]) >= 93, f"an accuracy of {split[1]} %")
    trained = re.search(r"accuracy (\S+) % \((\d+) of (\d+)\)", output)
    expect(trained and trained[1] == own[1], "the training script says another accuracy")


def check_comparison(programs, name, folder, example):
    """That the comparison fails where it should, and the example leaves alone what it has not started."""
    predictions = folder / "predictions.npy"
    original = np.load(predictions)
    spoiled = original.copy()
    spoiled[7] = np.roll(spoiled[7], 1)
    command = (DEBIAN_PYTHON, "-B", EXAMPLE / "evaluate.py", name, folder)
    environment = {**os.environ, "PYTHONPATH": str(programs.parent / "python")}
    down = run(*command, env=environment, stderr=subprocess.STDOUT)
    expect(down.returncode == 1 and down.stdout.count("\n") == 1, "that no deployment runs is not said in one line")
    expect(run(programs / "opsplit", "up", EXAMPLE / f"{name}.yaml").returncode == 0, "it does not start again")
    try:
        again = run(*example, stderr=subprocess.STDOUT)
        expect(again.returncode == 1 and f"{name} runs already" in again.stdout, "what runs already is not left alone")
        np.save(predictions, spoiled)
        found = run(*command, env=environment)
        expect(found.returncode == 1 and "image 7, a " in found.stdout, "a prediction that differs is not found")
        expect("FAILED: 1 predictions differ" in found.stdout, "another number of predictions differs")
        np.save(predictions, original)
        found = run(*command, "--at-least", "99.9", env=environment)
        expect(found.returncode == 1 and "at least 99.9 %" in found.stdout, "an accuracy that is too low is not found")
    finally:
        np.save(predictions, original)
        run(programs / "opsplit", "down", name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", type=pathlib.Path, metavar="BIN_DIR")
    parser.add_argument("framework", choices=sorted(PYTHONS))
    parser.add_argument("--image")
    options = parser.parse_args()
    programs = options.programs.resolve()
    reason = why_skipped(programs, options.framework, options.image)
    if reason:
        print(f"skipped: {reason}")
        return 77
    data = ["--data", MNIST] if MNIST.is_dir() else []
    image = ["--image", options.image] if options.image else []
    example = (EXAMPLE / "run.sh", *data, *image, options.framework)
    done = run(*example)
    expect(done.returncode == 0, f"run.sh ends with exit code {done.returncode}")
    check_output(done.stdout)
    expect(run(programs / "opsplit", "ps").stdout.strip() == "", "run.sh left something running")
    check_comparison(programs, f"mnist-{options.framework}", ROOT / "build" / "mnist" / options.framework, example)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
