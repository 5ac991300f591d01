#!/usr/bin/env python3
"""PyTorch, with a thread for each CPU that it may use: the model as onnx2torch converts it, eager or traced, frozen and
optimized for inference, images channels first or last: whichever is fastest, and named.

A model that PyTorch can't run ends it with one line on stderr. Needs torch, onnx, onnx2torch.
"""

import copy
import time
import warnings

import onnx
import onnx2torch
import serving
import torch


def shape_of(graph, name):
    for value in (*graph.value_info, *graph.input, *graph.output):
        if value.name == name:
            return [size.dim_value for size in value.type.tensor_type.shape.dim]
    return []


def prepare(model):
    """The same graph without what onnx2torch does not take: a Dropout, which does nothing here; constants that are
    nodes; a pool over all of an image by way of padding."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    same, nodes = {}, []
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = same.get(name, name)
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type == "Dropout":
            same[node.output[0]] = node.input[0]
            continue
        if node.op_type == "Constant" and "value" in attributes:
            constant = model.graph.initializer.add()
            constant.CopyFrom(attributes["value"])
            constant.name = node.output[0]
            continue
        window = attributes.get("kernel_shape", [])
        if node.op_type == "AveragePool" and shape_of(graph, node.output[0])[2:] == [1] * len(window):
            sizes, pads = shape_of(graph, node.input[0])[2:], attributes.get("pads", [0] * 2 * len(window))
            starts_outside = any(pads[: len(window)])
            if not starts_outside and all(0 < size <= part for size, part in zip(sizes, window)):
                node.op_type = "GlobalAveragePool"
                del node.attribute[:]
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


class Ask:
    def __init__(self, network, values, outputs, channels_last):
        self.network, self.outputs = network, outputs
        self.values = [torch.from_numpy(value) for value in values]
        self.feed = [value.clone() for value in self.values]
        if channels_last:
            self.feed = [to.to(memory_format=torch.channels_last) if to.dim() == 4 else to for to in self.feed]

    def write_inputs(self):
        for to, value in zip(self.feed, self.values):
            to.copy_(value)

    def __call__(self):
        with torch.inference_mode():
            results = self.network(*self.feed)
        results = results if isinstance(results, (tuple, list)) else [results]
        return {name: value.contiguous().numpy() for name, value in zip(self.outputs, results)}


def variants(network, values, outputs):
    """Yields (name, ask) for each way that works."""
    for channels_last in (False, True):
        form = "channels last" if channels_last else "channels first"
        if channels_last:
            network = copy.deepcopy(network).to(memory_format=torch.channels_last)
        eager = Ask(network, values, outputs, channels_last)
        yield f"eager, {form}", eager
        try:
            with torch.no_grad():
                traced = torch.jit.freeze(torch.jit.trace(network, eager.feed, check_trace=False))
                optimized = torch.jit.optimize_for_inference(traced)
            for name, one in (("frozen", traced), ("frozen and optimized", optimized)):
                ask = Ask(one, values, outputs, channels_last)
                for _ in range(3):  # the profiling executor specializes
                    ask()
                yield f"{name}, {form}", ask
        except RuntimeError:
            continue  # a way that this version of PyTorch has not for this model


def main():
    options = serving.parse(__doc__).parse_args()
    serving.end_with_parent()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(serving.cpus())
    # Debian 13's build would compile fused element-wise code with LLVM: for AlexNet alone it was not done in 11 minutes.
    torch._C._jit_set_texpr_fuser_enabled(False)
    start = time.perf_counter()
    try:
        model = prepare(onnx.load(str(options.model)))
        network = onnx2torch.convert(model).eval()
        load_ms = (time.perf_counter() - start) * 1e3
        constants = {constant.name for constant in model.graph.initializer}
        names = [entry.name for entry in model.graph.input if entry.name not in constants]
        values = list(serving.read_inputs(names, options.inputs).values())
        outputs = [entry.name for entry in model.graph.output]
        ways = dict(variants(network, values, outputs))
    except (NotImplementedError, KeyError, RuntimeError) as error:
        raise SystemExit(f"onnx2torch or PyTorch can't run it: {str(error).splitlines()[0]}") from None
    best = serving.fastest(ways)
    versions = {"torch": torch.__version__, "torch.__config__": torch.__config__.show()}
    ready = {"load_ms": load_ms, "variant": best, "versions": versions}
    serving.serve([ways[best]], options.answers, ready)


if __name__ == "__main__":
    main()
