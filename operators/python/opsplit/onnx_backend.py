"""opsplit as a backend of ONNX (onnx.backend.base): each model is a deployment, computed by opsplit's own kernels.

    import opsplit.onnx_backend as backend

    outputs = backend.prepare(model).run([x])

opsplitd is started unless one runs, and ends with this process, or with the last one that uses it then. It must be in PATH,
or Backend.programs say where.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import functools
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, version_converter
from onnx.backend.base import Backend as OnnxBackend
from onnx.backend.base import BackendRep as OnnxBackendRep
from onnx.backend.base import namedtupledict
from onnx.backend.test.runner import BackendIsNotSupposedToImplementIt

from opsplit import _client, _core

_OLDEST_OPSET = 7
_NEWEST_OPSET = 21
_LIMIT_S = 600.0  # a large model takes its time to be planned and packed
_CLOSE_LIMIT_S = 10.0

# Inputs that decide on the types of the outputs, by operation: a plan must know what they hold. Those that a model is
# first run with become its constants, and other ones another deployment.
_PLANNED: dict[str, tuple[int, ...]] = {
    "CenterCropPad": (1,),
    "ConstantOfShape": (0,),
    "Dropout": (1, 2),
    "Expand": (1,),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
}


class _Daemon:
    """opsplitd as this process asks it."""

    def __init__(self, programs: pathlib.Path | None) -> None:
        self._programs = programs
        self._process: subprocess.Popen[bytes] | None = None
        self._prefix = f"onnx-{os.getpid()}-"  # of our deployments' names
        self._names = (f"{self._prefix}{number}" for number in itertools.count())
        self._unused: list[str] = []  # deployments that nobody asks any more
        self._lock = threading.Lock()
        self._downs = concurrent.futures.ThreadPoolExecutor(1, "opsplit-down")
        self._ending: list[concurrent.futures.Future[str]] = []  # of the last up()
        self._connect()
        atexit.register(self.close)

    def _connect(self) -> None:
        self._process = None  # whoever listens now may be another's
        try:
            self._control = _core.Control(_core.default_socket(), _LIMIT_S)
        except _core.Unavailable:
            self._control = self._start(_program("opsplitd", self._programs))
        self._others = _core.Control(_core.default_socket(), _LIMIT_S)

    def _start(self, program: pathlib.Path) -> _core.Control:
        with tempfile.TemporaryFile() as log:
            # It ends by itself where this process is killed. In a session of its own, for Ctrl-C in a notebook or a
            # shell means what runs there. Our output may be a pipe, whose reader waits for all who hold it.
            self._process = subprocess.Popen(
                [program, "--exit-when-alone"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
            while True:
                try:
                    return _core.Control(_core.default_socket(), _LIMIT_S)
                except _core.Unavailable:
                    try:
                        self._process.wait(0.01)
                    except subprocess.TimeoutExpired:
                        continue
                    log.seek(0)
                    words = log.read().decode(errors="replace").strip()
                    raise _core.Unavailable(f"{program} did not start: {words}") from None

    def up(self, deployment: pathlib.Path) -> str:
        """Starts what a file describes, until this process ends at the latest; the name to ask it under."""
        with self._lock:
            name = next(self._names)
            target = {"path": str(deployment), "name": name, "split": "", "shapes": [], "attach": False}
            request = json.dumps({"op": "up", "temporary": True, **target})
            # Where they are slow, their arenas and the next ones would need another broker, with more memory.
            concurrent.futures.wait(self._ending, _CLOSE_LIMIT_S)
            try:
                self._control.call(request, _LIMIT_S)
            except _core.TimedOut:  # its reply would be taken for the next one's
                self._control = _core.Control(_core.default_socket(), _LIMIT_S)
                raise
            except _core.Unavailable:  # it has ended, and all of its temporary deployments with it
                self._connect()
                self._unused = []
                self._control.call(request, _LIMIT_S)
            # Only now, for the broker ends with the last of its deployments.
            unused, self._unused = self._unused, []
            self._ending = [
                self._downs.submit(self._others.call, json.dumps({"op": "down", "deployment": earlier}), _LIMIT_S)
                for earlier in unused
            ]
        return name

    def down(self, name: str) -> None:
        self._unused.append(name)

    def has_died(self) -> bool:
        """Else a client would wait for a slot until its time is over."""
        return self._control.hung_up()

    def has(self, name: str) -> bool:
        """Whether the deployment is still there: it ends with its opsplitd."""
        with self._lock:
            try:
                running = json.loads(self._control.call(json.dumps({"op": "ps"}), _LIMIT_S))["deployments"]
            except _core.Unavailable:
                return False
        return any(deployment["name"] == name for deployment in running)

    def broker(self) -> int:
        """Its process, which changes with each life of it."""
        with self._lock:
            return json.loads(self._control.call(json.dumps({"op": "ps"}), _LIMIT_S))["broker"]

    def close(self) -> None:
        self._downs.shutdown()
        if self._process is None:
            return
        try:
            running = json.loads(self._others.call(json.dumps({"op": "ps"}), _CLOSE_LIMIT_S))["deployments"]
        except _core.Error:
            running = []
        # Where it serves others by now, it ends with the last of them.
        if all(deployment["name"].startswith(self._prefix) for deployment in running):
            self._process.terminate()
            self._process.wait()


def _program(name: str, programs: pathlib.Path | None) -> pathlib.Path:
    found = shutil.which(name, path=programs)
    if found is None:
        raise FileNotFoundError(f"{name} is not in {programs or 'PATH'}: set opsplit.onnx_backend.Backend.programs")
    return pathlib.Path(found)


def _newer(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same for the oldest operator set that opsplit reads."""
    try:
        return version_converter.convert_version(model, _OLDEST_OPSET)
    except (RuntimeError, version_converter.ConvertError) as error:
        raise BackendIsNotSupposedToImplementIt(f"onnx.version_converter: {error}") from error


def _inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Those that are fed: what has an initializer is a constant."""
    constants = {initializer.name for initializer in graph.initializer}
    return [entry for entry in graph.input if entry.name not in constants]


def _planned_inputs(graph: onnx.GraphProto) -> set[str]:
    """What must be known before the model can be planned."""
    producers = {output: node for node in graph.node for output in node.output}
    wanted = [
        node.input[index]
        for node in graph.node
        for index in (range(1, 2) if node.op_type.startswith("Reduce") else _PLANNED.get(node.op_type, ()))
        if index < len(node.input)
    ]
    known: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in known:
            continue
        known.add(name)
        producer = producers.get(name)
        if producer is not None and producer.op_type not in ("Shape", "Size"):
            wanted.extend(producer.input)
    return known & {entry.name for entry in _inputs(graph)}


def _declare_shape(entry: onnx.ValueInfoProto, array: np.ndarray) -> None:
    """Sizes that the model leaves open are those of the array."""
    tensor = entry.type.tensor_type
    if not tensor.HasField("shape") or not all(dim.HasField("dim_value") for dim in tensor.shape.dim):
        tensor.shape.ClearField("dim")
        tensor.shape.dim.extend(onnx.TensorShapeProto.Dimension(dim_value=size) for size in array.shape)


class BackendRep(OnnxBackendRep):
    """A model; planned and started with the first inputs that it is run with, whose sizes decide on its own."""

    def __init__(self, daemon: _Daemon, model: onnx.ModelProto) -> None:
        self.daemon = daemon
        self._model = model
        self._names = [entry.name for entry in _inputs(model.graph)]
        self._planned = _planned_inputs(model.graph)
        self._key: Any = None  # what the deployment was planned for
        self._client: _client.Client | None = None
        self._deployment = ""
        self._down: weakref.finalize[Any, Any] | None = None

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The model's outputs; `inputs` are an array, a sequence of them in the model's order, or a mapping by name.

        Raises BackendIsNotSupposedToImplementIt for a model that opsplit refuses.
        """
        arrays = self._arrays(inputs)
        constants = {name: array for name, array in arrays.items() if name in self._planned}
        key = (
            {name: array.shape for name, array in arrays.items()},
            {name: (str(array.dtype), array.tobytes()) for name, array in constants.items()},
        )
        fed = {name: array for name, array in arrays.items() if name not in constants}
        if self._client is None or key != self._key or self.daemon.has_died():
            self._deploy(arrays, constants)
            self._key = key
        assert self._client is not None
        try:
            answer = self._client.infer(fed)
        except (_core.Unavailable, _core.EpochLost):
            if self.daemon.has(self._deployment):
                raise
            self._deploy(arrays, constants)  # opsplitd has died meanwhile: on another one, once
            answer = self._client.infer(fed)
        outputs = [entry.name for entry in self._model.graph.output]
        if not isinstance(answer, dict):
            answer = {outputs[0]: answer}
        return namedtupledict("Outputs", outputs)(*(answer[name] for name in outputs))

    def _arrays(self, inputs: Any) -> dict[str, np.ndarray]:
        if isinstance(inputs, np.ndarray):
            inputs = [inputs]
        if not isinstance(inputs, Mapping) and len(inputs) > len(self._names):
            takes = f"{len(self._names)}: {', '.join(self._names)}"
            raise _core.InvalidInput(f"{len(inputs)} inputs are given, the model takes {takes}")
        named = inputs if isinstance(inputs, Mapping) else dict(zip(self._names, inputs))
        arrays = {}
        for name, value in named.items():
            if not isinstance(value, (np.ndarray, np.generic, int, float)):
                raise BackendIsNotSupposedToImplementIt(f"input '{name}' is no tensor but {type(value).__name__}")
            arrays[name] = np.asarray(value)
        return arrays

    def _deploy(self, arrays: Mapping[str, np.ndarray], constants: Mapping[str, np.ndarray]) -> None:
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        for entry in _inputs(model.graph):
            if entry.name in constants:
                model.graph.initializer.append(numpy_helper.from_array(constants[entry.name], entry.name))
            elif entry.name in arrays:
                _declare_shape(entry, arrays[entry.name])
        if self._down is not None:
            self._down()
        self._client = None
        with tempfile.TemporaryDirectory(prefix="opsplit-") as name:
            folder = pathlib.Path(name)
            (folder / "model.onnx").write_bytes(model.SerializeToString())
            # Without a word on the backend, ONNX Runtime would run what opsplit has no kernels for.
            (folder / "model.yaml").write_text(
                "model: model.onnx\nsplit: fused\noperators:\n  fused: {backend: native}\n"
            )
            try:
                self._deployment = self.daemon.up(folder / "model.yaml")
            except (_core.InvalidInput, _core.Unsupported, _core.LimitExceeded) as error:
                text = str(error).removeprefix(f"{folder}/model.onnx: ")
                raise BackendIsNotSupposedToImplementIt(text) from error
        self._down = weakref.finalize(self, self.daemon.down, self._deployment)
        client = _client.connect(self._deployment)
        for spec in (*client.inputs, *client.outputs):
            if isinstance(spec.dtype, str):
                raise BackendIsNotSupposedToImplementIt(f"'{spec.name}' is {spec.dtype}, for which NumPy has no type")
        self._client = client


class Backend(OnnxBackend):
    """See the module's text."""

    programs: pathlib.Path | None = None  # the folder of opsplitd; None: PATH

    @staticmethod
    @functools.cache
    def _daemon(programs: pathlib.Path | None) -> _Daemon:
        return _Daemon(programs)

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> BackendRep:
        cls._check_device(device)
        super().prepare(model, device, **kwargs)  # checks the model
        if any(entry.domain in ("", "ai.onnx") and entry.version < _OLDEST_OPSET for entry in model.opset_import):
            model = _newer(model)
        return BackendRep(cls._daemon(cls.programs), model)

    @classmethod
    def run_node(
        cls, node: onnx.NodeProto, inputs: Any, device: str = "CPU", outputs_info: Any = None, **kwargs: Any
    ) -> tuple[Any, ...]:
        """Runs a model of this node alone, of the newest operator set that opsplit and the package onnx have, unless
        `opset_version` names another one."""
        cls._check_device(device)
        kwargs.setdefault("opset_version", min(_NEWEST_OPSET, onnx.defs.onnx_opset_version()))
        super().run_node(node, inputs, device, outputs_info, **kwargs)  # checks the node
        arrays = [np.asarray(value) for value in (inputs if isinstance(inputs, Sequence) else [inputs])]
        values = dict(zip((name for name in node.input if name), arrays))  # by name: Mul may take x and x
        fed = [
            onnx.helper.make_tensor_value_info(name, numpy_helper.from_array(array).data_type, array.shape)
            for name, array in values.items()
        ]
        outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name]
        graph = onnx.helper.make_graph([node], "node", fed, outputs)
        opset = onnx.helper.make_opsetid("", kwargs["opset_version"])
        model = onnx.helper.make_model(graph, opset_imports=[opset])
        return BackendRep(cls._daemon(cls.programs), model).run(values)

    @classmethod
    def _check_device(cls, device: str) -> None:
        if not cls.supports_device(device):
            raise BackendIsNotSupposedToImplementIt(f"device '{device}': opsplit computes on the CPU: prepare(model)")

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device == "CPU"


prepare = Backend.prepare
run_model = Backend.run_model
run_node = Backend.run_node
supports_device = Backend.supports_device
is_compatible = Backend.is_compatible
