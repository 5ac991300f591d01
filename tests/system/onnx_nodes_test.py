#!/usr/bin/env python3
"""Operations of older operator sets, which ONNX's own tests (onnx_backend_test.py) leave out, against ONNX Runtime.

usage: onnx_nodes_test.py BIN_DIR
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tools"))

import compare  # noqa: E402
import numpy as np  # noqa: E402
import seeded  # noqa: E402
from onnx import TensorProto, helper, numpy_helper, save  # noqa: E402

RTOL = 1e-4


def older(name, opset, node, shape, constants):
    """A case whose answer is ONNX Runtime's."""
    import onnxruntime

    initializers = [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], name, [x], [y], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 7
    feed = seeded.array(seeded.generator(1, name), shape, np.float32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return name, model, [feed], session.run(None, {"x": feed})


def cases_of_older_sets():
    shape = (1, 3, 6, 10)
    for label, factors in (("up", [1, 1, 2, 3]), ("odd", [1, 1, 1.7, 1.3]), ("down", [1, 1, 0.6, 0.3])):
        scales = np.array(factors, np.float32)
        for mode in ("nearest", "linear"):
            node = helper.make_node("Resize", ["x", "scales"], ["y"], mode=mode)
            yield older(f"resize_10_{mode}_{label}", 10, node, shape, {"scales": scales})
            if label == "down":
                continue  # Upsample only enlarges
            node = helper.make_node("Upsample", ["x", "scales"], ["y"], mode=mode)
            yield older(f"upsample_9_{mode}_{label}", 9, node, shape, {"scales": scales})
            node = helper.make_node("Upsample", ["x"], ["y"], mode=mode, scales=[float(factor) for factor in factors])
            yield older(f"upsample_7_{mode}_{label}", 7, node, shape, {})
        for transformation in ("asymmetric", "align_corners", "tf_half_pixel_for_nn", "half_pixel"):
            for mode in ("nearest", "linear"):
                attributes = {"mode": mode, "coordinate_transformation_mode": transformation}
                node = helper.make_node("Resize", ["x", "roi", "scales"], ["y"], **attributes)
                constants = {"roi": np.zeros(0, np.float32), "scales": scales}
                yield older(f"resize_11_{mode}_{transformation}_{label}", 11, node, shape, constants)
    weights = {"w": np.random.default_rng(1).standard_normal((3, 4, 3, 3)).astype(np.float32)}
    for name, attributes in {
        "upper": {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        "lower": {"auto_pad": "SAME_LOWER", "strides": [2, 3]},
        "valid": {"auto_pad": "VALID", "strides": [2, 3], "output_padding": [1, 2]},
        "wanted": {"output_shape": [11, 20], "strides": [2, 2]},
    }.items():
        node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], **attributes)
        yield older(f"convtranspose_11_{name}", 11, node, shape, weights)


def run(programs, folder, model, inputs):
    """The error, or nothing where opsplit has written its answers to folder/actual."""
    arguments = []
    for entry, value in zip(model.graph.input, inputs):
        np.save(folder / f"{entry.name}.npy", value)
        arguments += ["--input", f"{entry.name}={folder / entry.name}.npy"]
    save(model, str(folder / "model.onnx"))
    command = [programs / "opsplit", "run", folder / "model.onnx", *arguments, "--output-dir", folder / "actual"]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return outcome.stderr.splitlines()[-1] if outcome.returncode else ""


def check(programs, folder, model, inputs, outputs):
    """What is wrong, or nothing."""
    error = run(programs, folder, model, inputs)
    if error:
        return error
    expected = folder / "expected"
    expected.mkdir()
    for entry, value in zip(model.graph.output, outputs):
        np.save(expected / seeded.file_name(entry.name), value)
    results = compare.compare(expected, folder / "actual", RTOL)
    return "; ".join(f"{name}: {text}" for name, agrees, text in results if not agrees)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", type=pathlib.Path, metavar="BIN_DIR")
    programs = parser.parse_args().programs
    failed, count = 0, 0
    for name, model, inputs, outputs in cases_of_older_sets():
        with tempfile.TemporaryDirectory() as folder:
            wrong = check(programs, pathlib.Path(folder), model, inputs, outputs)
        print(f"{name}: {'FAILED: ' + wrong if wrong else 'agrees'}", flush=True)
        count += 1
        failed += bool(wrong)
    subprocess.run([programs / "opsplit", "down"], capture_output=True, timeout=60, check=False)
    print(f"{count} cases, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
