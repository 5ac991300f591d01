#!/usr/bin/env python3
"""Trains a small network in PyTorch on what data.py has written to FOLDER, evaluates it, and writes to FOLDER
mnist-pytorch.onnx and predictions.npy, PyTorch's own answers (logits) for the test images.

Needs, from Debian: python3-torch, and python3-onnx for PyTorch 2.
"""

from __future__ import annotations

import argparse
import collections
import inspect
import pathlib
import sys

try:
    import numpy as np
    import torch

    if not torch.__version__.startswith("1."):
        import onnx  # noqa: F401  only the export needs it, which would say so after the training
except ImportError as error:
    sys.exit(f"train_pytorch.py: {error}: apt-get install python3-torch python3-onnx")

SEED = 20240229
EPOCHS = 5
BATCH = 32


def make_network(pixels: int) -> torch.nn.Module:
    layers = {
        "flatten": torch.nn.Flatten(),
        "hidden": torch.nn.Linear(pixels, 128),
        "relu": torch.nn.ReLU(),
        "dropout": torch.nn.Dropout(0.2),
        "logits": torch.nn.Linear(128, 10),
    }
    return torch.nn.Sequential(collections.OrderedDict(layers))


def train(network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    optimizer = torch.optim.Adam(network.parameters())
    loss_of = torch.nn.CrossEntropyLoss()
    network.train()
    for epoch in range(EPOCHS):
        total = 0.0
        batches = torch.randperm(len(images)).split(BATCH)
        for picked in batches:
            optimizer.zero_grad()
            loss = loss_of(network(images[picked]), labels[picked])
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch + 1} of {EPOCHS}: loss {total / len(batches):.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, metavar="FOLDER")
    folder = parser.parse_args().folder
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # the result would depend on how many there are

    images, test_images = (torch.from_numpy(np.load(folder / f"{name}_images.npy")) for name in ("train", "test"))
    labels, test_labels = (np.load(folder / f"{name}_labels.npy").astype(np.int64) for name in ("train", "test"))
    network = make_network(images[0].numel())
    train(network, images, torch.from_numpy(labels))

    network.eval()
    with torch.no_grad():
        predictions = network(test_images).numpy()
    np.save(folder / "predictions.npy", predictions)
    right = int((predictions.argmax(axis=1) == test_labels).sum())
    count = len(test_labels)
    print(f"PyTorch {torch.__version__}: accuracy {100 * right / count:.2f} % ({right} of {count})")

    # Later versions export in another way unless they are told not to, which takes one package more.
    as_ever = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    torch.onnx.export(
        network,
        test_images[:1],  # requests are of one image
        str(folder / "mnist-pytorch.onnx"),
        opset_version=13,
        input_names=["image"],
        output_names=["logits"],
        **as_ever,
    )


if __name__ == "__main__":
    main()
