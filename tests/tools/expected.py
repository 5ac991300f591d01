#!/usr/bin/env python3
"""Seeded random inputs for models, and ONNX Runtime's answers to them, as .npy files beside each model.

DIR/<model>/input_<k>/<tensor>.npy, DIR/<model>/expected_<k>/<tensor>.npy, '/' in a tensor's name as '_'; every folder
DIR/<model> with a model.onnx is done. Answers newer than the model are left as they are.
With --check, answers that would prove nothing are an error: constant, not finite, or the same whatever the input.
Needs numpy, onnxruntime.
"""

import argparse
import fcntl
import os
import pathlib
import shutil

import numpy as np
import seeded


def is_done(model, count):
    newest = max(path.stat().st_mtime for path in (model, model.with_name("weights.bin")) if path.exists())
    for k in range(count):
        folder = model.with_name(f"expected_{k}")
        if not folder.exists() or folder.stat().st_mtime < newest:
            return False
    return True


def save(folder, tensors):
    """Into a folder of another name first, so that what is there is complete."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    for name, value in tensors.items():
        np.save(part / seeded.file_name(name), value)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def answer(model, count, seed, shapes):
    """Writes the inputs and answers of one model."""
    session = seeded.session(model, os.cpu_count() or 1)
    names = [entry.name for entry in session.get_outputs()]
    for k in range(count):
        feed = seeded.inputs_of(session, seed + k, shapes)
        save(model.with_name(f"input_{k}"), feed)
        save(model.with_name(f"expected_{k}"), dict(zip(names, session.run(names, feed))))


def findings(model, count):
    """What is wrong with the answers, as lines; and a line on their scale."""
    wrong, scales = [], []
    files = sorted(path.name for path in model.with_name("expected_0").glob("*.npy"))
    for file in files:
        values = [np.load(model.with_name(f"expected_{k}") / file) for k in range(count)]
        tops = [int(value.argmax()) for value in values]
        total = sum(float(value.sum()) for value in values) / count
        is_probabilities = min(value.min() for value in values) >= 0 and abs(total - 1) < 1e-3
        deviation = float(np.mean([value.std() for value in values]))
        scales.append(f"{file[:-4]}: std {deviation:.3g}, top {tops}")
        if not all(np.isfinite(value).all() for value in values):
            wrong.append(f"{file}: not finite")
        if count > 1 and len(set(tops)) == 1:
            wrong.append(f"{file}: the same class, {tops[0]}, whatever the input")
        if not is_probabilities and not 0.5 <= deviation <= 50:
            wrong.append(f"{file}: standard deviation {deviation:.3g}, not in 0.5..50")
        if is_probabilities and max(value.max() for value in values) < 2 / values[0].size:
            wrong.append(f"{file}: all classes alike")
    return wrong, "; ".join(scales)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--models", metavar="A,B", help="some of the folders only")
    parser.add_argument("--inputs", type=int, default=3, metavar="N", help="inputs for each model (default: 3)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shape", action="append", metavar="NAME=1,3,224,224", help="where the model leaves it open")
    parser.add_argument("--check", action="store_true", help="fail where the answers would prove nothing")
    options = parser.parse_args()
    if options.models:
        models = [options.dir / name / "model.onnx" for name in options.models.split(",")]
    else:
        models = sorted(options.dir.glob("*/model.onnx"))
    if not models:
        parser.error(f"no {options.dir}/*/model.onnx")
    failed = False
    for model in models:
        if not model.exists():
            parser.error(f"no {model}")
        with open(model.with_name("lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # tests that run at once do each model once
            if not is_done(model, options.inputs):
                answer(model, options.inputs, options.seed, seeded.parse_shapes(options.shape))
        wrong, scales = findings(model, options.inputs)
        print(f"{model.parent.name}: {scales}", flush=True)
        for line in wrong if options.check else ():
            print(f"{model.parent.name}: {line}")
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
