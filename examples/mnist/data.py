#!/usr/bin/env python3
"""Images to train with and to evaluate with, as FOLDER/{train,test}_{images,labels}.npy.

--data DIR: MNIST, in its own idx files, .gz or not. With train-* and t10k-* in DIR, they are what their names say; with
t10k-* alone, its first four fifths are to train with, and the rest is to evaluate with. Without --data: the 8x8 digits
that scikit-learn ships, divided in the same way after a shuffle by a fixed seed.

Images are float32 from 0 to 1, as the networks take them; labels are uint8. Needs numpy, or scikit-learn.
"""

from __future__ import annotations

import argparse
import gzip
import math
import pathlib
import sys
import zlib

import numpy as np

SEED = 20240229
TRAIN_SHARE = 0.8
IDX_UINT8 = 8  # the idx format's number for this type of element
SETS = ("train", "test")


def read_idx(folder: pathlib.Path, name: str, rank: int) -> np.ndarray | None:
    """The array in DIR/NAME or DIR/NAME.gz; None where there is neither."""
    path = next((path for path in (folder / name, folder / f"{name}.gz") if path.exists()), None)
    if path is None:
        return None
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        sys.exit(f"{path}: cannot be read: {error}")
    # Big-endian: two zeros, the element's type, the number of dimensions, then each dimension in 4 bytes.
    header = 4 + 4 * rank
    if len(content) < header or content[:4] != bytes((0, 0, IDX_UINT8, rank)):
        sys.exit(f"{path}: is no idx file of bytes with {rank} dimension{'s' if rank > 1 else ''}: download it again")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", count=rank, offset=4))
    if math.prod(shape) != len(content) - header:
        sys.exit(f"{path}: holds {len(content) - header} bytes, its header says {shape}: download it again")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def read_mnist(folder: pathlib.Path, prefix: str) -> tuple[np.ndarray, np.ndarray] | None:
    images = read_idx(folder, f"{prefix}-images-idx3-ubyte", 3)
    labels = read_idx(folder, f"{prefix}-labels-idx1-ubyte", 1)
    if images is None or labels is None:
        return None
    if len(images) != len(labels) or images.size == 0:
        sys.exit(f"{folder}: {len(images)} {prefix} images and {len(labels)} labels: download both again")
    if labels.max() > 9:
        sys.exit(f"{folder}: a {prefix} label is {labels.max()}: labels are from 0 to 9, download them again")
    return images.astype(np.float32) / 255, labels


def read_digits() -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        sys.exit("data.py: scikit-learn is not installed: apt-get install python3-sklearn, or give MNIST by --data DIR")
    images, labels = load_digits(return_X_y=True)
    picked = np.random.default_rng(SEED).permutation(len(images))
    return (images[picked] / 16).astype(np.float32).reshape(-1, 8, 8), labels[picked].astype(np.uint8)


def load(folder: pathlib.Path | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images and labels to train with, then those to evaluate with."""
    images, labels = read_digits() if folder is None else read_mnist(folder, "t10k") or (None, None)
    if images is None:
        sys.exit(f"{folder}: holds no t10k-images-idx3-ubyte(.gz) and t10k-labels-idx1-ubyte(.gz): give MNIST's folder")
    train = None if folder is None else read_mnist(folder, "train")
    if train is not None:
        return [train, (images, labels)]
    end = int(len(images) * TRAIN_SHARE)
    return [(images[:end], labels[:end]), (images[end:], labels[end:])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path, metavar="FOLDER")
    parser.add_argument("--data", type=pathlib.Path, metavar="DIR")
    options = parser.parse_args()
    sets = load(options.data)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        for name, (images, labels) in zip(SETS, sets):
            np.save(options.out / f"{name}_images.npy", images)
            np.save(options.out / f"{name}_labels.npy", labels)
    except OSError as error:
        sys.exit(f"{error.filename or options.out}: {error.strerror}: name another FOLDER, or make room")
    (train, _), (test, _) = sets
    height, width = train.shape[1:]
    print(f"{len(train)} images of {height}x{width} to train with, {len(test)} others to evaluate with")


if __name__ == "__main__":
    main()
