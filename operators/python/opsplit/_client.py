"""The client: asks a deployment that runs."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np

from opsplit import _core
from opsplit._backend import TensorSpec

_MOST_SLOTS = 64  # of any deployment


def _array(tensor: _core.Tensor) -> Any:
    """The same memory for NumPy; the Tensor itself where NumPy does not have the type (bfloat16)."""
    return tensor if isinstance(tensor.dtype, str) else np.asarray(tensor)


class Request:
    """One inference, in place: a slot of the deployment, whose inputs are written and outputs read where they lie.

        with client.request() as request:
            request.inputs["image"][...] = image
            request.submit()
            request.wait(5)
            best = request.outputs["probabilities"].argmax()

    The slot is given back at the end of the block, or once nobody refers to an array of it any more, if that is later: copy
    what is to be kept. Not thread safe; several may be in flight on one thread or on many.
    """

    def __init__(self, client: Client, core: _core.Request) -> None:
        self._client = client
        self._core = core
        #: Arrays to be filled before submit(), by name. What is not written is sent as it lay there.
        self.inputs = {spec.name: _array(core.input(index)) for index, spec in enumerate(client.inputs)}
        #: Read-only arrays, by name, after wait().
        self.outputs: dict[str, Any] = {}

    def submit(self) -> None:
        """Sends it off. The arrays in `inputs` must not be written to afterwards."""
        self.inputs = {}
        self._core.submit()

    def ready(self) -> bool:
        """Whether wait() would return, or raise, at once."""
        return self._core.ready()

    def wait(self, timeout: float = 60.0) -> None:
        """Waits for the answer, so many seconds at the most. Raises TimedOut (it stays in flight: wait again, or close
        it), OperatorFailed or EpochLost. Other threads run meanwhile."""
        self._core.wait(timeout)
        self.outputs = {spec.name: _array(self._core.output(index)) for index, spec in enumerate(self._client.outputs)}

    @property
    def bytes_copied(self) -> int:
        """By the operators, for this request; after wait()."""
        return self._core.bytes_copied

    def close(self) -> None:
        """Gives the slot back; cancels what has not been answered."""
        self.inputs, self.outputs = {}, {}
        self._core.close()

    def __enter__(self) -> Request:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Client:
    """A connection to a deployment. Thread safe; many requests may be in flight."""

    def __init__(self, deployment: str, *, socket: str | None = None, timeout: float = 10.0) -> None:
        """`socket` is opsplitd's, by default where the commands find it; `timeout`, in seconds, is for connecting."""
        self.deployment = deployment
        self._core = _core.Client(deployment, socket or _core.default_socket(), timeout)
        self.inputs = tuple(TensorSpec(*spec) for spec in self._core.inputs)
        self.outputs = tuple(TensorSpec(*spec) for spec in self._core.outputs)
        self._threads: concurrent.futures.ThreadPoolExecutor | None = None

    def request(self, wait_for_slot: float = 60.0) -> Request:
        """A slot for a new request. Raises Unavailable if none is free for so many seconds."""
        return Request(self, self._core.begin(wait_for_slot))

    def infer(self, inputs: Any = None, /, *, timeout: float = 60.0, **named: Any) -> Any:
        """The answer: an array, or a dict of arrays by name where the deployment has several outputs.

        `inputs` is the array for the only input, or a mapping of arrays by name; they can be given as keywords as well.
        They must have the very dtype and shape that the deployment takes: else InvalidInput, and nothing is sent.
        `timeout`, in seconds, is for a free slot and for the answer.
        """
        arrays = self._arrays(inputs, named)
        with self.request(timeout) as request:
            for name, array in arrays.items():
                request.inputs[name][...] = array
            request.submit()
            request.wait(timeout)
            answer = {name: output.copy() for name, output in request.outputs.items()}
        return next(iter(answer.values())) if len(answer) == 1 else answer

    async def infer_async(self, inputs: Any = None, /, *, timeout: float = 60.0, **named: Any) -> Any:
        """The same for asyncio. Each request waits on a thread of its own, 64 at most. Who cancels it gets no answer; the
        request itself goes on."""
        if self._threads is None:
            self._threads = concurrent.futures.ThreadPoolExecutor(_MOST_SLOTS, "opsplit-client")
        ask = functools.partial(self.infer, inputs, timeout=timeout, **named)
        return await asyncio.get_running_loop().run_in_executor(self._threads, ask)

    def _arrays(self, inputs: Any, named: Mapping[str, Any]) -> dict[str, np.ndarray]:
        given = dict(named)
        if isinstance(inputs, Mapping):
            given.update(inputs)
        elif inputs is not None:
            if len(self.inputs) != 1:
                names = ", ".join(spec.name for spec in self.inputs)
                raise _core.InvalidInput(
                    f"deployment '{self.deployment}' has {len(self.inputs)} inputs: name them: {names}"
                )
            given[self.inputs[0].name] = inputs
        arrays = {}
        for spec in self.inputs:
            wanted = f"{spec.dtype} {'x'.join(map(str, spec.shape)) or 'scalar'}"
            if spec.name not in given:
                raise _core.InvalidInput(f"input '{spec.name}' ({wanted}) is missing")
            array = np.asarray(given.pop(spec.name))
            if array.dtype != spec.dtype or array.shape != spec.shape:
                got = f"{array.dtype} {'x'.join(map(str, array.shape)) or 'scalar'}"
                raise _core.InvalidInput(f"input '{spec.name}' is {got}, the deployment takes {wanted}")
            arrays[spec.name] = array
        if given:
            names = ", ".join(spec.name for spec in self.inputs)
            raise _core.InvalidInput(f"the model has no input '{next(iter(given))}', it has: {names}")
        return arrays


def connect(deployment: str, *, socket: str | None = None, timeout: float = 10.0) -> Client:
    """A Client of a deployment that runs. Raises NotFound, Unavailable (no opsplitd runs), Refused or TimedOut."""
    return Client(deployment, socket=socket, timeout=timeout)
