#!/usr/bin/env python3
"""Makes test models of the nine light_*.onnx of the onnx package: real networks, with weights that mean something.

As shipped, their weights are constants and every class comes out as 0.001, so their answers prove nothing. Here every
weight gets a seeded random value, of a scale that keeps the activations sensible from the first layer to the last: the
network is walked node by node on a few seeded images, and each layer's weights are scaled (batch-norm statistics
chosen) by what arrives there. Where an LRN follows, activations are large enough for it to matter. What goes into a
Softmax becomes an output of the model too.

Writes DIR/<model>/model.onnx; weights lie in DIR/<model>/weights.bin where they are larger than 100 MiB. One model
(light_bvlc_alexnet) keeps the old form (IR version 3) in which weights are listed among the inputs.
Needs numpy, onnx, onnxruntime. A model that is there already, made by this same script, is left as it is.
"""

import argparse
import fcntl
import hashlib
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

import numpy as np
import onnx
import onnxruntime
import seeded
from onnx import TensorProto, helper, numpy_helper

WHEEL = "onnx==1.16.2"
FOLDER_IN_WHEEL = "onnx/backend/test/data/light/"
MODELS = (
    "light_bvlc_alexnet",
    "light_densenet121",
    "light_inception_v1",
    "light_inception_v2",
    "light_resnet50",
    "light_shufflenet",
    "light_squeezenet",
    "light_vgg19",
    "light_zfnet512",
)
OLD_FORM = {"light_bvlc_alexnet"}
EXTERNAL_FROM = 100 << 20  # bytes of weights
SEED = 20240731
IMAGES = 8  # that the scales are taken from
LOGIT_SCALE = 3.0
CENTERED = 0.5  # the part of a layer's mean that its bias takes away; all of it makes a deep network chaotic
BRANCH_SCALE = 0.3  # of a batch norm before a sum, as training leaves it: it keeps a deep network from being chaotic
SCALE_BEFORE_LRN = 100.0  # the models' alpha is 0.0001, so that smaller activations pass an LRN unchanged


def fetch(out, names):
    """The models as shipped, in DIR/shipped, taken out of the wheel (which need not install on this Python)."""
    shipped = out / "shipped"
    missing = [name for name in names if not (shipped / f"{name}.onnx").exists()]
    if not missing:
        return shipped
    with tempfile.TemporaryDirectory(dir=out) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary=:all:", "--python-version", "3.12", "--platform", "manylinux2014_x86_64"]
        if subprocess.run([*command, "--dest", folder, WHEEL], check=False).returncode != 0:
            raise SystemExit(f"light_models: pip could not download the wheel of {WHEEL}")
        wheel = zipfile.ZipFile(next(pathlib.Path(folder).glob("onnx-*.whl")))
        shipped.mkdir(exist_ok=True)
        for name in missing:
            part = shipped / f"{name}.part"
            part.write_bytes(wheel.read(f"{FOLDER_IN_WHEEL}{name}.onnx"))
            part.rename(shipped / f"{name}.onnx")
    return shipped


def rounded(value):
    """Three digits, so that another version of ONNX Runtime hardly ever changes a weight."""
    value = np.asarray(value, np.float64)
    unit = 10.0 ** (np.floor(np.log10(np.maximum(np.abs(value), 1e-30))) - 2)
    return (np.round(value / unit) * unit).astype(np.float32)


def channel_axes(values):
    return tuple(axis for axis in range(values.ndim) if axis != 1)


class Reweighting:
    """Walks one model in its order of nodes, with `IMAGES` images at once, and chooses the weights on the way."""

    def __init__(self, name, model):
        self.name = name
        self.model = model
        self.graph = model.graph
        self.opset = model.opset_import
        self.constants = {t.name: numpy_helper.to_array(t) for t in self.graph.initializer}
        self.shapes_only = set()  # constants that only said how large a weight is
        self.source = {}  # a constant made of another one by Unsqueeze or Reshape -> that other one
        self.users = {}
        for node in self.graph.node:
            for position, used in enumerate(node.input):
                self.users.setdefault(used, []).append((node, position))
        self.last_layer = None  # the weights and bias before the softmax

    def rng(self, tensor):
        return seeded.generator(SEED, f"{self.name}/{tensor}")

    def random(self, tensor, shape, center, spread):
        return (center + spread * self.rng(tensor).standard_normal(shape, dtype=np.float32)).astype(np.float32)

    def factors(self, tensor, shape):
        """Around 1, some of them negative."""
        rng = self.rng(tensor)
        return (rng.uniform(0.5, 1.5, shape) * np.where(rng.random(shape) < 0.1, -1, 1)).astype(np.float32)

    def set_constant(self, tensor, value):
        """Gives a weight its value, through the Unsqueeze or Reshape that may stand before its use."""
        while tensor in self.source:
            self.constants[tensor] = value.reshape(self.constants[tensor].shape)
            tensor = self.source[tensor]
        self.constants[tensor] = value.reshape(self.constants[tensor].shape)

    def run_node(self, node, feeds):
        """The node's first output, by ONNX Runtime, one run for each feed."""
        kinds = {name: helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in feeds[0].items()}
        graph = helper.make_graph(
            [node],
            "one",
            [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()],
            [helper.make_tensor_value_info(node.output[0], kinds[node.input[0]], None)],
        )
        model = helper.make_model(graph, opset_imports=self.opset)
        model.ir_version = 8
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return [session.run(None, feed)[0] for feed in feeds]

    def follows(self, tensor, wanted, stop):
        """Whether an op of the kinds `wanted` is reached from `tensor` before one of the kinds `stop`."""
        for node, _ in self.users.get(tensor, ()):
            if node.op_type in wanted:
                return True
            if node.op_type not in stop and self.follows(node.output[0], wanted, stop):
                return True
        return False

    def layer(self, node, data):
        """Conv or Gemm. Returns its outputs."""
        shape = self.constants[node.input[1]].shape
        fan_in = int(np.prod(shape[1:]))
        if node.op_type == "Gemm":
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            fan_in = shape[1] if transposed else shape[0]
        weights = self.random(node.input[1], shape, 0, np.sqrt(2 / fan_in))
        has_bias = len(node.input) > 2
        parameters = {node.input[1]: weights}
        if has_bias:
            parameters[node.input[2]] = np.zeros_like(self.constants[node.input[2]])
        outputs = np.concatenate(self.run_node(node, [{node.input[0]: d} | parameters for d in data]))
        if any(user.op_type == "BatchNormalization" for user, _ in self.users.get(node.output[0], ())):
            bias = self.random(node.input[2], outputs.shape[1], 0, 0.1) if has_bias else None
        else:
            target = SCALE_BEFORE_LRN if self.follows(node.output[0], ("LRN",), ("Conv", "Gemm")) else 1.0
            mean = outputs.mean(channel_axes(outputs)) if has_bias else np.zeros(outputs.shape[1])
            spread = (outputs - mean.reshape(-1, *[1] * (outputs.ndim - 2))).std()
            factor = rounded(target / spread)
            weights, outputs = weights * factor, outputs * factor
            bias = None
            if has_bias:
                is_last = not self.follows(node.output[0], ("Conv", "Gemm"), ())
                part = 1 if is_last else CENTERED
                bias = rounded(-part * mean * factor) + self.random(node.input[2], outputs.shape[1], 0, 0.2 * target)
        self.set_constant(node.input[1], weights)
        if has_bias:
            self.set_constant(node.input[2], bias)
            outputs = outputs + bias.reshape(-1, *[1] * (outputs.ndim - 2))
        self.last_layer = node
        return list(outputs.astype(np.float32)[:, None])

    def ends_branch(self, node):
        """Whether this batch norm is the last of a residual branch (and not of the shortcut beside it)."""
        if not self.follows(node.output[0], ("Sum",), ("Conv", "Gemm", "Relu")):
            return False
        layer = next(other for other in self.graph.node if node.input[0] in other.output)
        return len(self.users[layer.input[0]]) == 1

    def normalization(self, node, data):
        scale, bias, mean, variance = node.input[1:5]
        batch = np.concatenate(data)
        seen_mean = batch.mean(channel_axes(batch), dtype=np.float64)
        seen_variance = batch.var(channel_axes(batch), dtype=np.float64)
        seen_variance = np.maximum(seen_variance, 0.05 * seen_variance.mean())
        channels = seen_mean.shape
        off = self.rng(mean).normal(0, 0.2, channels) * np.sqrt(seen_variance)
        size = BRANCH_SCALE if self.ends_branch(node) else 1
        self.set_constant(scale, self.factors(scale, channels) * np.float32(size))
        self.set_constant(bias, self.random(bias, channels, 0, 0.3))
        self.set_constant(mean, rounded(seen_mean) + rounded(off))
        self.set_constant(variance, rounded(seen_variance * self.rng(variance).uniform(0.6, 1.5, channels)))

    def constant_node(self, node):
        """Nodes that make weights: ConstantOfShape becomes the weight itself, views of weights are noted."""
        if node.op_type == "ConstantOfShape":
            self.shapes_only.add(node.input[0])
            self.constants[node.output[0]] = np.zeros(self.constants[node.input[0]], np.float32)
            return True
        if node.op_type in ("Unsqueeze", "Reshape") and node.input[0] in self.constants:
            feed = {name: self.constants[name] for name in node.input}
            self.source[node.output[0]] = node.input[0]
            self.constants[node.output[0]] = self.run_node(node, [feed])[0]
            return True
        return False

    def evaluate(self, node, values):
        data = values[next(name for name in node.input if name in values)]
        if node.op_type in ("Conv", "Gemm"):
            return self.layer(node, data)
        if node.op_type == "BatchNormalization":
            self.normalization(node, data)
        for name in node.input:  # factors and summands that are weights
            if node.op_type in ("Mul", "Add") and name in self.constants:
                shape = self.constants[name].shape
                chosen = self.factors(name, shape) if node.op_type == "Mul" else self.random(name, shape, 0, 0.3)
                self.set_constant(name, chosen)
        fixed = {name: self.constants[name] for name in node.input if name in self.constants}
        feeds = [{n: values[n][k] for n in node.input if n in values} | fixed for k in range(IMAGES)]
        return self.run_node(node, feeds)

    def walk(self):
        """Chooses all weights. Returns the names of the tensors before a softmax."""
        before_softmax = []
        values = {}
        for entry in self.graph.input:
            if entry.name not in self.constants:
                shape = tuple(size.dim_value for size in entry.type.tensor_type.shape.dim)
                made = [seeded.array(seeded.generator(SEED + k, entry.name), shape, np.float32) for k in range(IMAGES)]
                values[entry.name] = made
        pending = {name: len(users) for name, users in self.users.items()}
        kept = {entry.name for entry in self.graph.output}
        for node in self.graph.node:
            if self.constant_node(node):
                continue
            if node.op_type == "Softmax":
                before_softmax.append(node.input[0])
                self.scale_last_layer(values[node.input[0]])
            values[node.output[0]] = self.evaluate(node, values)
            for name in node.input:
                pending[name] -= 1
                if not pending[name] and name not in kept:
                    values.pop(name, None)
        if not before_softmax:
            self.scale_last_layer(values[self.graph.output[0].name])
        used = set(self.users)
        for name, value in self.constants.items():  # an initializer that no node reads is kept, and random as well
            if name not in used and name not in self.source and value.dtype == np.float32:
                self.constants[name] = self.random(name, value.shape, 0, 1)
        return before_softmax

    def scale_last_layer(self, logits):
        """What stands between the last layer and the logits (Relu, pooling, views) hands a factor on as it is."""
        factor = rounded(LOGIT_SCALE / np.concatenate(logits).std())
        for name in self.last_layer.input[1:]:
            self.set_constant(name, self.constants[name] * factor)

    def result(self):
        logits = self.walk()
        made = set()
        for node in list(self.graph.node):
            if node.op_type == "ConstantOfShape":
                made.add(node.output[0])
                self.graph.node.remove(node)
        kept = [t.name for t in self.graph.initializer if t.name not in self.shapes_only] + sorted(made)
        inputs = [entry for entry in self.graph.input if entry.name not in self.constants]
        del self.graph.initializer[:], self.graph.input[:], self.graph.value_info[:]
        self.graph.initializer.extend(numpy_helper.from_array(self.constants[name], name) for name in kept)
        self.graph.input.extend(inputs)
        if self.name in OLD_FORM:
            self.model.ir_version = 3
            for tensor in self.graph.initializer:
                entry = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
                self.graph.input.append(entry)
        else:
            self.model.ir_version = 8
        softmax_shape = [size.dim_value for size in self.graph.output[0].type.tensor_type.shape.dim]
        for name in logits:
            self.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, softmax_shape))
        return self.model


def write(model, folder):
    """Into a folder of another name first, so that what is there is complete."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if size > EXTERNAL_FROM:
        onnx.save_model(
            model,
            str(part / "model.onnx"),
            save_as_external_data=True,
            all_tensors_to_one_file=True,
            location="weights.bin",
        )
    else:
        onnx.save_model(model, str(part / "model.onnx"))
    (part / "recipe").write_text(recipe())
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    return size


def recipe():
    """Names what a model was made by: another version of this script or of seeded.py makes it anew."""
    here = pathlib.Path(__file__).resolve().parent
    parts = [(here / name).read_bytes() for name in ("light_models.py", "seeded.py")]
    return hashlib.sha256(b"".join(parts)).hexdigest() + "\n"


def up_to_date(folder):
    stamp = folder / "recipe"
    return stamp.exists() and stamp.read_text() == recipe()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--models", metavar="A,B", help="some of: " + ", ".join(MODELS) + " (default: all)")
    options = parser.parse_args()
    names = options.models.split(",") if options.models else MODELS
    for name in names:
        if name not in MODELS:
            parser.error(f"no model {name}; there are: {', '.join(MODELS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    with open(options.out / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests that run at once make each model once
        shipped = fetch(options.out, names)
        for name in names:
            folder = options.out / name
            if up_to_date(folder):
                print(f"{name}: is there")
                continue
            size = write(Reweighting(name, onnx.load(str(shipped / f"{name}.onnx"))).result(), folder)
            where = "weights.bin" if (folder / "weights.bin").exists() else "model.onnx"
            print(f"{name}: {size / 1e6:.1f} MB of weights in {where}", flush=True)


if __name__ == "__main__":
    main()
