#!/usr/bin/env python3
"""Trains the digits network and writes digits.onnx, test_images.npy and test_labels.npy beside this file.

Needs, all from Debian: python3-torch python3-sklearn python3-onnx. Takes about a minute on one core.
The test images are set aside first, by a fixed seed, and nothing here looks at them before training has ended.
"""

import argparse
import pathlib

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SEED = 20240229
TEST_IMAGES = 360
PIXEL_MAX = 16  # the images hold 0..16; the network takes pixel / 16
EPOCHS = 80
BATCH = 32
CHANNELS = (64, 96, 96)
HIDDEN = 64
HERE = pathlib.Path(__file__).resolve().parent


class Digits(torch.nn.Module):
    """Conv-Relu, Conv-Relu, MaxPool, Conv-Relu, MaxPool, Gemm-Relu, Gemm; the softmax is added on export."""

    def __init__(self):
        super().__init__()
        first, second, third = CHANNELS
        self.conv1 = torch.nn.Conv2d(1, first, 3, padding=1)
        self.conv2 = torch.nn.Conv2d(first, second, 3, padding=1)
        self.conv3 = torch.nn.Conv2d(second, third, 3, padding=1)
        self.dense1 = torch.nn.Linear(third * 2 * 2, HIDDEN)
        self.dense2 = torch.nn.Linear(HIDDEN, 10)
        self.dropout = torch.nn.Dropout(0.3)  # while training only; not in the exported model

    def forward(self, image):
        x = torch.relu(self.conv1(image))
        x = torch.nn.functional.max_pool2d(torch.relu(self.conv2(x)), 2)
        x = torch.nn.functional.max_pool2d(torch.relu(self.conv3(x)), 2)
        x = self.dropout(x.flatten(1))
        return self.dense2(torch.relu(self.dense1(x)))


def load():
    """Train and test images (uint8, N x 8 x 8, 0..16), then the labels of each."""
    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.uint8).reshape(-1, 8, 8)
    return train_test_split(
        images, labels.astype(np.uint8), test_size=TEST_IMAGES, random_state=SEED, stratify=labels
    )


def to_input(images):
    return torch.from_numpy(images.astype(np.float32)[:, None] / PIXEL_MAX)


def augment(images):
    """Small random rotations, scalings, shears and shifts."""
    count = images.shape[0]
    angle = (torch.rand(count) - 0.5) * 0.4
    scale = 1 + (torch.rand(count, 2) - 0.5) * 0.25
    shear = (torch.rand(count) - 0.5) * 0.3
    shift = (torch.rand(count, 2) - 0.5) * 0.3
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = torch.cos(angle) * scale[:, 0]
    theta[:, 0, 1] = -torch.sin(angle) + shear
    theta[:, 1, 0] = torch.sin(angle)
    theta[:, 1, 1] = torch.cos(angle) * scale[:, 1]
    theta[:, :, 2] = shift
    grid = torch.nn.functional.affine_grid(theta, images.shape, align_corners=False)
    return torch.nn.functional.grid_sample(images, grid, align_corners=False)


def train(images, labels):
    torch.manual_seed(SEED)
    model = Digits()
    inputs, targets = to_input(images), torch.from_numpy(labels.astype(np.int64))
    steps = -(-len(inputs) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, epochs=EPOCHS, steps_per_epoch=steps)
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=0.05)
    for epoch in range(EPOCHS):
        total = 0.0
        for picked in torch.randperm(len(inputs)).split(BATCH):
            optimizer.zero_grad()
            loss = loss_of(model(augment(inputs[picked])), targets[picked])
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1:3d}  loss {total / steps:.4f}")
    return model.eval()


def to_onnx(model):
    """The trained network as an ONNX model, opset 13, batch 1."""
    weights = {name: value.detach().numpy() for name, value in model.named_parameters()}
    conv = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [1, 1]}
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}

    def node(op, name, source, parameters=(), **attributes):
        inputs = [source] + [f"{name}.{p}" for p in parameters]
        return helper.make_node(op, inputs, [name], name=name, **attributes)

    nodes = [
        node("Conv", "conv1", "image", ("weight", "bias"), **conv),
        node("Relu", "relu1", "conv1"),
        node("Conv", "conv2", "relu1", ("weight", "bias"), **conv),
        node("Relu", "relu2", "conv2"),
        node("MaxPool", "pool1", "relu2", **pool),
        node("Conv", "conv3", "pool1", ("weight", "bias"), **conv),
        node("Relu", "relu3", "conv3"),
        node("MaxPool", "pool2", "relu3", **pool),
        node("Flatten", "flat", "pool2", axis=1),
        node("Gemm", "dense1", "flat", ("weight", "bias"), transB=1),
        node("Relu", "relu4", "dense1"),
        node("Gemm", "dense2", "relu4", ("weight", "bias"), transB=1),
        node("Softmax", "probabilities", "dense2", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    result = helper.make_model(
        graph, producer_name="opsplit examples/digits/train.py", opset_imports=[helper.make_opsetid("", 13)]
    )
    result.ir_version = 7
    onnx.checker.check_model(result)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=HERE, help="folder to write to (default: beside this file)")
    out = parser.parse_args().out
    torch.set_num_threads(1)  # more would not be faster, and the result would depend on the machine

    train_images, test_images, train_labels, test_labels = load()
    model = train(train_images, train_labels)
    out.mkdir(parents=True, exist_ok=True)
    onnx.save(to_onnx(model), str(out / "digits.onnx"))
    np.save(out / "test_images.npy", test_images)
    np.save(out / "test_labels.npy", test_labels)

    with torch.no_grad():
        right = int((model(to_input(test_images)).argmax(1).numpy() == test_labels).sum())
    print(f"accuracy {100 * right / TEST_IMAGES:.1f} % ({right} of {TEST_IMAGES} test images)")


if __name__ == "__main__":
    main()
