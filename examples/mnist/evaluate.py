#!/usr/bin/env python3
"""Asks a deployment that runs for every test image in FOLDER, and compares its predictions with the framework's own.

Exit code 1 where one differs, or where the accuracy is below --at-least. Needs numpy and opsplit's Python package.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

import numpy as np
import opsplit


def ask(deployment: str, images: np.ndarray) -> np.ndarray:
    """The deployment's answer to each image."""
    try:
        client = opsplit.connect(deployment)
        return np.concatenate([client.infer(image[np.newaxis]) for image in images])
    except opsplit.Error as error:
        sys.exit(f"{deployment}: {error}")


def load(path: pathlib.Path) -> np.ndarray:
    try:
        return np.load(path)
    except (OSError, ValueError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        sys.exit(f"{path}: {reason}: data.py and the training make FOLDER, see README.md")


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("deployment", metavar="DEPLOYMENT")
    parser.add_argument("folder", type=pathlib.Path, metavar="FOLDER")
    parser.add_argument("--at-least", type=float, default=0, metavar="PERCENT")
    options = parser.parse_args()
    images, labels, expected = (
        load(options.folder / f"{name}.npy") for name in ("test_images", "test_labels", "predictions")
    )
    answers = ask(options.deployment, images)
    if answers.shape != expected.shape:
        shapes = f"its answers are {answers.shape}, the framework's {expected.shape}"
        sys.exit(f"{options.deployment}: {shapes}: train and start it again")

    predicted, framework = answers.argmax(axis=1), expected.argmax(axis=1)
    for index in np.flatnonzero(predicted != framework):
        two = [predicted[index], framework[index]]
        print(
            f"image {index}, a {labels[index]}: the deployment says {two[0]}, the framework {two[1]}; "
            f"logits {answers[index][two]} and {expected[index][two]}"
        )
    same = int((predicted == framework).sum())
    accuracy, own = (float((digits == labels).mean()) for digits in (predicted, framework))
    print(f"the framework's accuracy: {percent(own)} of {len(labels)} test images")
    print(f"the split deployment's:   {percent(accuracy)}")
    difference = np.abs(answers - expected).max()
    print(f"the same prediction: {same} of {len(labels)}; largest difference of a logit {difference:.1e}")
    if not np.isfinite(answers).all():
        print("FAILED: not every answer is a finite number")
        return 1
    if same != len(labels):
        print(f"FAILED: {len(labels) - same} predictions differ")
        return 1
    if 100 * accuracy < options.at_least:
        print(f"FAILED: an accuracy of at least {options.at_least:g} % is expected")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
