"""Runs the tasks of an operator in ONNX Runtime, on the tensors where they lie.

python3 -m opsplit.onnxruntime --socket ... --deployment ... --operator ...
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import onnxruntime

from opsplit import Task, Tensor, TensorSpec, run_backend

_BFLOAT16 = 16  # TensorProto.DataType, for what NumPy has no type for
_MOST_BINDINGS = 256  # the places of a slot never move, so that there are few


def make_task(task: Task) -> Callable[[tuple[Tensor, ...], tuple[Tensor, ...]], int]:
    import onnxruntime  # main() has looked whether it is there

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = task.threads
    options.inter_op_num_threads = 1
    # The next operator needs the cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(task.model, options, providers=["CPUExecutionProvider"])
    bindings: dict[tuple[int, ...], onnxruntime.IOBinding] = {}  # by addresses
    varying = [position for position, spec in enumerate(task.outputs) if spec.varies]

    def bind(inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> onnxruntime.IOBinding:
        binding = session.io_binding()
        for add, specs, tensors in (
            (binding.bind_input, task.inputs, inputs),
            (binding.bind_output, task.outputs, outputs),
        ):
            for spec, tensor in zip(specs, tensors):
                if spec.varies:  # ONNX Runtime allocates it, in each run anew
                    add(spec.name)
                else:
                    add(spec.name, "cpu", 0, _element_type(spec), spec.shape, tensor.data_ptr)
        return binding

    def run(inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> int:
        addresses = tuple(tensor.data_ptr for tensor in inputs + outputs)
        if addresses not in bindings:
            if len(bindings) >= _MOST_BINDINGS:
                bindings.clear()
            bindings[addresses] = bind(inputs, outputs)
        binding = bindings[addresses]
        session.run_with_iobinding(binding)
        if not varying:
            return 0
        try:
            results = binding.get_outputs()
            return sum(_deliver(results[position], outputs[position]) for position in varying)
        finally:
            for position in varying:  # else the next run would be given the same memory
                binding.bind_output(task.outputs[position].name)

    return run


def _deliver(result: onnxruntime.OrtValue, output: Tensor) -> int:
    place = output.resize(result.shape())
    ctypes.memmove(place.data_ptr, result.data_ptr(), place.nbytes)
    return place.nbytes


def _element_type(spec: TensorSpec) -> object:
    return _BFLOAT16 if isinstance(spec.dtype, str) else spec.dtype.type


def main() -> NoReturn:
    if importlib.util.find_spec("onnxruntime") is None:
        sys.exit("opsplit.onnxruntime: ONNX Runtime is not installed: pip install onnxruntime")
    run_backend(make_task)


if __name__ == "__main__":
    main()
