#!/usr/bin/env python3
"""Trains a small network in TensorFlow on what data.py has written to FOLDER, evaluates it, and writes to FOLDER
mnist-tensorflow.onnx and predictions.npy, TensorFlow's own answers (logits) for the test images.

Needs, from PyPI: tensorflow-cpu onnx.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys

# TensorFlow has no other way to be told to say less, and to compute in the same order on every CPU; read on import.
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", TF_ENABLE_ONEDNN_OPTS="0")

try:
    import numpy as np
    import onnx
    import tensorflow as tf
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    sys.exit(f"train_tensorflow.py: {error}: pip install tensorflow-cpu onnx")

SEED = 20240229
EPOCHS = 5
BATCH = 32


def make_network(shape: tuple[int, ...]) -> tf.keras.Model:
    return tf.keras.Sequential(
        [
            tf.keras.Input(shape),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(128, activation="relu", name="hidden"),
            tf.keras.layers.Dropout(0.2),
            tf.keras.layers.Dense(10, name="logits"),
        ]
    )


def to_onnx(network: tf.keras.Model, shape: tuple[int, ...]) -> onnx.ModelProto:
    """The trained network as an ONNX model for one image, without the Dropout, which is for training only."""
    weights = []
    for name in ("hidden", "logits"):
        kernel, bias = network.get_layer(name).get_weights()
        weights += [numpy_helper.from_array(kernel, f"{name}.kernel"), numpy_helper.from_array(bias, f"{name}.bias")]
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"], name="flatten", axis=1),
        helper.make_node("Gemm", ["flat", "hidden.kernel", "hidden.bias"], ["hidden"], name="hidden"),
        helper.make_node("Relu", ["hidden"], ["relu"], name="relu"),
        helper.make_node("Gemm", ["relu", "logits.kernel", "logits.bias"], ["logits"], name="logits"),
    ]
    graph = helper.make_graph(
        nodes,
        "mnist",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, *shape])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 10])],
        weights,
    )
    model = helper.make_model(
        graph, producer_name="opsplit examples/mnist/train_tensorflow.py", opset_imports=[helper.make_opsetid("", 13)]
    )
    model.ir_version = 7
    onnx.checker.check_model(model)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, metavar="FOLDER")
    folder = parser.parse_args().folder
    tf.keras.utils.set_random_seed(SEED)
    tf.config.threading.set_intra_op_parallelism_threads(1)  # the result would depend on how many there are
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()

    images, test_images = (np.load(folder / f"{name}_images.npy") for name in ("train", "test"))
    labels, test_labels = (np.load(folder / f"{name}_labels.npy") for name in ("train", "test"))
    network = make_network(images.shape[1:])
    network.compile(optimizer="adam", loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for epoch in range(EPOCHS):
        loss = network.fit(images, labels, batch_size=BATCH, verbose=0).history["loss"][0]
        print(f"epoch {epoch + 1} of {EPOCHS}: loss {loss:.4f}", flush=True)

    predictions = network.predict(test_images, verbose=0)
    np.save(folder / "predictions.npy", predictions)
    right = int((predictions.argmax(axis=1) == test_labels).sum())
    count = len(test_labels)
    print(f"TensorFlow {tf.__version__}: accuracy {100 * right / count:.2f} % ({right} of {count})")
    onnx.save(to_onnx(network, images.shape[1:]), str(folder / "mnist-tensorflow.onnx"))


if __name__ == "__main__":
    main()
