#!/usr/bin/env python3
"""ONNX Runtime, at its default optimisation level, with a thread for each CPU that it may use.

Asked with run() or with bound memory, whichever is faster. Needs numpy, onnxruntime.
"""

import time

import numpy as np
import onnxruntime
import serving


class Ask:
    """With fresh outputs for each request."""

    def __init__(self, session, values):
        self.session, self.values = session, values
        self.feed = {name: value.copy() for name, value in values.items()}
        self.outputs = [entry.name for entry in session.get_outputs()]

    def write_inputs(self):
        for name, value in self.values.items():
            np.copyto(self.feed[name], value)

    def __call__(self):
        return dict(zip(self.outputs, self.session.run(self.outputs, self.feed)))


class AskBound(Ask):
    """With memory that inputs and outputs keep from request to request."""

    def __init__(self, session, values):
        super().__init__(session, values)
        self.binding = session.io_binding()
        for name, value in self.feed.items():
            self.binding.bind_input(name, "cpu", 0, value.dtype, value.shape, value.ctypes.data)
        self.results = super().__call__()
        for name, value in self.results.items():
            self.binding.bind_output(name, "cpu", 0, value.dtype, value.shape, value.ctypes.data)

    def __call__(self):
        self.session.run_with_iobinding(self.binding)
        return self.results


def make_session(model, threads, optimized=None):
    """`optimized`: a file that keeps the graph as it is after optimisation, and is used where it is there."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if optimized and optimized.exists():
        model = optimized
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    elif optimized:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def main():
    parser = serving.parse(__doc__)
    parser.add_argument("--sessions", type=int, default=1, help="that share the CPUs (default: 1)")
    options = parser.parse_args()
    serving.end_with_parent()
    start = time.perf_counter()
    sessions = [make_session(options.model, serving.cpus() // options.sessions) for _ in range(options.sessions)]
    load_ms = (time.perf_counter() - start) * 1e3
    values = serving.read_inputs([entry.name for entry in sessions[0].get_inputs()], options.inputs)
    asked = {"run": Ask, "bound memory": AskBound}
    best = serving.fastest({name: make(sessions[0], values) for name, make in asked.items()})
    ready = {"load_ms": load_ms, "variant": best, "versions": {"onnxruntime": onnxruntime.__version__}}
    serving.serve([asked[best](session, values) for session in sessions], options.answers, ready)


if __name__ == "__main__":
    main()
